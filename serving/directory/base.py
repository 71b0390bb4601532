"""The directory's store: rows by kind and id, a version, and the history as a hash chain.

Blocking by design: callers off the event loop's thread only.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from serving.directory import chain
from serving.directory.chain import GENESIS, Entry
from serving.directory.changes import Change
from serving.directory.values import Document, Event
from serving.errors import OwnError

ENTRIES_MAX = 100_000
"""In one reading of the history."""
encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode


class DirectoryAway(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now; nothing of a failed change was stored."""

    def __init__(self, message: str) -> None:
        super().__init__("directory_away", message)


class VersionConflict(Exception):  # noqa: N818 - a state
    """Somebody else changed the directory meanwhile: read it again and decide again."""


class Head(NamedTuple):
    """The last change. The hash tells two histories apart that a fail-over made equally long."""

    number: int
    """The directory's version; 0 before the first change."""
    hash: bytes


EMPTY = Head(0, GENESIS)


class DirectoryStore(Protocol):
    """Every method raises DirectoryAway when the store is away."""

    def head(self) -> Head:
        """The last change. Cheap: asked several times a second."""
        ...

    def read(self) -> tuple[Head, list[Document]]:
        """The last change and all rows as they stand after it."""
        ...

    def commit(self, expected: Head, change: Change) -> Head:
        """Store a change that was decided on the state after `expected`, rows and history in one
        transaction. Raises VersionConflict."""
        ...

    def history(self, after: int = 0, limit: int = ENTRIES_MAX) -> list[Entry]:
        """Entries with a number above `after`, in order."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...


def next_entry(head: Head, event: Event) -> Entry:
    """The history's entry after `head`; a store writes it and computes nothing itself."""
    number, data = head.number + 1, encode_event(event)
    return Entry(number, data, chain.link(head.hash, number, data))
