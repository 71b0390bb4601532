"""Sentences with a code (`models.worded`), told in the reader's language. The catalogue of
`ballast` lies above this package; this one (`messages.yaml`) has its form, and a test holds it to
the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.load.wording import Language
from models.worded import Worded

FILE = Path(__file__).parent / "messages.yaml"


def tell(said: str, language: Language) -> str:
    """A sentence by its code, any other text as it is."""
    if language == "en" or not isinstance(said, Worded):
        return said
    entry = said_by_code().get(said.code)
    if entry is None:  # of a lower layer: its catalogue is the command line's
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
    return {row["en"]: row["zh"] for row in yaml.safe_load(FILE.read_text("utf-8"))["help"]}


def _told(value: Any, language: Language) -> Any:
    if isinstance(value, str):
        return tell(value, language)
    if isinstance(value, list | tuple):
        return "、".join(str(_told(one, language)) for one in value)
    return value
