"""One flag of vLLM's command line, one variable of its environment, each with its reason. Values.

A flag is known by its name without `no-`: who says `--no-enable-x` after `--enable-x` has changed
his mind, and the later one stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeAlias

import msgspec
from pydantic import AfterValidator


class Flag(msgspec.Struct, frozen=True):
    """One flag."""

    name: str
    """With its two dashes."""
    value: str | None
    """None for a switch."""
    reason: str

    @property
    def words(self) -> tuple[str, ...]:
        """As on the command line."""
        return (self.name,) if self.value is None else (self.name, self.value)


class Variable(msgspec.Struct, frozen=True):
    """One environment variable."""

    name: str
    value: str
    reason: str


def pairs(words: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Names and values of `--a --b 1 --c=2`. Raises ValueError for a word of no flag."""
    name: str | None = None
    for word in words:
        if not word.startswith("--"):
            if name is None:
                raise ValueError(f"{word!r} follows no flag")
            yield name, word
            name = None
            continue
        if name is not None:
            yield name, None
        name, equals, value = word.partition("=")
        if equals:
            yield name, value
            name = None
    if name is not None:
        yield name, None


def collect(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Each flag once, where it was first said and as it was last said."""
    found: dict[str, Flag] = {}
    for flag in flags:
        found[plain(flag.name)] = flag
    return tuple(found.values())


def plain(name: str) -> str:
    """The name that a switch and its negation share."""
    return name.replace("--no-", "--", 1)


def compact(value: Any) -> str:
    """JSON as a flag's value."""
    return json.dumps(value, separators=(",", ":"))


def _are_flags(words: tuple[str, ...]) -> tuple[str, ...]:
    for _ in pairs(words):
        pass
    return words


Arguments: TypeAlias = Annotated[tuple[str, ...], AfterValidator(_are_flags)]
"""Words of a command line, as a card states them."""
