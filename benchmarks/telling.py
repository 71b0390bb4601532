"""Sentences with a code (`models.worded`), told in the reader's language. The catalogue of
`ballast` lies above this package; this one (`messages.yaml`) has its form, and a test holds it to
the same rules. What is made in lower layers is told from their own (`models/reasons`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.load.wording import WORDS, Language, word
from models import wordbook
from models.worded import Worded

NOTES, NOTED = ("inexact", "billed"), ("note.", "target.")
"""What results keep as sentences: of the words of the report, and of the catalogue."""
FILE = Path(__file__).parent / "messages.yaml"


def tell(said: str, language: Language) -> str:
    """A sentence by its code, any other text as it is."""
    if language == "en" or not isinstance(said, Worded):
        return said
    entry = said_by_code().get(said.code) or wordbook.reasons().get(said.code)
    if entry is None and said.code in WORDS:
        entry = {language: word(said.code, language)}
    if entry is None:  # what no catalogue has is English
        return said
    values = {name: _told(value, language) for name, value in said.values.items()}
    return entry[language].format_map(values)


@cache
def said_by_code() -> Mapping[str, Mapping[str, str]]:
    """Every sentence, `{zh, en}`, by its code."""
    tree = yaml.safe_load(FILE.read_text("utf-8"))
    return {f"{group}.{key}": row for group, rows in tree["said"].items()
            for key, row in rows.items()}  # fmt: skip


@cache
def help_texts() -> Mapping[str, str]:
    """Help of flags and commands: the Chinese one by the English one, as the code has it."""
    return _rows("help")


@cache
def criteria() -> Mapping[str, str]:
    """What drills ask, the same way."""
    return _rows("criteria")


@cache
def refusals() -> Mapping[str, str]:
    """What the library's parser of flags refuses with: its own templates, values in braces."""
    return _rows("flags")


def refused(message: str, language: Language) -> str:
    """A refusal of that parser; one that is not known, or is ours, as it is."""
    for en, zh in refusals().items() if language == "zh" else ():
        if found := _pattern(en).fullmatch(message):
            return zh.format_map({name: refused(value, language)
                                  for name, value in found.groupdict().items()})  # fmt: skip
    return message


def noted(said: str, language: Language) -> str:
    """A note of a result, which is kept in English, by the sentence it is; else as it stands."""
    for en, zh in _notes() if language == "zh" else ():
        if found := en.fullmatch(said):
            values = {name: noted(value, language) for name, value in found.groupdict().items()}
            return zh.format_map(values)
    return said


@cache
def _notes() -> list[tuple[re.Pattern[str], str]]:
    """(what an English note looks like, the Chinese one)."""
    rows = [WORDS[key] for key in NOTES]
    rows += [(row["en"], row["zh"]) for code, row in said_by_code().items()
             if code.startswith(NOTED)]  # fmt: skip
    return [(_pattern(en), zh) for en, zh in rows]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(template)), re.DOTALL)


def _rows(group: str) -> Mapping[str, str]:
    return {row["en"]: row["zh"] for row in yaml.safe_load(FILE.read_text("utf-8"))[group]}


def _told(value: Any, language: Language) -> Any:
    if isinstance(value, str):
        return tell(value, language)
    if isinstance(value, list | tuple):
        return "、".join(str(_told(one, language)) for one in value)
    return value
