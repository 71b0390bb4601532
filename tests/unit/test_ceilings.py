"""Ceilings on money over several gateways: slices of one window, the store there and away."""

from __future__ import annotations

import asyncio
import random

import pytest

from serving.limits.base import Rule
from serving.limits.plan_sqlite import SqliteRows
from serving.limits.plan_store import PlanStore
from serving.limits.renewing import Renewer
from serving.limits.slice import FIRST, Slice
from serving.limits.windows import settle
from serving.placement.pacing import Headroom
from serving.placement.tally import HOUR_S, Tally
from serving.placement.values import Ceilings

LIMIT, COST_MAX = 1_000_000, 20_000
MOST = Ceilings(hour_micro=LIMIT, name="m")
NOW_MS = 1_800_000_000_000


class Store:
    """Windows as the plans' store keeps them."""

    def __init__(self) -> None:
        self.row = None
        self.is_away = False

    def renew(self, pod: Pod, now_s: float) -> None:
        ask = pod.slice.ask(now_s)
        if ask is None:
            return
        if self.is_away:
            pod.slice.unanswered(now_s)
            return
        self.row, grant = settle(self.row, ask, NOW_MS + round(now_s * 1e3))
        pod.slice.granted(grant, pod.slice.window, now_s)


class Pod:
    """One gateway, as far as its ceiling knows."""

    def __init__(self, pods: int) -> None:
        self.now_s = 0.0
        self.tally = Tally()
        self.out: list[int] = []
        self.spent = 0
        self.tally.share({"m": ("m", MOST)}, self._made(pods), lambda: self.now_s)

    def _made(self, pods: int):
        def make(key: str, limit: int, length_s: float) -> Slice:
            assert (key, length_s) == ("ceiling m hour", HOUR_S)
            rule = Rule(limit, length_s, is_window=True)
            self.slice = Slice(key, rule, pods, 0.0, lambda _: None)
            return self.slice

        return make

    def send(self, cost: int) -> bool:
        _, used = self.tally.reached("m", MOST, len(self.out), self._ms)
        if used < 1.0:
            self.out.append(cost)
        return used < 1.0

    def end(self) -> None:
        if self.out:
            cost = self.out.pop(0)
            self.spent += cost
            self.tally.ended("m", 100, cost, self._ms)

    @property
    def _ms(self) -> int:
        return NOW_MS + round(self.now_s * 1e3)


def run(pods: int, seed: int, away_from: int = -1) -> tuple[int, int]:
    """Money spent by all, and calls under way at most, after pods sent as long as any might."""
    rng, store = random.Random(seed), Store()
    house = [Pod(pods) for _ in range(pods)]
    most_out = 0
    for step in range(4000):
        store.is_away = 0 <= away_from <= step
        now_s = step * 0.1
        pod = rng.choice(house)
        for one in house:
            one.now_s = now_s
        if len(pod.out) < 4:
            pod.send(rng.randint(1, COST_MAX))
        rng.choice(house).end()
        most_out = max(most_out, sum(len(one.out) for one in house))
        if step % 5 == 0:
            for one in house:
                store.renew(one, now_s)
    for one in house:
        while one.out:
            one.end()
    return sum(one.spent for one in house), most_out


@pytest.mark.parametrize(
    "away_from", [-1, 0, 20, 60], ids=["there", "away", "away early", "away late"]
)
@pytest.mark.parametrize("pods", [1, 4])
def test_all_gateways_together_spend_what_the_ceiling_says(pods, away_from):
    for seed in range(5):
        spent, out = run(pods, seed, away_from)
        slack = LIMIT // FIRST + out * COST_MAX
        assert 0.75 * LIMIT < spent <= LIMIT + slack, (seed, spent)


def test_one_gateway_s_spending_closes_the_others_and_outlives_a_restart(tmp_path):
    async def check() -> None:
        now_ms = [NOW_MS]
        stores = []

        def started() -> tuple[Tally, Renewer]:
            store = PlanStore(lambda: SqliteRows.open(tmp_path / "p.sqlite"), lambda: now_ms[0])
            renewer = Renewer("plans", store, (0.5, 2), lambda: 0.0)
            stores.append(renewer)
            tally = Tally()
            tally.share(
                {"m": ("m", MOST)},
                lambda key, limit, s: renewer.meter(key, Rule(limit, s, is_window=True), 0.0),
                lambda: 0.0,
            )
            return tally, renewer

        (one, first), (other, second) = started(), started()
        one.ended("m", 10, LIMIT, NOW_MS)
        await first.renew()
        other.ended("m", 10, 1, NOW_MS)
        await second.renew()
        assert other.reached("m", MOST, 0, NOW_MS)[1] >= 1.0
        later, third = started()
        later.ended("m", 10, 1, NOW_MS)
        await third.renew()
        assert later.reached("m", MOST, 0, NOW_MS)[1] >= 1.0
        for store in stores:
            await store.close()

    asyncio.run(check())


def test_gateways_part_what_an_account_has_left_until_it_tells_again():
    told = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "12"}
    paces = [Headroom(pods=2), Headroom(pods=2)]
    sent = 0
    for pace in paces:
        pace.learn(told, 0.0, 0)
        while not pace.holds_back(1, 0, 1.0):
            pace.sent(1)
            sent += 1
    assert sent == 10, "two are kept back"
    paces[0].learn(told, 1.0, 0)
    assert not paces[0].holds_back(1, 0, 1.0)


def test_a_call_larger_than_a_gateway_s_part_of_a_limit_still_goes():
    pace = Headroom(pods=4)
    pace.learn({"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "820"}, 0.0, 0)
    assert not pace.holds_back(200, 0, 1.0)
    assert pace.holds_back(201, 0, 1.0), "a quarter of 800"
    assert not pace.holds_back(251, 0, 1.0), "larger than a quarter of the limit: the whole counts"
    pace.sent(600)
    assert pace.holds_back(251, 0, 1.0)


@pytest.mark.parametrize(("concurrent", "pods", "each"), [(10, 4, 2), (2, 4, 1), (0, 4, 10**6)])
def test_calls_at_once_are_parted_too_and_nobody_has_none(concurrent, pods, each):
    pace = Headroom(concurrent, pods)
    assert not pace.holds_back(1, each - 1, 0.0)
    assert pace.holds_back(1, each, 0.0) == bool(concurrent)
