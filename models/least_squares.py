"""Linear least squares with coefficients that are not negative, in plain Python. Pure.

For a handful of unknowns and up to some hundred observations; the gateway's install has no numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

RELATIVE_PIVOT_MIN = 1e-12
"""Below it a column is a mixture of the others, and its coefficient is left at zero."""


class Solution(msgspec.Struct, frozen=True):
    """The coefficients, in the order of the columns, and what they leave unexplained."""

    coefficients: tuple[float, ...]
    mean_error: float
    """Mean of |predicted / observed - 1|."""
    max_error: float


def solve(rows: Sequence[Sequence[float]], observed: Sequence[float]) -> Solution:
    """Coefficients that minimise the sum of squares of predicted / observed - 1. Observations must
    be above zero. Raises ValueError when there are fewer rows than columns."""
    width = len(rows[0]) if rows else 0
    if len(rows) < width or not rows:
        raise ValueError(f"{len(rows)} observations for {width} coefficients")
    relative = [[x / y for x in row] for row, y in zip(rows, observed, strict=True)]
    active = list(range(width))
    found = [0.0] * width
    while active:
        solved = _normal([[row[i] for i in active] for row in relative])
        worst = min(range(len(active)), key=lambda i: solved[i])
        if solved[worst] >= 0.0:
            for i, value in zip(active, solved, strict=True):
                found[i] = value
            break
        del active[worst]
    errors = [abs(sum(c * x for c, x in zip(found, row, strict=True)) - 1.0) for row in relative]
    return Solution(tuple(found), sum(errors) / len(errors), max(errors))


def _normal(rows: list[list[float]]) -> list[float]:
    """Solve (R'R) c = R'1 by elimination with pivots; columns are scaled to unit length."""
    width = len(rows[0])
    lengths = [sum(row[i] ** 2 for row in rows) ** 0.5 or 1.0 for i in range(width)]
    scaled = [[row[i] / lengths[i] for i in range(width)] for row in rows]
    matrix = [
        [sum(row[i] * row[j] for row in scaled) for j in range(width)]
        + [sum(row[i] for row in scaled)]
        for i in range(width)
    ]
    order = list(range(width))
    for k in range(width):
        pivot = max(range(k, width), key=lambda i: abs(matrix[i][k]))
        matrix[k], matrix[pivot] = matrix[pivot], matrix[k]
        if abs(matrix[k][k]) < RELATIVE_PIVOT_MIN:
            matrix[k][k] = float("inf")
        for i in range(k + 1, width):
            factor = matrix[i][k] / matrix[k][k]
            for j in range(k, width + 1):
                matrix[i][j] -= factor * matrix[k][j]
    solved = [0.0] * width
    for k in reversed(order):
        rest = sum(matrix[k][j] * solved[j] for j in range(k + 1, width))
        solved[k] = (matrix[k][width] - rest) / matrix[k][k]
    return [value / length for value, length in zip(solved, lengths, strict=True)]
