"""`Idempotency-Key`: a retry is neither served nor billed twice. Pure; time is an argument.

Per key and body for ten minutes, bounded in bytes: in flight, ended (replayed), another body
(refused), or ended in an earlier life of this process (known from the ledger, not replayable).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TypeAlias

import msgspec

from serving.records import Usage


class Answer(msgspec.Struct, frozen=True):
    """A whole answer as it was sent."""

    status: int
    head: bytes
    body: bytes
    is_stream: bool
    usage: Usage = Usage()


class Served(msgspec.Struct, frozen=True):
    """Answered, but the answer is not kept (restart, size); only its usage is known."""

    usage: Usage


class InFlight(msgspec.Struct, frozen=True):
    """The first try is still running."""


class Mismatch(msgspec.Struct, frozen=True):
    """The same key came with another body."""


Found: TypeAlias = Answer | Served | InFlight | Mismatch
_Entry: TypeAlias = tuple[str, float, Answer | Served | InFlight]
_RUNNING = InFlight()


ENTRIES_MAX = 100_000
"""Some 30 MB. Beyond it the oldest ended keys are forgotten before their time."""


class Idempotency:
    """What was asked under which key."""

    def __init__(self, ttl_s: float, bytes_max: int, entries_max: int = ENTRIES_MAX) -> None:
        self._ttl_s = ttl_s
        self._bytes_max = bytes_max
        self._entries_max = entries_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._whole: OrderedDict[str, None] = OrderedDict()
        """Keys whose answer can be replayed, oldest first."""
        self.bytes = 0

    def begin(self, key: str, body_hash: str, now_s: float) -> Found | None:
        """What is known of this key; None means: yours to run, and to `finish` or `abandon`."""
        self._expire(now_s)
        entry = self._entries.get(key)
        if entry is None or self._drop_if_old(key, entry, now_s):
            self._entries[key] = (body_hash, now_s, _RUNNING)
            if len(self._entries) > self._entries_max:
                self._crowded()
            return None
        return entry[2] if entry[0] == body_hash else Mismatch()

    def finish(self, key: str, answer: Answer | Served, now_s: float) -> None:
        """Keep the answer for replays; when space runs out only that the oldest were served."""
        body_hash, _, _ = self._entries.pop(key)
        if isinstance(answer, Answer):
            size = len(answer.body) + len(answer.head)
            if size > self._bytes_max // 4:
                answer = Served(answer.usage)
            else:
                self.bytes += size
                self._whole[key] = None
        self._entries[key] = (body_hash, now_s, answer)
        if self.bytes > self._bytes_max:
            self._shrink()

    def abandon(self, key: str) -> None:
        """The try ended without an answer: the next one runs."""
        self._entries.pop(key, None)

    def remember(self, key: str, body_hash: str, usage: Usage, now_s: float) -> None:
        """An answer of an earlier life; what this life knows of the key stands."""
        if len(self._entries) < self._entries_max:
            self._entries.setdefault(key, (body_hash, now_s, Served(usage)))

    def _shrink(self) -> None:
        while self.bytes > self._bytes_max:
            key, _ = self._whole.popitem(last=False)
            body_hash, at_s, what = self._entries[key]
            assert isinstance(what, Answer)
            self.bytes -= len(what.body) + len(what.head)
            self._entries[key] = (body_hash, at_s, Served(what.usage))

    def _crowded(self) -> None:
        """Forget the oldest that ended. Those that run are as many as there are connections."""
        for key, entry in list(itertools.islice(self._entries.items(), 8)):
            if entry[2] is _RUNNING:
                self._entries.move_to_end(key)
            else:
                self._drop(key)
                return

    def _expire(self, now_s: float) -> None:
        oldest = list(itertools.islice(self._entries.items(), 8))
        for key, entry in oldest:
            if entry[2] is _RUNNING:
                # Young in its own way: it must not keep what lies behind it from expiring.
                self._entries.move_to_end(key)
            else:
                self._drop_if_old(key, entry, now_s)

    def _drop_if_old(self, key: str, entry: _Entry, now_s: float) -> bool:
        if entry[2] is _RUNNING or entry[1] + self._ttl_s >= now_s:
            return False
        self._drop(key)
        return True

    def _drop(self, key: str) -> None:
        what = self._entries.pop(key)[2]
        if isinstance(what, Answer):
            self.bytes -= len(what.body) + len(what.head)
            del self._whole[key]
