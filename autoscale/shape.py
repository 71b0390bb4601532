"""What a trace says of a week: weight by hour and day, spread, the mean request. Needs the extra
`reports`.

A trace holds rows per request or per bin; where it has a column `requests`, rows are bins.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from autoscale.arrivals import Asked, Floats, TraceError, counted, load
from models.worded import Worded

Places: TypeAlias = NDArray[np.int64]
HOUR_BINS = 360
DAY_H = 24
WEEK_DAYS = 7


class Shape(msgspec.Struct, frozen=True):
    """Weights against the mean."""

    hours: tuple[float, ...]
    days: tuple[float, ...]
    spread: float
    """Deviation of demand over a minute from hour x day, against it."""
    prompt: int
    output: int
    """Tokens of the mean request."""
    requests_per_month: float
    source: str


def of_trace(wish: Asked) -> Shape:
    """The week of a trace; one shorter than a day says nothing of hours, one shorter than a week
    nothing of days. Raises TraceError."""
    trace, requests = load(wish), counted(wish)
    if requests < 1:
        raise TraceError(Worded("trace.none", "{path}: no requests", path=wish.path))
    demand = trace.prompt + trace.output
    hours = demand[: demand.size // HOUR_BINS * HOUR_BINS].reshape(-1, HOUR_BINS)
    count = hours.shape[0]
    places: Places = np.arange(count) + int(trace.start_s // 3600)
    hour: Places = places % DAY_H
    day: Places = places // DAY_H % WEEK_DAYS
    by_hour = _means(hours.mean(axis=1), hour, DAY_H, count >= DAY_H)
    by_day = _means(hours.mean(axis=1), day, WEEK_DAYS, count >= DAY_H * WEEK_DAYS)
    spread = 0.0
    if count and demand.mean() > 0:
        fit = by_hour[hour] * by_day[day] * hours.mean()
        strays = hours[fit > 0] / fit[fit > 0][:, None] - 1.0
        spread = float(np.sqrt((strays**2).mean()))
    seconds = demand.size * 10.0
    return Shape(
        hours=tuple(round(float(x), 4) for x in by_hour),
        days=tuple(round(float(x), 4) for x in by_day),
        spread=round(spread, 4),
        prompt=max(1, round(float(trace.prompt.sum()) / requests)),
        output=max(1, round(float(trace.output.sum()) / requests)),
        requests_per_month=requests / seconds * 365 / 12 * 86_400,
        source=f"trace {trace.name}, {seconds / 86_400:.1f} days, {requests:.0f} requests",
    )


def _means(values: Floats, places: Places, size: int, is_known: bool) -> Floats:
    """Mean by place, against the mean of all; flat where the trace is too short to tell."""
    if not is_known or not values.mean():
        return np.ones(size)
    sums = np.bincount(places, values, size)
    found = sums / np.maximum(np.bincount(places, minlength=size), 1)
    return found / found.mean()
