"""Machines ordered beside those that are needed, while no API takes what these would do. Pure.

How long a start takes differs from one to the next, and until a machine is there its work is
refused. Of several orders the first counts, so one or two more are asked for, waited for, and taken
back when as many as are needed are ready. They are no part of the accounts: these say what is worth
keeping, a spare is worth its haste. Never of a pool that bills started hours.
"""

from __future__ import annotations

from typing import Final

from autoscale.decide import UNSERVED_RATIO
from autoscale.ladder import Rung
from autoscale.policy import Plan

HASTES: Final = ((0.22, 0.78), (0.12, 0.66))
"""By spare: by how much sooner the first of all orders comes for it, and how long it is rented for
that; shares of the mean time to ready. Least of two and of three gamma draws whose spread is 0.4
of their mean, as the published benchmark has it. ASSUMED: providers do not publish spreads."""


def spares(
    plan: Plan, rungs: tuple[Rung, ...], rate: float, count: int, before: tuple[int, int]
) -> int:
    """How many beside the `count` wanted, where `rate` comes in and nobody else takes it. `before`
    says how many are ready, and how many were wanted at the last tick: what was ordered so is
    waited for though a tick brought less."""
    ready, wanted = before
    if ready >= min(count, len(rungs)):
        return 0
    missing = rate - rungs[ready].below
    worth = sum(missing * UNSERVED_RATIO * sooner >= rented for sooner, rented in HASTES)
    hourly = {pool.name for pool in plan.pools if pool.is_hourly}
    free = [rung for rung in rungs[count : count + len(HASTES)] if rung.pool not in hourly]
    return min(max(worth, wanted - count), len(free))
