"""Tells of a whole text, in one pass, whether it holds anything that a pattern describes. Pure.

The engine is Rust's `regex`, as pydantic carries it: an automaton whose time does not grow with the
alternatives, for which `re` tries each one at each place. It says yes or no and nothing more, so it
stands before rules that know the place: a text it clears need not be read by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import ConfigDict, StringConstraints, TypeAdapter

Glance = Callable[[str], bool]
_ENGINE = ConfigDict(regex_engine="rust-regex")


def glance(pattern: str) -> Glance:
    """Whether a text holds what `pattern` describes, in the syntax of Rust's `regex`. A text that
    is no UTF-8 (a lone surrogate) holds nothing, to this: whoever asks has encoded it before.
    Raises SchemaError for a pattern that is none or too large."""
    kind = Annotated[str, StringConstraints(pattern=pattern)]
    holds: Glance = TypeAdapter(kind, config=_ENGINE).validator.isinstance_python
    return holds


def is_encodable(text: str) -> bool:
    """Whether a text is UTF-8: what a glance can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
