"""One batch from its check to its files. What to do when is decided in `planning`.

Resumable at any point: what an earlier life had given out is given out again, a file that was half
written is written anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from serving.batch import planning
from serving.batch.base import Left
from serving.batch.books import Books
from serving.batch.lines import Run
from serving.batch.means import Means
from serving.batch.planning import Ending, Judged, Release
from serving.batch.results import Results
from serving.batch.sharing_out import SharingOut
from serving.batch.values import Counts, Fault, Line, Standing, State, Status
from serving.errors import CallerError
from serving.records import OWN, Caller

CANCEL_S = 600.0
"""Lines under way at a cancel may take so long to end."""
_log = logging.getLogger(__name__)


class Work:
    """One batch that this process holds."""

    def __init__(self, standing: Standing, means: Means) -> None:
        self.batch = standing.batch
        self.cancel_ms = standing.cancel_ms
        self.at_once_max = 1
        """Lines it may have under way; several batches share what the process may have."""
        self.rest_ms: int | None = None
        """It is to be given up once no line is under way, and rests so long; None: it stays."""
        self.idle_since_s: float | None = None
        """None of its lines could run since then; None while it has something to do."""
        self.news = asyncio.Event()
        """Something may be to be done before the next tick."""
        self._means = means
        self._books = Books(means.desk, means.holder, means.settings)
        self._sharing = SharingOut(means, self._books)
        self._results = Results(means.desk, means.holder, self.batch.id)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._taken: list[Line] = []
        self._back: list[int] = []
        self._hold_until_s = 0.0
        self._lost_key = ""
        self._is_dry = True
        """Perhaps no line waits in the store any more."""
        self._fault: Exception | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Carry it to its end. Raises Lost when it is another's by now, Left when it made way."""
        try:
            if self.batch.status is Status.VALIDATING:
                await self._validate()
            if self.batch.status is Status.IN_PROGRESS:
                await self._books.give_back(self.batch, None)
                await self._work()
            if self.batch.status is Status.FINALIZING:
                await self._finalize()
            _log.info("batch_ended", extra={"batch": self.batch.id, "status": self.batch.status})
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            await self._sharing.close()
            await self._results.close()

    async def drained(self) -> None:
        """Return once no line is under way any more."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    @property
    def running(self) -> int:
        """Lines under way."""
        return len(self._running)

    async def _move(self, status: Status, **changes: object) -> None:
        times = {**self.batch.times, status: self._means.utc_ms()}
        self.batch = msgspec.structs.replace(self.batch, status=status, times=times, **changes)
        self.idle_since_s = None
        await self._books.save(self.batch)

    async def _validate(self) -> None:
        batch = self.batch
        checking = await self._books.check(batch)
        faults: tuple[Fault, ...] = ()
        if checking is None:
            faults = (Fault("file_not_found", f"there is no file {batch.input_file!r} any more"),)
        elif checking.faults:
            faults = tuple(checking.faults)
        elif (unknown := await self._unknown(checking.model)) is not None:
            faults = (Fault(unknown.code, unknown.message, 1, "body.model"),)
        if faults or checking is None:
            times = {**batch.times, Status.FAILED: self._means.utc_ms()}
            self.batch = msgspec.structs.replace(
                batch, status=Status.FAILED, times=times, errors=faults, counts=Counts()
            )
            await self._books.finish(self.batch)
            return
        self.batch = msgspec.structs.replace(batch, model=checking.model)
        await self._books.put_lines(self.batch)
        await self._move(Status.IN_PROGRESS)

    async def _unknown(self, model: str) -> CallerError | None:
        """Why the batch's caller cannot call a model; not asked once the batch is to end."""
        while self._ending() is None:
            caller = self._caller()
            if caller is not None:
                return self._means.calls.unknown(model, caller)
            if not self._lost_key:
                await self._pause()
        return CallerError("invalid_api_key", self._lost_key) if self._lost_key else None

    def _caller(self) -> Caller | None:
        """Whose the lines are now; None while nobody may say so. Only a key that is good no more
        ends a batch: what else is refused may pass."""
        try:
            return self._means.caller(self.batch)
        except CallerError as error:
            if error.code == "invalid_api_key":
                self._lost_key = error.message
            return None

    async def _pause(self) -> None:
        """Until something may have changed. Raises Left."""
        if self._running:
            self.idle_since_s = None
        elif self.rest_ms is not None:
            raise Left
        elif self.idle_since_s is None:
            self.idle_since_s = self._loop.time()
        self.news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._means.settings.tick_s):
                await self.news.wait()

    async def _work(self) -> None:
        while (ending := self._ending()) is None:
            await self._start_some()
            if self._is_dry and not (self._running or self._taken or self._back):
                counts = await self._books.ask(lambda store: store.counts(self.batch.id))
                if not counts.waiting and not counts.running:
                    break
                if counts.running:  # given out, and nobody has them
                    await self._books.give_back(self.batch, None)
                self._is_dry = False
            await self._pause()
            if self._fault is not None:
                raise self._fault
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=CANCEL_S)
        for task in self._running.values():
            task.cancel()
        await self.drained()
        changes = {} if ending is None else {"ends_as": ending.status}
        if ending is not None and ending.status is Status.FAILED:
            changes["errors"] = (Fault(ending.code, ending.message),)  # type: ignore[assignment]
        await self._move(Status.FINALIZING, **changes)

    def _ending(self) -> Ending | None:
        standing = Standing(self.batch, self.cancel_ms)
        return planning.ending(standing, self._means.utc_ms(), self._lost_key)

    async def _start_some(self) -> None:
        """Start as many lines as may run now."""
        now_s = self._loop.time()
        if now_s < self._hold_until_s or self._means.is_stopping() or self.rest_ms is not None:
            return
        caller = self._caller()
        if caller is None:
            return
        under_way = len(self._running), self.at_once_max
        for found in await self._sharing.releases(self.batch, caller, *under_way):
            if found.lines > 0:
                await self._start(found, caller)

    async def _start(self, found: Release, caller: Caller) -> None:
        await self._fill(found.lines)
        some = [one for one in self._taken if self._sharing.may_take(found, one)]
        some = some[: found.lines]
        numbers = {one.number for one in some}
        self._taken = [one for one in self._taken if one.number not in numbers]
        for line in some:
            self._sharing.began(line.number, found.pin)
            is_home_only = self._sharing.is_home_only(line)
            run = Run(self.batch, line, caller, found.pin, self._left_s, is_home_only)
            task = self._loop.create_task(self._line(run), name="batch-line")
            # The batch dies of what its line died of.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._running[line.number] = task

    @property
    def _left_s(self) -> float:
        return (self.batch.expires_ms - self._means.utc_ms()) / 1e3

    async def _fill(self, count: int) -> None:
        """Have lines to start, and as many again, so that few ask the store."""
        if self._back:
            back, self._back = self._back, []
            await self._books.give_back(self.batch, back)
            self._is_dry = False
        if len(self._taken) < count and not self._is_dry:
            wanted = 2 * count - len(self._taken)
            found = await self._books.take(self.batch, wanted)
            self._is_dry = len(found) < wanted
            self._taken += found

    async def _line(self, run: Run) -> None:
        number, judged = run.line.number, Judged(State.WAITING)
        filled = self._sharing.model(self.batch) if run.pin == OWN else ""
        if filled:
            self._means.fills(filled, 1)
        try:
            marks = self._sharing.marker(self.batch, number)
            judged = await self._means.lines.run(run, self._results.put, marks)
            await self._sharing.marked(number)
        except Exception as error:
            self._fault = error
            raise
        finally:
            if filled:
                self._means.fills(filled, -1)
            del self._running[number]
            hold_s = self._sharing.ended(number, run.pin, judged)
            if judged.state is State.WAITING:
                self._back.append(number)
                self._hold_until_s = max(self._hold_until_s, self._loop.time() + hold_s)
            self._means.counted.add((judged.state.name.lower(),))
            self.news.set()

    async def _finalize(self) -> None:
        ending = planning.unrun(self.batch)
        now_ms = self._means.utc_ms()
        written = await self._books.write(self.batch, ending, now_ms)
        status = written.ends_as
        times = {**written.times, status: self._means.utc_ms()}
        self.batch = msgspec.structs.replace(written, status=status, times=times)
        await self._books.finish(self.batch)
