"""Values to places in a plot, and round numbers along the way. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

TICKS_MIN = 3


class Axis(msgspec.Struct, frozen=True):
    """Values to places."""

    low: float
    high: float
    is_log: bool = False
    label: str = ""
    words: Callable[[float], str] = lambda value: short(value)

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high one; beyond is cut off."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round values along it."""
        if self.is_log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            each = 1 if last - first < 8 else 2
            powers_ = [10.0**k for k in range(first, last + 1, each)]
            for parts in ((1,), (1, 2, 5)):  # where powers alone are too few
                found = [p * part for p in powers_ for part in parts]
                found = [t for t in found if self.low * 0.999 <= t <= self.high * 1.001]
                if len(found) >= TICKS_MIN:
                    break
            return found
        step = nice((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= step * 0.999)


def linear(values: Sequence[float], label: str = "", low: float | None = 0.0) -> Axis:
    """An axis over the values, from `low` or the least."""
    least = min(values, default=0.0) if low is None else min(low, min(values, default=0.0))
    most = max(values, default=1.0)
    step = nice((most - least) / 5 or 1.0)
    high = math.ceil(most / step - 1e-9) * step
    first = math.floor(least / step + 1e-9) * step
    return Axis(first, high if high > first else first + step, label=label)


def powers(values: Sequence[float], label: str = "") -> Axis:
    """A logarithmic axis over the values above 0, to round numbers at both ends."""
    least = min((v for v in values if v > 0), default=1.0)
    most = max(max(values, default=1.0), least)
    low, high = nice(least * 1.001), nice(most)
    while low > least:
        low /= 2
    return Axis(low, high if high > low else 10 * low, is_log=True, label=label)


def short(value: float) -> str:
    """`1.2 M`."""
    for size, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
