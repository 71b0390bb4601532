"""How much demand there will be when a replica ordered now is ready, and how far off that may be.

A level (the recent past, weighted by age) moved by what the same time of earlier days was above or
below now; the error is learnt from what earlier forecasts missed by. Advice to `decide`, no more.
Pure.
"""

from __future__ import annotations

import math
from math import erf, exp

import msgspec

from autoscale.memory import Trend

LEVEL_S = 900.0
"""Memory of the level."""
ERROR_S = 7200.0
"""Memory of the error: long beside one burst, short beside a change of habits."""
SLOT_MS = 600_000
SLOTS = 144
SEASON_WEIGHT = 0.5
"""Of the newest day in a time of day's mean."""
PROMISES = 32
"""Forecasts that wait to be compared with what came."""
ROOT_2 = math.sqrt(2)
ROOT_2_PI = math.sqrt(2 * math.pi)


class Outlook(msgspec.Struct, frozen=True):
    """Demand in replicas at some time: a normal distribution, cut off at 0."""

    mean: float
    deviation: float

    def share(self, below: float, width: float) -> float:
        """Expected part of the demand between `below` and `below + width`."""
        return self.above(below) - self.above(below + width)

    def above(self, level: float) -> float:
        """Expected demand above a level."""
        gap, deviation = self.mean - level, self.deviation
        if deviation <= 1e-9:
            return max(0.0, gap)
        z = gap / deviation
        density = exp(-z * z / 2) / ROOT_2_PI
        return gap * (1 + erf(z / ROOT_2)) / 2 + deviation * density


def learn(trend: Trend, rate: float, at_ms: int, elapsed_s: float, lead_s: float) -> Trend:
    """After a tick of `elapsed_s` with `rate` replicas' demand; `lead_s` is the time to ready."""
    slot = at_ms // SLOT_MS % SLOTS
    if not trend.is_started:
        return Trend(level=rate, error=max(rate, 0.25), is_started=True, slot=slot,
                     season=(-1.0,) * SLOTS)  # fmt: skip
    level = trend.level + (rate - trend.level) * -math.expm1(-elapsed_s / LEVEL_S)
    error, kept = trend.error, trend.promises
    while kept and kept[0][0] <= at_ms:
        miss = rate - kept[0][1]
        weight = -math.expm1(-lead_s / PROMISES * 2 / ERROR_S)
        error += (miss * miss - error) * weight
        kept = kept[1:]
    season, slot_sum, slot_s = trend.season, trend.slot_sum, trend.slot_s
    if slot != trend.slot:  # the ten minutes are over and go into the day's shape
        season, slot_sum, slot_s = _season(trend), 0.0, 0.0
    if len(kept) < PROMISES:
        due_ms = at_ms + round(lead_s * 1e3)
        if not kept or due_ms - kept[-1][0] >= lead_s * 2e3 / PROMISES:
            kept = (*kept, (due_ms, _mean(season, level, slot, due_ms)))
    slot_sum, slot_s = slot_sum + rate * elapsed_s, slot_s + elapsed_s
    return Trend(level, error, True, season, slot, slot_sum, slot_s, kept)


def outlook(trend: Trend, at_ms: int, ahead_s: float) -> Outlook:
    """Demand `ahead_s` from now."""
    slot, then_ms = at_ms // SLOT_MS % SLOTS, at_ms + round(ahead_s * 1e3)
    return Outlook(_mean(trend.season, trend.level, slot, then_ms), math.sqrt(trend.error))


def _mean(season: tuple[float, ...], level: float, slot: int, then_ms: int) -> float:
    if not season:
        return level
    here, there = season[slot], season[then_ms // SLOT_MS % SLOTS]
    if here < 0.0 or there < 0.0:
        return level
    mean = level + there - here
    return mean if mean > 0.0 else 0.0


def _season(trend: Trend) -> tuple[float, ...]:
    """The day's shape with the ten minutes that are over."""
    if trend.slot_s <= 0.0:
        return trend.season
    season = list(trend.season)
    mean, old = trend.slot_sum / trend.slot_s, season[trend.slot]
    season[trend.slot] = mean if old < 0.0 else old + SEASON_WEIGHT * (mean - old)
    return tuple(season)
