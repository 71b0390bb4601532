"""What came within the counted time of a run, a second. Pure.

A target that is too slow answers on long after the last request was sent: what came then says
nothing of how much it does in a second. So answers count by when they ended, and an answer's
tokens by when they came, whenever it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.load.seen import Seen


class Pace(NamedTuple):
    """Each a second."""

    answers: float
    """Whole ones that ended in that time."""
    tokens: float
    """Of whole answers, as they came."""


def pace(rows: Sequence[Seen], start_s: float, end_s: float) -> Pace:
    """Of all rows of a run, those of the warm-up too, between two moments of it."""
    good = [row for row in rows if row.is_good]
    seconds = end_s - start_s
    if seconds <= 0:
        return Pace(0.0, 0.0)
    ended = sum(start_s <= row.done_s < end_s for row in good)
    tokens = sum(row.completion_tokens * _within(row, start_s, end_s)
                 for row in good if row.completion_tokens > 0)  # fmt: skip
    return Pace(ended / seconds, tokens / seconds)


def _within(row: Seen, start_s: float, end_s: float) -> float:
    """Share of an answer that came in that time: evenly from its first token to its last, or all
    at once at its end."""
    if row.last_s > row.first_s >= 0:
        inside = min(row.last_s, end_s) - max(row.first_s, start_s)
        return max(0.0, inside) / (row.last_s - row.first_s)
    return float(start_s <= row.done_s < end_s)
