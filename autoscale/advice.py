"""What people should rent or give back, where no program may: a card of plain lines. Pure.

Of reserved machines the question is what they were needed for: demand of the past days against
what is paid for. Of others, what the controller would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec

from autoscale.policy import Plan, Pool

DAY_MS = 86_400_000
DAYS_MIN, DAYS_MAX = 14, 62
"""Of a record before it speaks of reserved machines, and kept."""
SMOOTH_S = 600.0
"""A peak shorter than this is what APIs are for."""
MONTH_HOURS = 730.5


class Record(msgspec.Struct, frozen=True):
    """A model's demand, in replicas."""

    smooth: float = 0.0
    at_ms: int = 0
    peaks: Mapping[int, float] = {}
    """The highest smoothed demand by day (UTC days since 1970)."""


class Line(msgspec.Struct, frozen=True):
    """One piece of advice."""

    model: str
    pool: str
    do: str
    """rent, return or keep."""
    machines: int
    by: str
    """ISO date; empty: now."""
    saves_micro_a_month: int
    """Negative: costs."""
    text: str


def learnt(record: Record, rate: float, at_ms: int) -> Record:
    """After a tick with so much demand."""
    elapsed_s = (at_ms - record.at_ms) / 1e3
    if not record.at_ms or not 0 < elapsed_s <= SMOOTH_S:
        return msgspec.structs.replace(record, smooth=rate, at_ms=at_ms)
    smooth = record.smooth + (rate - record.smooth) * -math.expm1(-elapsed_s / SMOOTH_S)
    day = at_ms // DAY_MS
    peaks = dict(record.peaks) | {day: max(record.peaks.get(day, 0.0), smooth)}
    kept = {d: peaks[d] for d in sorted(peaks)[-DAYS_MAX:]}
    return Record(smooth, at_ms, kept)


class Term(msgspec.Struct, frozen=True):
    """Of a pool that people look after."""

    ends: date | None
    """None: the month's last day."""
    per_replica: int
    """Machines."""


def reserved(plan: Plan, pool: Pool, record: Record, term: Term, at_ms: int) -> Line | None:
    """Whether reserved machines may be given back when their term ends."""
    midnight_s = plan.utc_offset_minutes * 60  # a month ends at the operator's midnight
    today = datetime.fromtimestamp(at_ms / 1e3 + midnight_s, UTC).date()
    by = term.ends or _month_end(today)
    if by < today:
        text = f"{pool.name}: term_ends {by.isoformat()} is past: say when its present term ends"
        return Line(plan.model, pool.name, "keep", 0, by.isoformat(), 0, text)
    # Not the days of a controller that slept since, nor of a clock that was ahead.
    last = at_ms // DAY_MS
    peaks = [peak for day, peak in record.peaks.items() if last - DAYS_MAX < day <= last]
    if len(peaks) < DAYS_MIN:
        return None
    left = max(peaks)
    for other in plan.pools:  # in the order in which they are filled
        if other.name == pool.name:
            break
        left -= other.most * other.capacity if other.terms == "reserved" else 0.0
    needed = min(pool.most, max(pool.least, math.ceil(max(0.0, left) / pool.capacity)))
    spare = (pool.most - needed) * term.per_replica
    if not spare:
        return None
    saves = round((pool.most - needed) * pool.hour_micro * MONTH_HOURS)
    text = (
        f"return {_machines(spare)} of {pool.name} before {by.isoformat()}: in {len(peaks)} days"
        f" {plan.model} never needed more than {needed} of {pool.most}"
    )
    return Line(plan.model, pool.name, "return", spare, by.isoformat(), saves, text)


def wanted(model: str, pool: Pool, count: int, there: int, per_replica: int) -> Line | None:
    """What to rent or give back now, of a pool that people look after."""
    more = (count - there) * per_replica
    if not more:
        return None
    do = "rent" if more > 0 else "return"
    saves = round(-(count - there) * pool.hour_micro * MONTH_HOURS)
    of = f" ({pool.gpu})" if pool.gpu else ""
    text = f"{do} {_machines(abs(more))} of {pool.name}{of}: {count} wanted, {there} there"
    return Line(model, pool.name, do, abs(more), "", saves, text)


def _machines(count: int) -> str:
    return "one machine" if count == 1 else f"{count} machines"


def _month_end(today: date) -> date:
    """The last day of the month."""
    return (today.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
