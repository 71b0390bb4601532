"""Whether a series grows: its slope, and how sure one can be of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

BLOCK_S = 10.0
"""Neighbouring readings are not independent; blocks of this length nearly are (0134)."""
DRAWS = 1000


class Slope(NamedTuple):
    """Per second, with its interval of 95 %."""

    middle: float
    low: float
    high: float


def line(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line; 0 where there is no line."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def fitted(points: Sequence[tuple[float, float]], seed: int = 8) -> Slope:
    """Slope and interval: whole blocks of time are drawn again and again. Raises ValueError when
    there are fewer than four blocks."""
    blocks: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        blocks.setdefault(int(x // BLOCK_S), []).append((x, y))
    if len(blocks) < 4:
        raise ValueError(f"{len(blocks)} blocks of {BLOCK_S:g} s: too short to tell a slope")
    drawn, rng = list(blocks.values()), random.Random(seed)
    slopes = sorted(
        line([point for _ in drawn for point in rng.choice(drawn)]) for _ in range(DRAWS)
    )
    return Slope(line(points), slopes[DRAWS // 40], slopes[-DRAWS // 40])
