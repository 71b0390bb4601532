"""What was journalled since the last drain, still as records, so that it need not be read back.

A copy of convenience: the file is the record. What is not here (nobody drains, the bounds were
reached, another life wrote it) is read from there, so forgetting is always safe. Owned by the event
loop's thread, as the journal is; what `take` returned belongs to the caller.
"""

from __future__ import annotations

from serving.rows import Record

BATCH_RECORDS_MAX = 4_096
"""One transaction's worth; sorting it out takes the interpreter about a millisecond."""
BATCH_BYTES_MAX = 1 << 20
"""Of frames, before the last one; what bounds records with long names."""
BATCHES_MAX = 8
"""Some 11,000 requests, five seconds of 2,000 a second: about 15 MB."""


class Batch:
    """Consecutive whole frames of one segment: all records between two offsets, in order."""

    __slots__ = ("begin_bytes", "end_bytes", "full_bytes", "records", "sequence")

    def __init__(self, sequence: int, begin_bytes: int) -> None:
        self.sequence = sequence
        self.begin_bytes = begin_bytes
        self.end_bytes = begin_bytes
        self.full_bytes = begin_bytes + BATCH_BYTES_MAX
        self.records: list[Record] = []


_NONE = Batch(-1, -1)
"""No frame follows it."""


class Held:
    """The batches between two drains; none until `start`."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._batches: list[Batch] = []
        self._last = _NONE

    def start(self) -> None:
        """Hold from now on: somebody takes regularly."""
        self._is_wanted = True

    def stop(self) -> None:
        """Drop what is held, and hold no more."""
        self._is_wanted = False
        self.take()

    def add(
        self, sequence: int, begin_bytes: int, end_bytes: int, records: tuple[Record, ...]
    ) -> None:
        """A frame was written there. When all batches are full it is not kept."""
        batch = self._last
        if (
            batch.end_bytes != begin_bytes
            or batch.sequence != sequence
            or begin_bytes >= batch.full_bytes
            or len(batch.records) >= BATCH_RECORDS_MAX
        ):
            if not self._is_wanted or len(self._batches) >= BATCHES_MAX:
                return
            batch = self._last = Batch(sequence, begin_bytes)
            self._batches.append(batch)
        batch.records += records
        batch.end_bytes = end_bytes

    def take(self) -> list[Batch]:
        """All that is held, in the order of writing; nothing is held afterwards."""
        taken, self._batches = self._batches, []
        self._last = _NONE
        return taken
