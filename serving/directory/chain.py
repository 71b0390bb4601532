"""A hash chain over the history, so that an edit, a deletion or another order shows. Pure.

Each entry's hash covers its number, its bytes and the hash before it (SHA-256). Cutting off the end
shows only against a hash kept elsewhere: whoever reads a head should keep it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

GENESIS = bytes(32)
BREAKS_MAX = 100
"""Reported; a chain written anew from its start would tell of every entry."""


class Entry(NamedTuple):
    """One link."""

    number: int
    """From 1, without gaps."""
    data: bytes
    hash: bytes


class Break(NamedTuple):
    """Where a chain does not hold."""

    number: int
    what: str


def link(before: bytes, number: int, data: bytes) -> bytes:
    """The hash of entry `number` that follows one with the hash `before`."""
    return hashlib.sha256(before + number.to_bytes(8, "big") + data).digest()


class Examination:
    """Takes a chain from its start, page by page. `kept` is the number and hash of an entry as
    somebody saw it before: a chain cut off or written anew shows."""

    def __init__(self, kept: tuple[int, bytes] | None = None) -> None:
        self._kept = kept
        self._seen: bytes | None = None
        self._found: list[Break] = []
        self.number, self.hash = 0, GENESIS
        """Of the last entry taken."""

    def take(self, entries: Iterable[Entry]) -> None:
        """The next entries, in the order they are stored in."""
        for entry in entries:
            if entry.number != self.number + 1:
                what = f"entry {self.number + 1} is missing or out of order"
                self._found.append(Break(self.number + 1, what))
            elif link(self.hash, entry.number, entry.data) != entry.hash:
                self._found.append(Break(entry.number, f"entry {entry.number} was changed"))
            if self._kept is not None and entry.number == self._kept[0]:
                self._seen = entry.hash
            self.number, self.hash = entry.number, entry.hash
            del self._found[BREAKS_MAX:]

    def breaks(self) -> list[Break]:
        """What is wrong with what was taken, at most `BREAKS_MAX` and the kept head's."""
        if self._kept is None or self._seen == self._kept[1]:
            return self._found
        number = self._kept[0]
        what = "is cut off before it" if self._seen is None else "has another hash there"
        return [*self._found, Break(number, f"the chain {what}: entry {number} was seen before")]


def breaks(entries: Iterable[Entry], kept: tuple[int, bytes] | None = None) -> list[Break]:
    """Everything wrong with a whole chain."""
    examination = Examination(kept)
    examination.take(entries)
    return examination.breaks()
