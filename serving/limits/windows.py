"""Plan windows as a store keeps them: a row per counter, and what an ask does to it. Pure.

A window begins with the first use after the one before ended. What is handed out counts as used, so
that no crash and no race lets in more than the limit.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.limits.base import Ask, Grant


class Row(NamedTuple):
    """One counter's window. `used` holds what was spent and what is handed out."""

    began_ms: int
    length_ms: int
    used: float

    @property
    def ends_ms(self) -> int:
        """When it is over, UTC."""
        return self.began_ms + self.length_ms


def settle(row: Row | None, ask: Ask, now_ms: int) -> tuple[Row | None, Grant]:
    """The row after an ask, and the answer. None where no window has begun."""
    length_ms = round(ask.rule.length_s * 1000)
    if row is None or row.ends_ms <= now_ms:
        # What is told of a window that is over is over with it.
        is_of_old = ask.began_ms != 0
        spent = 0.0 if is_of_old else ask.spent
        if spent <= 0.0:
            return None, Grant(0.0, float(ask.rule.limit))
        age_ms = min(round(ask.age_s * 1000), length_ms - 1)
        row, held = Row(now_ms - age_ms, length_ms, 0.0), 0.0
    elif ask.began_ms not in (0, row.began_ms):
        spent = held = 0.0
    else:
        # Who knew of no window spent in this one, and holds nothing of it.
        spent, held = ask.spent, ask.held if ask.began_ms else 0.0
    used = max(0.0, row.used - held + spent)
    granted = max(0.0, min(ask.want, ask.rule.limit - used))
    row = Row(row.began_ms, length_ms, used + granted)
    return row, Grant(granted, ask.rule.limit - row.used, row.began_ms, _s(row, now_ms))


def known(row: Row, limit: int, now_ms: int) -> Grant:
    """What a process that starts is told of a row."""
    return Grant(0.0, limit - row.used, row.began_ms, _s(row, now_ms))


def _s(row: Row, now_ms: int) -> float:
    return max(0.001, (row.ends_ms - now_ms) / 1e3)
