"""A hash chain over the history, so that an edit, a deletion or another order shows. Pure.

Each entry's hash covers its number, its bytes and the hash before it (SHA-256). Cutting off the end
shows only against a hash kept elsewhere: whoever reads a head should keep it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

GENESIS = bytes(32)


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


def breaks(entries: Iterable[Entry], head: tuple[int, bytes] | None = None) -> list[Break]:
    """Everything wrong with a chain read from its start. `head` is the number and hash of its end
    as somebody kept it: a chain cut off before it shows."""
    found: list[Break] = []
    before, expected = GENESIS, 1
    kept: bytes | None = None
    for entry in entries:
        if entry.number != expected:
            found.append(Break(expected, f"entry {expected} is missing or out of order"))
        elif link(before, entry.number, entry.data) != entry.hash:
            found.append(Break(entry.number, f"entry {entry.number} was changed"))
        if head is not None and entry.number == head[0]:
            kept = entry.hash
        before, expected = entry.hash, entry.number + 1
    if head is not None and kept != head[1]:
        what = "is cut off before it" if kept is None else "has another hash there"
        found.append(Break(head[0], f"the chain {what}: entry {head[0]} was seen before"))
    return found
