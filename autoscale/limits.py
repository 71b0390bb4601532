"""What bounds a wish: schedule, steps per tick, hours already paid, money over all models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from autoscale.decide import View, saved_per_rent
from autoscale.ladder import Rung
from autoscale.policy import Budget, Plan, Pool, Window

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
    """Least and most replicas now: pools' own, or those of the schedule."""
    least, most = _own(plan)
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
def _own(plan: Plan) -> tuple[int, int]:
    """Of its pools, whatever the hour."""
    most = sum(pool.most for pool in plan.pools)
    return min(most, sum(pool.least for pool in plan.pools)), most


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


def kept_hours(pool: Pool, rented_ms: tuple[int, ...], fewer: int, at_ms: int) -> int:
    """How many of `fewer` replicas to give back may go now."""
    if not pool.is_hourly:
        return fewer
    ending = sum(1 for since in rented_ms if HOUR_MS - (at_ms - since) % HOUR_MS <= RELEASE_MS)
    return min(fewer, ending)


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


def over(
    wishes: Sequence[Wish], counts: Mapping[str, int], budget: Budget, day_micro: float
) -> bool:
    """Whether the counts cost more than is allowed. What is left of a day must last an hour at
    least, so the day's bound is approached and never passed."""
    rented = [rung for w in wishes for rung in w.rungs[: counts[w.model]] if not rung.is_sunk]
    caps = [cap for cap in (budget.hour_micro_max,) if cap is not None]
    if budget.day_micro_max is not None:
        caps.append(max(0, budget.day_micro_max - round(day_micro)))
    hour_micro = sum(rung.micro_per_s for rung in rented) * 3600
    is_many = budget.replicas_max is not None and len(rented) > budget.replicas_max
    return is_many or any(hour_micro > cap + 1 for cap in caps)


def _top(wish: Wish, count: int) -> Rung | None:
    """The rented replica that would go first."""
    if not count or count > len(wish.rungs):
        return None
    rung = wish.rungs[count - 1]
    return None if rung.is_sunk else rung


def _worth(wish: Wish, count: int) -> float:
    return saved_per_rent(wish.rungs[count - 1], wish.view) if count <= len(wish.rungs) else 0.0
