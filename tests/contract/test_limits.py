"""Limits over several processes: in process, each with its share, and through a real Redis. No more
is let in than the limit and one slice each; nothing is lost; away and back bring no burst."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.limits import Load, kept
from benchmarks.redis_server import RedisServer
from serving.allowances import Allowances, Exceeded, Lease
from serving.limits.redis_rates import RedisRates
from serving.limits.renewing import Renewer
from serving.limits.settings import RedisSettings
from serving.limits.slice import FIRST
from serving.records import Allowance, Call, LatencyClass, Subject, Surface, Usage

PODS = 3
EVERY_S = 0.1
_serial = itertools.count(1)


class Pods:
    """Several gateways' counters, on one clock that a test may move ahead of the real one."""

    def __init__(self, server: RedisServer | None, count: int = PODS) -> None:
        self.ahead_s = 0.0
        self.began_s = self.now_s
        self.renewers: list[Renewer] = []
        self.allowances: list[Allowances] = []
        name = f"test{next(_serial)}"
        for number in range(count):
            if server is None:
                self.allowances.append(Allowances(count, clock=lambda: self.now_s))
                continue
            store = RedisRates.at(RedisSettings(url=server.url), name, f"pod{number}")
            renewer = Renewer("redis", store, (EVERY_S, count), lambda: self.now_s)
            self.renewers.append(renewer)
            self.allowances.append(Allowances(count, renewer.meter, clock=lambda: self.now_s))

    @property
    def now_s(self) -> float:
        return time.monotonic() + self.ahead_s

    def take(self, pod: int, call: Call, subject: Subject) -> Lease | Exceeded:
        return self.allowances[pod].take(call, (subject,), self.now_s)

    async def renew(self, *pods: int) -> None:
        for pod in pods or range(len(self.renewers)):
            if self.renewers:
                await self.renewers[pod].renew()

    async def close(self) -> None:
        for renewer in self.renewers:
            await renewer.close()


Check = Callable[[Pods], Awaitable[None]]


@pytest.fixture(params=["in process", pytest.param("redis", marks=pytest.mark.server)])
def over(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a check over fresh processes: `over(check)`."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return _runner(server)


def _runner(server: RedisServer | None) -> Callable[..., None]:
    def run(check: Check, count: int = PODS) -> None:
        async def main() -> None:
            pods = Pods(server, count)
            try:
                async with asyncio.timeout(30):
                    await check(pods)
            finally:
                await pods.close()

        asyncio.run(main())

    return run


@pytest.fixture
def over_redis(redis_server: RedisServer) -> Callable[..., None]:
    """The same, only through Redis."""
    return _runner(redis_server)


def call(prompt_tokens: int = 10, max_tokens: int = 16) -> Call:
    return Call(
        request_id="0", surface=Surface.CHAT, tenant="acme", model="m", alias="m", fields={},
        received_s=0.0, received_ms=0, first_token_by_s=60.0, complete_by_s=600.0,
        latency_class=LatencyClass.PATIENT, prompt=b"[]", size=100, prompt_tokens=prompt_tokens,
        max_tokens=max_tokens, stream=True, wants_usage=False, affinity=0,
    )  # fmt: skip


def subject(**limits: int) -> Subject:
    return Subject("key:k", Allowance(**limits))


STEPS = st.lists(
    st.tuples(st.integers(0, PODS - 1), st.sampled_from(["take", "take", "take", "renew"])),
    min_size=1, max_size=120,
)  # fmt: skip


@given(steps=STEPS, limit=st.sampled_from([3, 20, 60, 200]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_over_all_processes_no_more_is_let_in_than_the_limit_and_a_slice_each(over, steps, limit):
    async def check(pods: Pods) -> None:
        mine, granted = subject(requests_per_min=limit), 0
        for pod, step in steps:
            if step == "renew":
                await pods.renew(pod)
            else:
                granted += isinstance(pods.take(pod, call(), mine), Lease)
        refilled = (pods.now_s - pods.began_s) * limit / 60
        slices = PODS * max(1, limit // (FIRST * PODS))
        assert granted <= max(limit, PODS) + slices + refilled

    over(check)


@given(
    calls=st.lists(st.tuples(st.integers(0, PODS - 1), st.integers(0, 90)), max_size=60),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_over_all_processes_stay_below_limit_slices_and_one_call_each(over, calls):
    async def check(pods: Pods) -> None:
        mine, used = subject(tokens_per_min=1000), 0
        for pod, tokens in calls:
            found = pods.take(pod, call(prompt_tokens=10, max_tokens=90), mine)
            if isinstance(found, Lease):
                found.settle(Usage(10, tokens))
                used += 10 + tokens
            await pods.renew(pod)
        refilled = (pods.now_s - pods.began_s) * 1000 / 60
        assert used <= 1000 + PODS * (1000 // (FIRST * PODS) + 100) + refilled

    over(check)


def test_one_busy_process_gets_at_least_its_share(over):
    async def check(pods: Pods) -> None:
        mine, granted = subject(requests_per_min=60), 0
        for _ in range(100):
            granted += isinstance(pods.take(0, call(), mine), Lease)
            await pods.renew(0)
        assert granted >= 60 // PODS

    over(check)


@pytest.mark.server
def test_through_redis_one_busy_process_may_use_all_of_the_limit(over_redis):
    async def check(pods: Pods) -> None:
        mine, granted = subject(requests_per_min=60), 0
        for _ in range(100):
            granted += isinstance(pods.take(0, call(), mine), Lease)
            await pods.renew(0)
        assert 60 <= granted <= 62
        found = pods.take(1, call(), mine)
        assert isinstance(found, Lease), "a first contact lends itself one"
        await pods.renew(1)
        found = pods.take(1, call(), mine)
        assert isinstance(found, Exceeded)
        assert found.retry_after_s > 0.5
        assert found.standing.requests_limit == 60
        assert found.standing.requests_left == 0

    over_redis(check)


@pytest.mark.server
def test_what_an_idle_process_holds_goes_back_to_the_others(over_redis):
    async def check(pods: Pods) -> None:
        mine = subject(requests_per_min=60)
        for _ in range(10):
            pods.take(0, call(), mine)
            await pods.renew(0)
        pods.ahead_s += 2.0
        await pods.renew(0)
        granted = 0
        for _ in range(100):
            granted += isinstance(pods.take(1, call(), mine), Lease)
            await pods.renew(1)
        assert 50 <= granted <= 53

    over_redis(check)


@pytest.mark.server
def test_away_each_process_has_its_share_and_back_there_is_no_burst(over_redis, redis_server):
    async def check(pods: Pods) -> None:
        mine, granted = subject(requests_per_min=60), 0

        async def press(rounds: int) -> int:
            count = 0
            for _, pod in itertools.product(range(rounds), range(PODS)):
                count += isinstance(pods.take(pod, call(), mine), Lease)
                await pods.renew(pod)
            return count

        granted += await press(2)
        redis_server.stop()
        try:
            granted += await press(40)
            assert all(renewer.away for renewer in pods.renewers)
            assert 50 <= granted <= 60 + PODS, "each has its share, and no more"
        finally:
            redis_server.start()
        granted += await press(40)
        assert not any(renewer.away for renewer in pods.renewers)
        refilled = pods.now_s - pods.began_s
        assert granted <= 60 + PODS + refilled, "an empty Redis is no full bucket"

    over_redis(check)


@pytest.mark.server
def test_a_redis_that_lost_its_data_unseen_starts_from_nothing(over_redis, redis_server):
    async def check(pods: Pods) -> None:
        mine = subject(requests_per_min=60)
        pods.take(0, call(), mine)
        await pods.renew(0)
        redis_server.stop()
        redis_server.start()
        await pods.renew(0)
        if pods.renewers[0].away:
            await pods.renew(0)
        granted = 0
        for _ in range(60):
            granted += isinstance(pods.take(0, call(), mine), Lease)
            await pods.renew(0)
        assert granted <= 62

    over_redis(check)


def test_a_refusal_takes_nothing_and_names_the_limit(over):
    async def check(pods: Pods) -> None:
        mine = subject(requests_per_min=3)
        for _ in range(9):
            found = pods.take(0, call(), mine)
            await pods.renew(0)
            if isinstance(found, Exceeded):
                break
        assert isinstance(found, Exceeded)
        assert (found.what, found.limit) == ("requests per minute", 3)
        assert found.retry_after_s > 0

    over(check)


@pytest.mark.server
def test_over_operating_system_processes_no_more_is_let_in_than_limit_and_slices(redis_server):
    found = kept(Load(redis_server.url, pods=3, limit=300, seconds=1.0))
    assert 250 <= found.granted <= found.most


@pytest.mark.server
def test_a_renewal_ends_at_once_however_busy_it_is(over_redis):
    async def check(pods: Pods) -> None:
        for _ in range(30):
            renewer = pods.renewers[0]
            renewer.start()
            until_s = time.monotonic() + 0.01
            while time.monotonic() < until_s:
                pods.take(0, call(), subject(requests_per_min=60))
                await asyncio.sleep(0)
            await asyncio.wait_for(renewer.close(), 5.0)

    over_redis(check)
