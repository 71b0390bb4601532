"""Percentiles, and the course of a run in stretches. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.seen import Gaps, Seen

SHARES = (0.5, 0.9, 0.95, 0.99)


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds; -1 where there is no value."""

    p50: float = -1.0
    p90: float = -1.0
    p95: float = -1.0
    p99: float = -1.0
    count: int = 0


class Second(msgspec.Struct, frozen=True):
    """A stretch of the run."""

    at_s: float
    sent: int
    good: int
    failed: int
    under_way: int
    first_p50_ms: float
    first_p95_ms: float


def spread(values: Sequence[float]) -> Spread:
    """Percentiles of seconds, in milliseconds; what did not happen (below 0) is left out."""
    happened = np.asarray([v for v in values if v >= 0])
    if not happened.size:
        return Spread()
    values = quantiles(happened, SHARES)
    return _spread([round(v * 1e3, 3) for v in values], int(happened.size))


def quantiles(values: NDArray[Any], shares: Sequence[float]) -> list[float]:
    """Values that occurred: no mean of two neighbours."""
    found: NDArray[Any] = np.asarray(np.quantile(values, shares, method="inverted_cdf"))
    return [float(v) for v in found]


def _spread(values: Sequence[float], count: int) -> Spread:
    p50, p90, p95, p99 = values
    return Spread(p50, p90, p95, p99, count)


def spread_of_gaps(gaps: Gaps) -> Spread:
    found = [gaps.quantile_s(share) for share in SHARES]
    scaled = [round(v * 1e3, 3) if v >= 0 else -1.0 for v in found]
    return _spread(scaled, sum(gaps.counts))


def since(row: Seen, at_s: float) -> float:
    return at_s - row.due_s if at_s >= 0 else -1.0


def course(rows: Sequence[Seen], end_s: float, stretches: int = 60) -> list[Second]:
    """The run in at most so many stretches of whole seconds."""
    each = max(1.0, float(np.ceil(end_s / stretches)))
    count = max(1, int(np.ceil(end_s / each)))
    bins: list[list[Seen]] = [[] for _ in range(count)]
    for row in rows:
        bins[min(count - 1, int(row.due_s / each))].append(row)
    begun = np.sort(np.asarray([r.sent_s for r in rows]))
    ended = np.sort(np.asarray([r.done_s for r in rows]))
    found = []
    for k, part in enumerate(bins):
        at = (k + 1) * each
        first = spread([since(r, r.visible_s) for r in part])
        under_way = int(np.searchsorted(begun, at) - np.searchsorted(ended, at))
        good = sum(r.is_good for r in part)
        found.append(Second(k * each, len(part), good, len(part) - good, under_way,
                            first.p50, first.p95))  # fmt: skip
    return found
