"""Plans: windows from the first use on, kept over restarts, shared by processes, on both stores."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.allowances import Allowances, Exceeded, Lease
from serving.ledger.address import address
from serving.limits import windows
from serving.limits.base import Grant, LimitsAway
from serving.limits.plan_postgres import PostgresRows
from serving.limits.plan_sqlite import SqliteRows
from serving.limits.plan_store import PlanStore, Rows
from serving.limits.renewing import Renewer
from serving.limits.slice import FIRST
from serving.records import Allowance, Call, LatencyClass, Subject, Surface, Usage
from serving.settings import Ledger

HOUR_S = 3600.0
_serial = itertools.count(1)
START_MS = 1_800_000_000_000


class Clock:
    """One time for all processes."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def utc_ms(self) -> int:
        return START_MS + round((self.now_s - 1000.0) * 1e3)


class Pod:
    """One gateway's plans."""

    def __init__(self, open_rows: Callable[[], Rows], clock: Clock, pods: int) -> None:
        self.clock = clock
        self.store = PlanStore(open_rows, clock.utc_ms)
        self.renewer = Renewer("plans", self.store, (0.5, pods), lambda: clock.now_s)
        self.allowances = Allowances(pods, None, self.renewer.meter, lambda: clock.now_s)

    async def read(self) -> None:
        """Hear what was used, as a start does."""
        now_ms = self.clock.utc_ms()

        def known(row: windows.Row) -> Callable[[int], Grant]:
            return lambda limit: windows.known(row, limit, now_ms)

        rows = await self.store.read()
        self.renewer.remember({key: known(row) for key, row in rows.items()})

    def take(self, subject: Subject, tokens: int = 16) -> Lease | Exceeded:
        return self.allowances.take(call(tokens), (subject,), self.clock.now_s)


Check = Callable[[Clock, Callable[..., Pod]], Awaitable[None]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def over(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Check], None]:
    """Runs a check with an empty store of each kind: `check(clock, new_pod)`."""
    url = request.getfixturevalue("new_database")() if request.param == "postgres" else ""
    serial = iter(range(1000))

    def opened(number: int) -> Rows:
        if not url:
            return SqliteRows.open(tmp_path / f"plans{number}.sqlite")
        settings = Ledger(url=url)
        return PostgresRows.at(address(settings), settings)

    def run(check: Check) -> None:
        number = next(serial)

        async def main() -> None:
            clock = Clock()
            async with asyncio.timeout(60), contextlib.AsyncExitStack() as closing:

                def new_pod(pods: int = 1) -> Pod:
                    pod = Pod(lambda: opened(number), clock, pods)
                    closing.push_async_callback(pod.store.close)
                    return pod

                await check(clock, new_pod)

        asyncio.run(main())

    return run


def call(tokens: int = 16) -> Call:
    return Call(
        request_id="0", surface=Surface.CHAT, tenant="acme", model="m", alias="m", fields={},
        received_s=0.0, received_ms=0, first_token_by_s=60.0, complete_by_s=600.0,
        latency_class=LatencyClass.PATIENT, prompt=b"[]", size=100, prompt_tokens=0,
        max_tokens=tokens, stream=True, wants_usage=False, affinity=0,
    )  # fmt: skip


def subject(id_: str = "key:k", **limits: int) -> Subject:
    return Subject(id_, Allowance(**limits))


def test_a_window_begins_with_the_first_use_and_is_full_again_when_it_ends(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        pod, mine = new_pod(), subject(requests_per_5h=3)
        for _ in range(3):
            assert isinstance(pod.take(mine), Lease)
            clock.now_s += HOUR_S
            await pod.renewer.renew()
        found = pod.take(mine)
        assert isinstance(found, Exceeded)
        assert (found.what, found.limit) == ("requests per 5 hours", 3)
        assert found.retry_after_s == pytest.approx(2 * HOUR_S, abs=1.0)
        clock.now_s += found.retry_after_s + 1.0
        assert isinstance(pod.take(mine), Lease)
        await pod.renewer.renew()
        standing = pod.allowances.uses(mine, clock.now_s)[0]
        assert standing.left == 2
        assert standing.full_s == pytest.approx(5 * HOUR_S, abs=1.0)

    over(check)


def test_what_was_used_outlives_a_restart(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        before, mine = new_pod(), subject(requests_per_week=4, tokens_per_month=1000)
        for _ in range(3):
            before.take(mine, 100).settle(Usage(50, 60))
        await before.renewer.renew()
        after = new_pod()
        await after.read()
        left = {use.what: use.left for use in after.allowances.uses(mine, clock.now_s)}
        assert left == {"requests per week": 1, "tokens per month (30 days)": 670}
        assert isinstance(after.take(mine), Lease)
        assert isinstance(after.take(mine), Exceeded)

    over(check)


def test_a_call_that_nothing_worked_for_costs_no_request_of_a_plan(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        pod, mine = new_pod(), subject(requests_per_5h=1)
        pod.take(mine).settle(Usage())
        found = pod.take(mine)
        assert isinstance(found, Lease)
        found.settle(Usage(1, 1))
        found.settle(Usage())  # a second time changes nothing
        assert isinstance(pod.take(mine), Exceeded)

    over(check)


def test_a_call_that_outlives_its_window_takes_nothing_from_the_next(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        pod, mine = new_pod(), subject(tokens_per_5h=100)
        long = pod.take(mine, 50)
        await pod.renewer.renew()
        clock.now_s += 5 * HOUR_S + 1
        assert isinstance(pod.take(mine, 100), Lease)
        await pod.renewer.renew()
        long.settle(Usage(0, 10))
        await pod.renewer.renew()
        assert pod.allowances.uses(mine, clock.now_s)[0].left == 0

    over(check)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["take", "take", "renew", "crash"])),
        max_size=60,
    ),
    limit=st.sampled_from([2, 10, 48, 100]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_over_all_processes_and_crashes_no_more_than_the_limit_a_slice_each_and_what_was_untold(
    over, steps, limit
):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        mine = subject(f"key:k{next(_serial)}", requests_per_5h=limit)
        pods, granted, untold = [new_pod(3) for _ in range(3)], 0, [0, 0, 0]
        lost = lives = 0
        for number, step in steps:
            if step == "take":
                is_in = isinstance(pods[number].take(mine), Lease)
                granted, untold[number] = granted + is_in, untold[number] + is_in
            elif step == "renew":
                await pods[number].renewer.renew()
                untold[number] = 0
            else:
                lost, untold[number], lives = lost + untold[number], 0, lives + 1
                pods[number] = new_pod(3)
                await pods[number].read()
        slices = (3 + lives) * max(1, limit // (FIRST * 3))
        assert granted <= limit + slices + lost

    over(check)


def test_a_process_that_ends_gives_back_what_it_held(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        mine, pod = subject(requests_per_5h=100), new_pod(2)
        for _ in range(5):
            pod.take(mine)
            await pod.renewer.renew()
        await pod.renewer.close()
        other = new_pod(2)
        await other.read()
        assert other.allowances.uses(mine, clock.now_s)[0].left == 95

    over(check)


def test_while_the_store_is_away_a_process_has_its_part_of_what_was_left(over):
    async def check(clock: Clock, new_pod: Callable[..., Pod]) -> None:
        pod, mine = new_pod(2), subject(requests_per_5h=40)
        pod.take(mine)
        await pod.renewer.renew()
        asked = pod.store.settle

        async def away(_: object) -> list[Grant]:
            raise LimitsAway("it is away")

        pod.store.settle = away  # type: ignore[method-assign, assignment]
        granted = 0
        for _ in range(60):
            granted += isinstance(pod.take(mine), Lease)
            await pod.renewer.renew()
        assert pod.renewer.away == "it is away"
        assert 19 <= granted <= 22
        pod.store.settle = asked  # type: ignore[method-assign]
        await pod.renewer.renew()
        assert pod.renewer.away == ""
        assert pod.allowances.uses(mine, clock.now_s)[0].left == 40 - 1 - granted

    over(check)
