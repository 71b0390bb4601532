"""The accounts of a long ladder: those that are idle are not kept, and it makes no difference."""

from __future__ import annotations

import random

import pytest

from autoscale import decide
from autoscale.decide import View, Weighed
from autoscale.forecast import Outlook
from autoscale.ladder import Rung, ladder
from autoscale.policy import Plan, Pool

POOLS = (
    Pool("paid", terms="reserved", hour_micro=1, most=1, ready_s=60.0),
    Pool("od", hour_micro=2_900_000, ready_s=180.0, most=6, capacity=1.0),
    Pool("spot", terms="spot", hour_micro=1_400_000, ready_s=90.0, most=9, capacity=0.7),
    Pool("big", hour_micro=9_000_000, ready_s=300.0, most=12, capacity=2.0),
)


def drift(seed: int) -> list[View]:
    """Demand that wanders, with gusts and lulls, and an API that is away at times."""
    lots, rate, found = random.Random(seed), 2.0, []
    for _ in range(400):
        rate = max(0.0, rate + lots.gauss(0, 0.4)) * (0.0 if lots.random() < 0.01 else 1.0)
        refused = lots.choice([0.0, 0.0, 0.0, 0.6, 1.0])
        api = None if lots.random() < 0.05 else lots.choice([500.0, 2000.0])
        outlook = Outlook(max(0.0, rate + lots.gauss(0, 1)), lots.choice([0.0, 0.3, 2.0]))
        found.append(View(rate, outlook, api, refused, lots.choice([0.0, 10.0]), 0.5))
    return found


def whole(rungs: tuple[Rung, ...], kept: Weighed) -> list[tuple[float, bool]]:
    """All accounts, those that are not kept too."""
    found = list(zip(kept.balances, kept.is_on, strict=True))
    return found + [(decide.idle(rung, 0.5), False) for rung in rungs[len(found) : kept.depth]]


@pytest.mark.parametrize("seed", range(6))
def test_idle_rungs_need_not_be_kept(seed: int) -> None:
    rungs = ladder(Plan("m", 8, POOLS), {}, {})
    kept = Weighed((), ())
    for view in drift(seed):
        # As if every account had been written down.
        full = whole(rungs, kept)
        written = Weighed(tuple(b for b, _ in full), tuple(on for _, on in full), len(full))
        kept, other = (decide.weigh(rungs, view, state) for state in (kept, written))
        assert whole(rungs, kept) == whole(rungs, other)
        assert len(kept.balances) <= kept.depth <= len(rungs)


def test_a_quiet_ladder_is_not_walked_to_its_end() -> None:
    rungs = ladder(Plan("m", 8, (Pool("p", hour_micro=3_600_000, ready_s=180.0, most=64),)), {}, {})
    kept = Weighed((), ())
    for _ in range(50):
        kept = decide.weigh(rungs, View(3.0, Outlook(3.0, 0.5), 3000.0, 0.0, 10.0, 0.5), kept)
    assert kept.count == 3
    assert len(kept.balances) < 8
    assert kept.depth == 64


def test_a_partial_tick_lowers_no_account() -> None:
    rungs = ladder(Plan("m", 8, POOLS), {}, {})
    kept = Weighed((), ())
    for view in drift(9):
        now = decide.weigh(rungs, view, kept)
        high = decide.higher(rungs, now, kept, 0.5)
        for (a, on), (b, was_on) in zip(whole(rungs, high), whole(rungs, kept), strict=False):
            assert a >= b
            assert on or not was_on
        kept = now
