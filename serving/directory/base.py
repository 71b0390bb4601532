"""The directory's store: rows by kind and id, a version, and the history as a hash chain.

Blocking by design: callers off the event loop's thread only.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from serving.directory import chain
from serving.directory.chain import Entry
from serving.directory.commands import Change
from serving.directory.values import Document, Event
from serving.errors import OwnError

ENTRIES_MAX = 100_000
"""In one reading of the history."""
encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode


class DirectoryAway(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now; nothing of a failed change was stored."""

    def __init__(self, message: str) -> None:
        super().__init__("internal_error", message)


class VersionConflict(Exception):  # noqa: N818 - a state
    """Somebody else changed the directory meanwhile: read it again and decide again."""


class DirectoryStore(Protocol):
    """Every method raises DirectoryAway when the store is away."""

    def version(self) -> int:
        """Number of the last change; 0 before the first. Cheap: asked several times a second."""
        ...

    def read(self) -> tuple[int, list[Document]]:
        """The version and all rows as they stand at it."""
        ...

    def commit(self, expected: int, change: Change) -> int:
        """Store a change that was decided on version `expected`, rows and history in one
        transaction; the new version. Raises VersionConflict."""
        ...

    def history(self, after: int = 0, limit: int = ENTRIES_MAX) -> list[Entry]:
        """Entries with a number above `after`, in order."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...


def next_entry(number: int, before: bytes, event: Event) -> Entry:
    """The history's entry `number`; a store writes it and computes nothing itself."""
    data = encode_event(event)
    return Entry(number, data, chain.link(before, number, data))
