"""Moves the living journal into the ledger, each second and before exit.

A ledger that is away stops nothing: the position stays, the next tick tries again, and `lag_bytes`
and `last_error` tell. Rows and position are one transaction, so each frame takes effect once.

Once started, records come from memory where the journal still holds them and from its file where it
does not; either way the position moves over the same bytes. A tick that fails drops what it was
handed: the next reads it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.journal import Journal
from serving.ledger.base import Ledger, LedgerUnavailable, Position
from serving.ledger.frames import Frames, Stop
from serving.ledger.held import Batch
from serving.ledger.recover import Recovered, read, recover
from serving.ledger.segments import Segment, put_aside, segments
from serving.watched import watch

EXIT_RETRY_S = 0.5
"""Between two tries at the exit."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Drainer:
    """Owns the task that drains and the one thread in which the ledger is called."""

    def __init__(
        self, journal: Journal, ledger: Ledger, drain_s: float, exit_wait_s: float = 0.0
    ) -> None:
        self._journal = journal
        self._ledger = ledger
        self._drain_s = drain_s
        self._exit_wait_s = exit_wait_s
        self._position: Position | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-ledger")
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lag_bytes = 0
        """Journalled and not in the ledger at the last tick."""
        self.last_error = ""
        """Why the last tick failed; empty when it did not."""
        self.corrupt_segments = 0
        """Put aside, by recovery too."""
        self.on_death: Callable[[], None] = lambda: None
        """Called when the draining task died of something it does not know."""

    async def recover(self, now_ms: int) -> Recovered:
        """`recover.recover` for this journal's neighbours, in the ledger's thread."""
        found = await self.ask(lambda: recover(self._journal, self._ledger, now_ms))
        self.corrupt_segments += found.corrupt
        return found

    def start(self) -> None:
        """Begin to drain each `drain_s`."""
        self._journal.held.start()
        self._task = asyncio.create_task(self._run(), name="journal-drain")
        watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Drain the rest and stop the thread. What the ledger refuses for `exit_wait_s` waits for
        the next start, and so does all when the task died: it would die of the same again."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait((self._task,))
        if self._task is None or (not self._task.cancelled() and self._task.exception() is None):
            await self._drain_the_rest()
        self._journal.held.stop()
        self._thread.shutdown()

    async def ask(self, question: Callable[[], _T]) -> _T:
        """Run a blocking call on the ledger in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def drain(self) -> None:
        """One tick: end a full state if space is back, then apply all that is written by now."""
        self._journal.probe()
        tail = self._journal.tail
        held = deque(self._journal.held.take())
        try:
            is_stuck = await self.ask(lambda: self._drain_to(tail, held))
        except (LedgerUnavailable, OSError) as error:
            if not self.last_error:
                _log.warning("ledger_unavailable", extra={"error": str(error)})
            self.last_error = str(error)
        else:
            if self.last_error:
                _log.info("ledger_available")
            self.last_error = ""
            if is_stuck:
                self._journal.rotate()  # a closed segment can be put aside

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_s):
                    await self._stopping.wait()

    async def _drain_the_rest(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._exit_wait_s
        await self.drain()
        while self.last_error and (left_s := until_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, EXIT_RETRY_S))
            await self.drain()

    def _drain_to(self, tail: Position, held: deque[Batch]) -> bool:
        """Apply everything before `tail`. True when the segment being written is damaged."""
        life = self._journal.life
        if self._position is None:
            self._position = self._ledger.position(life) or Position(life, 0, 0)
        mine = [s for s in segments(self._journal.folder) if s.life == life]
        ends = [
            (s, tail.offset_bytes if s.sequence == tail.sequence else s.path.stat().st_size)
            for s in mine
            if s.sequence <= tail.sequence
        ]
        try:
            stuck = [self._segment(segment, end, tail, held) for segment, end in ends]
            return any(stuck)
        finally:
            self.lag_bytes = sum(end - self._read_to(segment, end) for segment, end in ends)

    def _read_to(self, segment: Segment, end: int) -> int:
        """How much of the segment is in the ledger."""
        assert self._position is not None
        if segment.sequence == self._position.sequence:
            return self._position.offset_bytes
        return 0 if segment.sequence > self._position.sequence else end

    def _segment(self, segment: Segment, end: int, tail: Position, held: deque[Batch]) -> bool:
        """Apply one segment up to `end`; delete it once it is closed. True when stuck in it."""
        is_closed = segment.sequence < tail.sequence
        at = self._read_to(segment, end)
        while at < end:
            found = _slice(segment, at, end, held)
            if found.good_bytes == 0:
                if is_closed and found.stop is Stop.END:
                    break  # preallocated, could not be cut off
                return self._damaged(segment, is_closed)
            at += found.good_bytes
            position = Position(segment.life, segment.sequence, at)
            self._ledger.apply(found.records, position)
            self._position = position
        if is_closed:
            segment.path.unlink()
        return False

    def _damaged(self, segment: Segment, is_closed: bool) -> bool:
        """Put a closed segment aside; the one being written must be closed first."""
        if not is_closed:
            return True
        _log.error("journal_segment_corrupt", extra={"segment": segment.path.name})
        self.corrupt_segments += 1
        put_aside(segment)
        return False


def _slice(segment: Segment, at: int, end: int, held: deque[Batch]) -> Frames:
    """The next records of the segment: the held ones that begin at `at`, else the file's up to
    where the held ones begin. Takes out of `held` what is used or passed by."""
    while held and (held[0].sequence, held[0].begin_bytes) < (segment.sequence, at):
        held.popleft()
    if held and held[0].sequence == segment.sequence:
        if held[0].begin_bytes == at:
            batch = held.popleft()
            return Frames(batch.records, batch.end_bytes - at, Stop.END)
        found = read(segment, at, held[0].begin_bytes)
        if found.good_bytes:
            return found
    return read(segment, at, end)  # all that is there tells preallocated zeros from damage
