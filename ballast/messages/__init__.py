"""What people read, in Chinese and English: one catalogue, the YAML files beside this one.

A file `NAME.yaml` holds `key: {zh: ..., en: ...}`, groups of keys nested as deep as they need; a
key's full name begins with its file's, so `status.yaml` holds `status.fleet`. Values stand in
braces by name (`{count}`), in both languages the same ones. `tests/unit/test_messages.py` refuses a
key without both languages, one that nothing uses, and one that is used and not there; the reader
(`models.wordbook`) one that a file has twice. Sentences that are made below the command line have
files of their own beside what makes them, `models/reasons`.

What machines read (`--json`, logs, the rows of the ledger) stays as it is: English, whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, Self, cast, get_args

from ballast.messages.chosen import Language, spoken
from models import wordbook
from models.worded import Worded

__all__ = [
    "FOLDER",
    "LANGUAGES",
    "Language",
    "Said",
    "Words",
    "named",
    "say",
    "tell",
    "text",
    "words",
]
FOLDER = Path(__file__).parent
LANGUAGES: tuple[Language, ...] = get_args(Language)
Entry = Mapping[Literal["zh", "en"], str]


class Words(Protocol):
    """`text` of one language, to hand down."""

    def __call__(self, key: str, /, **values: object) -> str:
        """The message in that language."""
        ...


class Said(str):
    """A message whose language is chosen later, where it is shown; as a string it is English.

    So a rule may find a fault, and a problem may be raised, without knowing who will read it; and
    logs and JSON, which take it as a string (`str(...)`), are the same for everybody.
    """

    __slots__ = ("key", "values")
    key: str
    values: Mapping[str, object]

    def __new__(cls, key: str, /, **values: object) -> Self:
        """The message in English, which remembers what it was made of."""
        made = super().__new__(cls, text(key, "en", **values))
        made.key, made.values = key, values
        return made

    def told(self, language: Language) -> str:
        """In that language, and so each message among its values."""
        return text(self.key, language, **self.values)


def text(key: str, language: Language, /, **values: object) -> str:
    """A message with its values filled in. Raises KeyError for an unknown key or a missing value:
    both are our own faults, and a test looks for the first."""
    entry = entries(key.partition(".")[0])[key]
    return entry[language].format_map({n: told(v, language) for n, v in values.items()})


def say(key: str, /, **values: object) -> str:
    """A message as this run speaks; for the rims (commands), which show it at once."""
    return text(key, spoken(), **values)


def words(language: Language) -> Words:
    """`text` of one language."""
    return cast(Words, lambda key, /, **values: text(key, language, **values))


def named(group: str, name: str, language: Language) -> str:
    """The message `name` of a group, such as an outcome in words; what the catalogue does not know
    is given back as it is, so that a word of a newer gateway is odd to read and never lost."""
    found = entries(group.partition(".")[0]).get(f"{group}.{name}")
    return found[language] if found is not None else name


def tell(text: str, language: Language) -> str:
    """A text as it is shown: a message in the language, a sentence from below by its code, any
    other as it is."""
    if isinstance(text, Said):
        return text.told(language)
    return _worded(text, language) if isinstance(text, Worded) else text


def told(value: object, language: Language) -> object:
    """A value as it is shown: a message in the language, several with that language's comma."""
    if isinstance(value, str):
        return tell(value, language)
    if isinstance(value, tuple | list):
        comma = "、" if language == "zh" else ", "
        return comma.join(str(told(one, language)) for one in value)
    return value


def _worded(said: Worded, language: Language) -> str:
    # What the catalogue does not know, such as the words of a library, is shown as it is.
    entry = wordbook.reasons().get(said.code)
    if entry is None:
        return str(said)
    return entry[language].format_map({n: told(v, language) for n, v in said.values.items()})


@cache
def entries(name: str) -> Mapping[str, Entry]:
    """All messages of one file by full key; `reasons` is those of several files. Raises KeyError
    where there is no such file, BookError for one with a key twice."""
    if name == "reasons":
        return {f"reasons.{c}": cast(Entry, entry) for c, entry in wordbook.reasons().items()}
    path = FOLDER / f"{name}.yaml"
    try:
        return {f"{name}.{key}": cast(Entry, entry) for key, entry in wordbook.entries(path)}
    except FileNotFoundError:
        raise KeyError(f"no messages {name!r}: {path.name} is not there") from None


@cache
def help_texts() -> Mapping[str, str]:
    """Help texts: the Chinese one by the English one, as the code has it. Raises BookError."""
    rows = wordbook.read(FOLDER / "help" / "texts.yaml")
    found = {row["en"]: row["zh"] for row in rows}
    if len(found) < len(rows):
        known = [row["en"] for row in rows]
        twice = next(one for one in known if known.count(one) > 1)
        raise wordbook.BookError(f"help/texts.yaml: twice: {twice!r}")
    return found
