"""Two runs held against each other, with intervals of confidence. Pure but for its seed.

Requests of one moment share the target's state, so single rows are no independent draws: blocks of
time are drawn instead (block bootstrap, Künsch 1989). A run too short for blocks gets wide
intervals, as it should.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.percentiles import quantiles
from benchmarks.load.seen import Seen
from benchmarks.load.summary import is_kept
from benchmarks.load.values import Scenario
from models.worded import Worded

DRAWS = 1000
BLOCKS = 30
BLOCKS_MIN = 5
ROWS_MAX = 50_000
"""Of a run, for the intervals: every k-th row beyond."""
LEVEL = 0.95
BEYOND = 3
"""Values beyond a percentile, at least, for it to have an interval: a p99 needs 300."""
SHARE = "share"
COLUMNS = ("first", "visible", "token", "complete", "kept", "failed")
Floats: TypeAlias = NDArray[Any]


class Compared(msgspec.Struct, frozen=True):
    """One figure in both runs."""

    name: str
    unit: str
    a: float
    b: float
    effect: float
    """b / a of times, b - a of shares."""
    low: float
    high: float
    """Of the effect; so sure as `LEVEL` says."""
    is_higher_better: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `same` as far as can be told, or `unknown`."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return "unknown"
        none = 0.0 if self.unit == SHARE else 1.0
        if self.low <= none <= self.high:
            return "same"
        return "better" if (self.low > none) == self.is_higher_better else "worse"


Measure: TypeAlias = Callable[[Floats], float]


class _Asked(NamedTuple):
    """A figure to compare."""

    name: str
    unit: str
    column: str
    measure: Measure
    is_higher_better: bool = False
    needed: float = 0.0
    """Values, at least."""


def compare(
    a: tuple[Scenario, Sequence[Seen]], b: tuple[Scenario, Sequence[Seen]], seed: int = 1
) -> list[Compared]:
    """Every figure that both runs have."""
    chance = np.random.default_rng(seed)
    columns = [_columns(*run) for run in (a, b)]
    found = []
    for name, unit, column, measure, is_higher, needed in _measures():
        drawn = []
        values = []
        for run in columns:
            table = run[COLUMNS.index(column)]
            values.append(measure(table[1]))
            is_enough = table[1].size >= needed
            drawn.append(_draws(table, measure, chance) if is_enough else np.asarray([math.nan]))
        if math.isnan(values[0]) or math.isnan(values[1]):
            continue
        effects = np.asarray([_effect(unit, x, y) for x, y in zip(*drawn, strict=False)])
        edge = (1 - LEVEL) / 2
        known = effects[np.isfinite(effects)]
        low, high = (
            float(np.quantile(known, share)) if known.size else math.nan
            for share in (edge, 1 - edge)
        )
        one, other = values
        found.append(Compared(name, unit, one, other, _effect(unit, one, other), low, high,
                              is_higher))  # fmt: skip
    return found


def differences(a: Scenario, b: Scenario) -> list[str]:
    """What the two runs were not asked alike; then their figures say little of the target."""
    one, other = (msgspec.to_builtins(s) for s in (a, b))
    return [
        Worded("compare.differs", "{key}: {a} against {b}", key=key, a=str(one[key]),
               b=str(other[key]))
        for key in one
        if key not in ("title", "title_zh", "price") and one[key] != other[key]
    ]  # fmt: skip


def _measures() -> list[_Asked]:
    def at(share: float) -> Measure:
        return lambda v: quantiles(v, [share])[0] * 1e3 if v.size else math.nan

    def mean(values: Floats) -> float:
        return float(values.mean()) if values.size else math.nan

    found = [
        _Asked("goodput", SHARE, "kept", mean, is_higher_better=True),
        _Asked("failed", SHARE, "failed", mean),
    ]
    for column, words in (("visible", "first visible token"), ("token", "per token"),
                          ("complete", "complete")):  # fmt: skip
        for p in (0.5, 0.95, 0.99):
            needed = round(BEYOND / (1 - p), 6)
            found.append(_Asked(f"{words} p{p * 100:g}", "ms", column, at(p), needed=needed))
    return found


def _columns(scenario: Scenario, rows: Sequence[Seen]) -> list[tuple[Floats, Floats]]:
    """(block of each value, values) by measure."""
    counted = [r for r in rows if r.due_s >= scenario.warmup_s]
    counted = counted[:: max(1, -(-len(counted) // ROWS_MAX))]
    due = np.asarray([r.due_s for r in counted])
    span = float(due.max() - due.min()) if due.size else 0.0
    width = max(1e-9, span / BLOCKS)
    blocks = ((due - due.min()) / width).astype(int).clip(0, BLOCKS - 1) if due.size else due
    values = [
        [(r.first_s - r.due_s) if r.is_good and r.first_s >= 0 else math.nan for r in counted],
        [(r.visible_s - r.due_s) if r.is_good and r.visible_s >= 0 else math.nan for r in counted],
        [r.token_s if r.is_good and r.token_s >= 0 else math.nan for r in counted],
        [(r.done_s - r.due_s) if r.is_good else math.nan for r in counted],
        [float(is_kept(r, scenario.kinds[r.kind].goal)) for r in counted],
        [float(not r.is_good) for r in counted],
    ]
    found = []
    for column in values:
        data = np.asarray(column, dtype=float)
        has = ~np.isnan(data)
        found.append((blocks[has], data[has]))
    return found


def _draws(table: tuple[Floats, Floats], measure: Measure, chance: np.random.Generator) -> Floats:
    """The measure over blocks drawn with replacement."""
    blocks, values = table
    parts = [values[blocks == k] for k in np.unique(blocks)]
    if len(parts) < BLOCKS_MIN:
        return np.full(DRAWS, math.nan)
    count = DRAWS if values.size <= 10_000 else DRAWS // 5
    found = [
        measure(np.concatenate([parts[k] for k in chance.integers(0, len(parts), len(parts))]))
        for _ in range(count)
    ]
    return np.resize(np.asarray(found), DRAWS)


def _effect(unit: str, a: float, b: float) -> float:
    if unit == SHARE:
        return b - a
    return b / a if a > 0 else math.nan
