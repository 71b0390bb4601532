"""Whether the record of what left is whole: chains against themselves and against the anchor. Pure.

An edit or deletion breaks a chain; a chain written anew, or cut off at its end, no longer holds the
entries that a checkpoint saw; a forged checkpoint has no signature; a missing one leaves a gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from serving.audit import sign
from serving.audit.values import Chained, Signed
from serving.directory.chain import BREAKS_MAX, Entry, Examination
from serving.ledger.chained import intent_of

FAULTS_MAX = 1000
STALE_TURNS = 3


class Fault(NamedTuple):
    """One thing that does not hold."""

    writer: str
    """Whose chain; `anchor` for the checkpoints, `intents` for the table that is listed from."""
    number: int
    what: str


class Anchored:
    """Takes the checkpoints in order; then knows which entries each chain must hold."""

    def __init__(self, public: bytes) -> None:
        self._public = public
        self._key = sign.fingerprint(public)
        self._before = ""
        self._is_cut = False
        self.count = 0
        self.first_ms = self.last_ms = 0
        self.faults: list[Fault] = []
        self.seen: dict[str, dict[int, bytes]] = {}
        """By writer: number and hash of each entry that a checkpoint saw."""
        self.marks: dict[int, str] = {}
        """Digest of each checkpoint."""

    def take(self, checkpoint: Signed) -> None:
        """The next one."""
        if checkpoint.number != self.count + 1:
            self._fault(checkpoint.number, f"checkpoint {self.count + 1} is missing")
        elif checkpoint.before != self._before:
            self._fault(checkpoint.number, "it does not follow the one before")
        if checkpoint.key != self._key:
            self._fault(checkpoint.number, f"signed by another key ({checkpoint.key[:64]})")
        elif not self._is_signed(checkpoint):
            self._fault(checkpoint.number, "its signature does not hold")
        else:
            for writer, number, mark in checkpoint.heads:
                self.seen.setdefault(writer, {})[number] = _bytes(mark)
        self.count, self._before = checkpoint.number, sign.digest(checkpoint)
        self.marks[checkpoint.number] = self._before
        self.first_ms = self.first_ms or checkpoint.at_ms
        self.last_ms = checkpoint.at_ms

    def compare(self, other: Signed, where: str) -> bool:
        """Whether a checkpoint that is kept elsewhere too, `where`, is as it was taken; come after
        all of `take`, oldest first. One that is missing here counts as if it were there, so that
        what it saw is looked for."""
        own = self.marks.get(other.number)
        if own == sign.digest(other):
            return True
        if own is not None:
            self._fault(other.number, f"{where} holds another one of this number")
        elif other.number < self.count:
            self._fault(other.number, f"{where} holds it, and here it is gone")
        else:
            if not self._is_cut:
                self._fault(other.number, f"{where} holds it, and here it is gone: cut off")
            self._is_cut = True
            self.take(other)
        return False

    def _is_signed(self, checkpoint: Signed) -> bool:
        return sign.holds(self._public, sign.covered(checkpoint), _bytes(checkpoint.signature))

    def _fault(self, number: int, what: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault("anchor", number, what))


class Chain:
    """Takes one writer's chain page by page."""

    def __init__(self, writer: str, seen: dict[int, bytes]) -> None:
        self._writer = writer
        self._seen = seen
        self._examination = Examination()
        self._found: list[Fault] = []
        self._met: set[int] = set()

    @property
    def number(self) -> int:
        """Of the last entry taken."""
        return self._examination.number

    def take(self, entries: list[Entry]) -> None:
        """The next page."""
        self._examination.take(entries)
        for entry in entries:
            expected = self._seen.get(entry.number)
            if expected is not None:
                self._met.add(entry.number)
                if expected != entry.hash:
                    what = "differs from what a checkpoint saw: the chain was written anew"
                    self._found.append(Fault(self._writer, entry.number, what))

    def faults(self) -> list[Fault]:
        """What does not hold, once all was taken."""
        broken = [Fault(self._writer, b.number, b.what) for b in self._examination.breaks()]
        gone = sorted(self._seen.keys() - self._met)
        if gone:
            what = "a checkpoint saw this entry, and it is gone: the chain was cut off"
            broken.append(Fault(self._writer, gone[-1], what))
        return [*broken, *self._found][:BREAKS_MAX]


def differing(page: Iterable[Chained], writer: str) -> list[Fault]:
    """Entries whose row in the table that is listed from says something else, or is gone."""
    found = []
    for entry, row in page:
        try:
            intent = intent_of(entry.data)
        except msgspec.DecodeError:
            found.append(Fault(writer, entry.number, "cannot be read"))
            continue
        if row is None:
            found.append(Fault("intents", entry.number, f"the row of {intent.request_id} is gone"))
        elif row != intent:
            what = f"the row of {intent.request_id} differs from what its chain holds"
            found.append(Fault("intents", entry.number, what))
    return found


def stale(last: tuple[int, int], now_ms: int, every_s: float) -> list[Fault]:
    """The last checkpoint, by number and time, is older than three turns: nobody signs. One is made
    every second turn though nothing moves. 0 for `now_ms` asks nothing."""
    number, last_ms = last
    if not now_ms or not number or now_ms - last_ms <= STALE_TURNS * every_s * 1e3:
        return []
    age_s = (now_ms - last_ms) // 1000
    what = f"the last checkpoint is {age_s} s old, one is due every {every_s:g} s: nobody signs"
    return [Fault("anchor", number, what)]


def stray(count: int, latest_ms: int, since_ms: int) -> list[Fault]:
    """Rows on no chain: those from before chains were kept are none's fault."""
    if not count or latest_ms < since_ms or not since_ms:
        return []
    what = f"{count} rows stand on no chain, the latest from after the first checkpoint"
    return [Fault("intents", 0, what)]


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
