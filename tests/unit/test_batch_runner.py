"""A runner that loses its store cuts its lines before anybody else may run them; answers wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.batch.base import TRIMMED_MAX, BatchesAway, BatchStore
from serving.batch.desk import Desk
from serving.batch.envelope import Request
from serving.batch.means import Means
from serving.batch.planning import Judged
from serving.batch.results import Results
from serving.batch.runner import Runner
from serving.batch.settings import BatchSettings
from serving.batch.sqlite import SqliteBatches
from serving.batch.values import Batch, Counts, Ended, File, Purpose, State, Status
from serving.errors import CallerError
from serving.metrics import Counter
from serving.records import Caller, FleetView, Policy

CHAT = "/v1/chat/completions"
QUICK = {"lease_s": 0.4, "claim_s": 0.05, "tick_s": 0.02}
"""Shorter than the settings allow."""


class Switched:
    """A store that can be away."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self.is_away = False
        self.writes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if self.is_away:
            raise BatchesAway("away")
        if name == "end_lines":
            return self._end_lines
        return getattr(self._store, name)

    def _end_lines(self, owner: str, batch_id: str, ended: Any) -> None:
        self.writes.append(len(ended))
        self._store.end_lines(owner, batch_id, ended)


class Held:
    """Lines that run until they are let go."""

    def __init__(self) -> None:
        self.under_way = 0
        self.cut = 0
        self.go = asyncio.Event()

    async def run(self, run: Any, keep: Any, refused: Any) -> Judged:
        self.under_way += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.under_way -= 1
        await keep(Ended(run.line.number, State.DONE, b"{}"))
        return Judged(State.DONE)


class _Catalogue:
    def find(self, name: str) -> None:
        """No name is another's."""


class _Calls:
    catalogue = _Catalogue()


def store_with(path: Path, lines: int, status: Status = Status.IN_PROGRESS) -> Switched:
    """A batch nobody holds, checked already."""
    store = SqliteBatches.open(path / "batches.sqlite")
    batch = Batch("batch_1", "acme", "k", CHAT, "f", "24h", 1, 1 << 60, status, model="m")
    store.add_batch(batch, 9)
    store.claim("test", 0, 0, 9)
    rows = [Request(n, f"c{n}", "m", b"{}") for n in range(1, lines + 1)]
    store.put_lines("test", batch.id, rows)
    store.release("test")
    return Switched(store)


def means(store: Switched, lines: Any, caller: Callable[[Batch], Caller | None]) -> Means:
    given = BatchSettings.model_construct(**BatchSettings().model_dump() | QUICK)
    clock = asyncio.get_running_loop().time
    counted = Counter("lines", "lines", ("result",))
    return Means(
        Desk(lambda: store), given, _Calls(), lines, FleetView, lambda _: 0, caller,  # type: ignore[arg-type]
        frozenset(), lambda: round(clock() * 1e3), "me", counted, lambda *_: None, lambda: False,
    )  # fmt: skip


async def eventually(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(10.0):
        while not is_so():
            await asyncio.sleep(0.01)


def caller(_: Batch) -> Caller:
    return Caller("k", "acme", "p", Policy())


def test_lines_are_cut_when_the_lease_cannot_be_renewed_and_run_again_later(tmp_path: Path) -> None:
    async def check() -> None:
        store, held = store_with(tmp_path, 3), Held()
        made = means(store, held, caller)
        runner = Runner(made)
        runner.start(lambda: None)
        await eventually(lambda: held.under_way == 3)
        store.is_away = True
        await eventually(lambda: held.cut == 3)
        held.go.set()
        store.is_away = False
        await eventually(lambda: store.batch("acme", "batch_1").batch.status is Status.COMPLETED)
        found = store.batch("acme", "batch_1").batch
        assert found.counts == Counts(done=3)
        await runner.close()
        await made.desk.close()

    asyncio.run(check())


def test_a_batch_waits_while_nobody_knows_its_key(tmp_path: Path) -> None:
    async def check() -> None:
        store, held = store_with(tmp_path, 1), Held()
        known: list[Caller] = []
        made = means(store, held, lambda b: known[0] if known else None)
        runner = Runner(made)
        runner.start(lambda: None)
        await eventually(lambda: runner._works)
        assert (held.under_way, store.counts("batch_1")) == (0, Counts(waiting=1))
        known.append(caller(store.batch("acme", "batch_1").batch))
        await eventually(lambda: held.under_way == 1)
        held.go.set()
        await eventually(lambda: not runner._works)
        await runner.close()
        await made.desk.close()

    asyncio.run(check())


def test_a_batch_that_this_process_fails_on_ends_and_is_not_tried_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def run(self, run: Any, keep: Any, refused: Any) -> Judged:
            raise ZeroDivisionError

    async def check() -> None:
        store = store_with(tmp_path, 2)
        made = means(store, Broken(), caller)
        runner = Runner(made)
        runner.start(lambda: None)
        await eventually(lambda: store.batch("acme", "batch_1").batch.status is Status.FAILED)
        found = store.batch("acme", "batch_1").batch
        assert [fault.code for fault in found.errors] == ["internal_error"]
        await runner.close()
        await made.desk.close()

    asyncio.run(check())
    assert "batch_died" in caplog.text


def add(store: Switched, name: str, tenant: str = "acme", **more: Any) -> None:
    """A batch with one line that nobody holds, checked already."""
    made = Batch(name, tenant, "k", CHAT, "f", "24h", 1, 1 << 60, Status.IN_PROGRESS, model="m")
    store.add_batch(msgspec.structs.replace(made, **more), 99)
    store.claim("test", 0, 0, 99)
    store.put_lines("test", name, [Request(1, "c1", "m", b"{}")])
    store.release("test")


def running(path: Path, check: Callable[[Switched, Held, Runner], Any], **given: Any) -> None:
    """Check a runner of two places whose lines run until they are let go."""

    async def main() -> None:
        store, lines = Switched(SqliteBatches.open(path / "batches.sqlite")), Held()
        whose = given.pop("caller", caller)
        made = means(store, lines, whose)
        changed = made.settings.model_copy(update={"batches_at_once_max": 2} | given)
        runner = Runner(made._replace(settings=changed))
        await check(store, lines, runner)
        await runner.close()
        await made.desk.close()

    asyncio.run(main())


def status(store: Switched, name: str, tenant: str = "acme") -> Status:
    return store.batch(tenant, name).batch.status


def test_a_tenant_with_many_batches_makes_way_for_another_s_one(tmp_path: Path) -> None:
    async def check(store: Switched, lines: Held, runner: Runner) -> None:
        for number in range(4):
            add(store, f"batch_a{number}", created_ms=number)
        runner.start(lambda: None)
        await eventually(lambda: lines.under_way == 2)
        add(store, "batch_b", "beta", created_ms=9)
        await eventually(lambda: runner._works["batch_a1"][0].rest_ms == 0)
        assert lines.under_way == 2  # what is under way is not cut
        lines.go.set()
        await eventually(lambda: status(store, "batch_b", "beta") is Status.COMPLETED)
        assert lines.cut == 0

    running(tmp_path, check)


def test_batches_that_cannot_run_give_their_places_to_others(tmp_path: Path) -> None:
    def whose(batch: Batch) -> Caller | None:
        return None if batch.id.startswith("batch_idle") else caller(batch)

    async def check(store: Switched, lines: Held, runner: Runner) -> None:
        lines.go.set()
        for number in range(2):
            add(store, f"batch_idle{number}", created_ms=number)
        runner.start(lambda: None)
        await eventually(lambda: len(runner._works) == 2)
        add(store, "batch_z", created_ms=9)
        await eventually(lambda: status(store, "batch_z") is Status.COMPLETED)
        assert status(store, "batch_idle0") is Status.IN_PROGRESS

    running(tmp_path, check, caller=whose, idle_s=0.1)


def test_a_line_whose_content_a_third_party_refused_stays_home_in_later_runs(
    tmp_path: Path,
) -> None:
    told: list[bool] = []

    class Refused:
        async def run(self, run: Any, keep: Any, refused: Any) -> Judged:
            told.append(run.is_home_only)
            if len(told) < 3:  # home, and there was no room
                refused()
                return Judged(State.WAITING, is_home_only=True)
            await keep(Ended(run.line.number, State.DONE, b"{}"))
            return Judged(State.DONE)

    async def check() -> None:
        store = store_with(tmp_path, 1)
        made = means(store, Refused(), caller)
        runner = Runner(made)
        runner.start(lambda: None)
        await eventually(lambda: store.batch("acme", "batch_1").batch.status is Status.COMPLETED)
        await runner.close()
        await made.desk.close()

    asyncio.run(check())
    assert told == [False, True, True]


def test_a_line_that_was_to_stay_home_stays_there_when_another_process_takes_over(
    tmp_path: Path,
) -> None:
    told: list[bool] = []

    class Full:
        """Home, and there was no room; then nobody comes to an end any more."""

        async def run(self, run: Any, keep: Any, refused: Any) -> Judged:
            told.append(run.is_home_only)
            refused()
            if len(told) > 1:
                await asyncio.Event().wait()
            return Judged(State.WAITING, is_home_only=True)

    class Good:
        async def run(self, run: Any, keep: Any, refused: Any) -> Judged:
            told.append(run.is_home_only)
            await keep(Ended(run.line.number, State.DONE, b"{}"))
            return Judged(State.DONE)

    async def check() -> None:
        store = store_with(tmp_path, 1)
        for lines, runs in ((Full(), 2), (Good(), 3)):
            made = means(store, lines, caller)
            runner = Runner(made)
            runner.start(lambda: None)
            await eventually(lambda n=runs: len(told) == n)
            if runs == 3:
                await eventually(lambda s=store: status(s, "batch_1") is Status.COMPLETED)
            await runner.close()
            await made.desk.close()
            store = Switched(SqliteBatches.open(tmp_path / "batches.sqlite"))

    asyncio.run(check())
    assert told == [False, True, True]


def test_a_window_that_is_over_ends_a_batch_that_has_no_place(tmp_path: Path) -> None:
    async def check(store: Switched, lines: Held, runner: Runner) -> None:
        for number in range(2):
            add(store, f"batch_{number}", created_ms=number)
        runner.start(lambda: None)
        await eventually(lambda: lines.under_way == 2)
        add(store, "batch_late", created_ms=9, expires_ms=10)
        add(store, "batch_cancelled", created_ms=9)
        store.cancel("acme", "batch_cancelled", 11)
        await eventually(lambda: status(store, "batch_late") is Status.EXPIRED)
        await eventually(lambda: status(store, "batch_cancelled") is Status.CANCELLED)
        assert lines.under_way == 2
        lines.go.set()

    running(tmp_path, check)


def test_only_a_key_that_is_good_no_more_ends_its_batch(tmp_path: Path) -> None:
    codes = ["header_not_allowed"]

    def whose(batch: Batch) -> Caller | None:
        if codes:
            raise CallerError(codes[0], "not now")
        return caller(batch)

    async def check(store: Switched, lines: Held, runner: Runner) -> None:
        lines.go.set()
        add(store, "batch_1")
        runner.start(lambda: None)
        await eventually(lambda: runner._works and runner._works["batch_1"][0].idle_since_s)
        codes.clear()
        await eventually(lambda: status(store, "batch_1") is Status.COMPLETED)
        codes.append("invalid_api_key")
        add(store, "batch_2")
        await eventually(lambda: status(store, "batch_2") is Status.FAILED)

    running(tmp_path, check, caller=whose)


def test_what_is_old_goes_in_many_helpings_one_after_the_other(tmp_path: Path) -> None:
    async def check(store: Switched, lines: Held, runner: Runner) -> None:
        for number in range(2 * TRIMMED_MAX + 1):
            name = f"file-{number}"
            store.put_file(File(name, "acme", "k", Purpose.OUTPUT, "o", 1, 1, 1, is_whole=True))
        runner.start(lambda: None)
        await eventually(lambda: store.used("acme").files == 0)

    running(tmp_path, check)


def test_answers_that_end_together_are_written_together(tmp_path: Path) -> None:
    async def check() -> None:
        store = store_with(tmp_path, 50)
        store.claim("me", 0, 1 << 60, 1)
        desk = Desk(lambda: store)  # type: ignore[arg-type,return-value]
        results = Results(desk, "me", "batch_1")
        ended = [Ended(n, State.DONE, b"{}") for n in range(1, 51)]
        assert await asyncio.gather(*map(results.put, ended)) == [True] * 50
        assert store.counts("batch_1") == Counts(done=50)
        assert len(store.writes) <= 2
        store.release("me")
        assert not await results.put(Ended(1, State.FAILED, b"late"))
        assert store.counts("batch_1") == Counts(done=50)
        await results.close()
        await desk.close()

    asyncio.run(check())
