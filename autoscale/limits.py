"""What bounds a wish: schedule, steps per tick, hours already paid, money over all models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from autoscale import clocks
from autoscale.decide import View, saved_per_rent
from autoscale.ladder import Rung, usable
from autoscale.memory import Memory, ModelMemory
from autoscale.policy import Budget, Plan, Policy, Pool, Window
from autoscale.swaps import Room, some

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 1440
WEEK_DAYS: Final = 7
THURSDAY: Final = 3
"""1970-01-01."""
HOUR_MS: Final = 3_600_000
RELEASE_MS: Final = 180_000
"""A replica billed by started hours is given back in the last three minutes of one: late enough to
use what is paid, early enough that the provider's clock does not start the next."""


def bounds(plan: Plan, at_ms: int) -> tuple[int, int]:
    """Least and most replicas now: pools' own, or those of the schedule. Of those that serve
    everybody: a tenant's own pool is held at its least, beside them."""
    least, most = _of_pools(plan)
    if not plan.windows:
        return least, most
    minutes = at_ms // MINUTE_MS + plan.utc_offset_minutes
    day, minute = minutes // DAY_MINUTES, minutes % DAY_MINUTES
    weekday = (day + THURSDAY) % WEEK_DAYS
    for window in plan.windows:
        if _holds(window, weekday, minute):
            least = max(least, window.least)
            most = most if window.most is None else min(most, window.most)
    return min(least, most), most


@lru_cache(256)
def _of_pools(plan: Plan) -> tuple[int, int]:
    pools = usable(plan)
    most = sum(pool.most for pool in pools)
    return min(sum(pool.least for pool in pools), most), most


def _holds(window: Window, weekday: int, minute: int) -> bool:
    start, end = window.from_minute, window.until_minute
    if start < end:
        return weekday in window.days and start <= minute < end
    yesterday = (weekday - 1) % WEEK_DAYS
    return (weekday in window.days and minute >= start) or (
        yesterday in window.days and minute < end
    )


def stepped(plan: Plan, before: int, wanted: int) -> int:
    """The wish, no further from `before` than one tick may go."""
    if before == wanted:
        return wanted
    return max(before - plan.down_max, min(wanted, before + plan.up_max))


def kept_hours(pool: Pool, rented_ms: tuple[int, ...], had: int, fewer: int, at_ms: int) -> int:
    """How many of `fewer` replicas to give back may go now. One that was there before us has no
    hour that we know: it goes at once, else it would be paid for ever."""
    if not pool.is_hourly:
        return fewer
    ending = sum(1 for since in rented_ms if HOUR_MS - (at_ms - since) % HOUR_MS <= RELEASE_MS)
    return min(fewer, ending + max(0, had - len(rented_ms)))


def kept(
    plan: Plan, model: ModelMemory, wanted: Mapping[str, int], at_ms: int
) -> Mapping[str, int]:
    """`wanted` by pool: a tenant's own stand as agreed, and started hours are used up."""
    for pool in plan.pools:
        name = pool.name
        had, has = model.wanted.get(name, 0), wanted.get(name, 0)
        if pool.tenant:
            wanted = {**wanted, name: pool.least}
        elif had > has:
            may = kept_hours(pool, model.rented_ms.get(name, ()), had, had - has, at_ms)
            wanted = {**wanted, name: had - may}
    return some(wanted)


class Wish(msgspec.Struct, frozen=True):
    """Replicas of one model before money is counted over all."""

    model: str
    count: int
    least: int
    rungs: tuple[Rung, ...]
    view: View
    """What a rung is worth hangs on it; reckoned where money is short."""


def shared(wishes: Sequence[Wish], budget: Budget, day_micro: float) -> Mapping[str, int]:
    """Counts within the budget: what saves least for its rent is given up first, never what is
    paid anyway, and a model's minimum last."""
    counts = {wish.model: wish.count for wish in wishes}
    while over(wishes, counts, budget, day_micro):
        open_ = [w for w in wishes if _top(w, counts[w.model]) is not None]
        if not open_:
            break
        worst = min(open_, key=lambda w: (counts[w.model] <= w.least, _worth(w, counts[w.model])))
        counts[worst.model] -= 1
    return counts


def charged(memory: Memory, policy: Policy, at_ms: int, elapsed_s: float) -> float:
    """The day's rent with that of the tick."""
    micro = 0.0
    for plan in policy.plans:
        wanted = memory.models[plan.model].wanted if plan.model in memory.models else {}
        for pool in plan.pools:
            if pool.terms != "reserved" and not pool.tenant:
                micro += wanted.get(pool.name, 0) * pool.hour_micro * elapsed_s / 3600
    return micro + (0.0 if clocks.is_new_day(memory, at_ms, elapsed_s) else memory.day_micro)


def over(
    wishes: Sequence[Wish], counts: Mapping[str, int], budget: Budget, day_micro: float
) -> bool:
    """Whether the counts cost more than is allowed. What is left of a day must last an hour at
    least, so the day's bound is approached and never passed."""
    left = room(wishes, counts, budget, day_micro)
    return left.replicas < 0 or left.hour_micro < -1


def room(
    wishes: Sequence[Wish], counts: Mapping[str, int], budget: Budget, day_micro: float
) -> Room:
    """What the budget leaves beside the counts; below 0 where they cost more."""
    rented = [rung for w in wishes for rung in w.rungs[: counts[w.model]] if not rung.is_sunk]
    caps = [cap for cap in (budget.hour_micro_max,) if cap is not None]
    if budget.day_micro_max is not None:
        caps.append(max(0, budget.day_micro_max - round(day_micro)))
    hour_micro = sum(rung.micro_per_s for rung in rented) * 3600
    most = float("inf") if budget.replicas_max is None else budget.replicas_max
    return Room(most - len(rented), min(caps, default=float("inf")) - hour_micro)


def _top(wish: Wish, count: int) -> Rung | None:
    """The rented replica that would go first."""
    if not count or count > len(wish.rungs):
        return None
    rung = wish.rungs[count - 1]
    return None if rung.is_sunk else rung


def _worth(wish: Wish, count: int) -> float:
    return saved_per_rent(wish.rungs[count - 1], wish.view) if count <= len(wish.rungs) else 0.0
