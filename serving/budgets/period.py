"""When a budget's period begins and ends, UTC milliseconds. Pure but for the zone's own rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.worded import Worded
from serving.budgets.settings import Period

DEFAULT = "Asia/Shanghai"
_HOUR_MS = 3_600_000


class Span(NamedTuple):
    """One period, [start, end)."""

    start_ms: int
    end_ms: int
    day: date
    """Its first, where the budget is: the day whose exchange rate counts."""


@lru_cache(100)
def zone(name: str) -> tzinfo:
    """A zone by its IANA name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name == DEFAULT:  # a machine without zone files: China has had no summer time since 1991
            return timezone(timedelta(hours=8), DEFAULT)
        raise ValueError(
            Worded(
                "budget.zone",
                "no time zone {name} on this machine: Asia/Shanghai, UTC, ...",
                name=repr(name),
            )
        ) from None


def span(period: Period, time_zone: str, at_ms: int) -> Span:
    """The period that holds a moment."""
    here = zone(time_zone)
    local = datetime.fromtimestamp(at_ms / 1e3, UTC).astimezone(here)
    if period == "hour":
        # By the offset, not by the wall clock: an hour is an hour, also when clocks are put back.
        offset_ms = round((local.utcoffset() or timedelta(0)).total_seconds() * 1e3)
        start_ms = (at_ms + offset_ms) // _HOUR_MS * _HOUR_MS - offset_ms
        return Span(start_ms, start_ms + _HOUR_MS, local.date())
    first = local.date() if period == "day" else local.date().replace(day=1)
    after = first + timedelta(days=1 if period == "day" else 32)
    after = after if period == "day" else after.replace(day=1)
    return Span(_midnight_ms(first, here), _midnight_ms(after, here), first)


def _midnight_ms(day: date, here: tzinfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=here).timestamp() * 1e3)
