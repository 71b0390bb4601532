"""How a simulated run went, for plots: a point every few minutes, of running sums. Bounded."""

from __future__ import annotations

import msgspec

POINTS_MAX = 1500


class Point(msgspec.Struct, frozen=True):
    """The mean of some minutes that ended at `at_s`, seconds from the run's start."""

    at_s: float
    demand: float
    """In replicas."""
    ready: float
    queued: float
    """Calls held; 0 in a fluid run, where nothing queues."""
    own_share: float
    """Of the work."""
    kept: float
    """Share of the work that was served, or of the calls whose answer kept the objective."""


class Recorder:
    """Told every tick."""

    def __init__(self, length_s: float, tick_s: float) -> None:
        each_s = max(300.0, length_s / POINTS_MAX)
        self._ticks = max(1, round(each_s / tick_s))
        self._sums = [0.0] * 7
        self._count = 0
        self.points: list[Point] = []

    def note(self, at_s: float, level: tuple[float, float, float], done: tuple[float, ...]) -> None:
        """`level`: demand, ready, queued; `done` in this tick: own work, all work, kept, of how
        many."""
        sums = self._sums
        for k, value in enumerate((*level, *done)):
            sums[k] += value
        self._count += 1
        if self._count < self._ticks:
            return
        n, (demand, ready, queued, own, work, kept, calls) = self._count, sums
        self.points.append(
            Point(at_s, demand / n, ready / n, queued / n, own / work if work else 1.0,
                  kept / calls if calls else 1.0)
        )  # fmt: skip
        self._sums, self._count = [0.0] * 7, 0
