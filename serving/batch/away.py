"""Which lines go to a third party's batch price. Pure.

Idle engines of ours come first. What they will not have done when the last hours begin is handed
on while there is time for the slower price; in the last hours placement compares all prices itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from serving.batch.planning import Asked, Release, Standby, is_owned, is_stopped, release
from serving.batch.settings import BatchSettings
from serving.placement import score
from serving.records import FleetView, Offering

BUCKET_S: Final = 60.0
BUCKETS: Final = 60
HOLD_S_MAX: Final = 3600.0
USUAL_TOKENS: Final = 1000
"""Of a prompt, to compare prices."""


class Pace:
    """Lines that ended on engines of ours, by the minute, for an hour."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._buckets: deque[tuple[int, int]] = deque(maxlen=BUCKETS)

    def ended(self, now_s: float) -> None:
        """One ended."""
        at = int(now_s // BUCKET_S)
        if self._buckets and self._buckets[-1][0] == at:
            at, count = self._buckets.pop()
            self._buckets.append((at, count + 1))
        else:
            self._buckets.append((at, 1))

    def per_s(self, now_s: float, least_s: float) -> float | None:
        """Lines a second of late; None before it was watched for `least_s`."""
        watched_s = now_s - self._since_s
        if watched_s < least_s:
            return None
        first = int(now_s // BUCKET_S) - BUCKETS
        count = sum(count for at, count in self._buckets if at > first)
        return count / max(1.0, min(watched_s, BUCKETS * BUCKET_S))


class Home(NamedTuple):
    """What is known of a batch when its lines are shared out."""

    left: int
    """Lines that have not ended, without those that are away."""
    away: int
    """Lines under way at a batch price."""
    per_s: float | None
    """Lines that engines of ours end in a second; None where nobody knows."""


def split(
    asked: Asked, home: Home, standby: Standby, given: BatchSettings, view: FleetView
) -> tuple[Release, ...]:
    """What may start now: at home, and at a batch price (its pin is the offering's id)."""
    here = release(asked, given, view, standby.now_s)
    there = away(asked, home, standby.rows, given, view)
    if there.pin and not is_owned(asked, view):
        return there, here._replace(is_rest=True)  # of others the ordinary price is for later
    return here, there


def away(
    asked: Asked, home: Home, rows: Sequence[Offering], given: BatchSettings, view: FleetView
) -> Release:
    """How many lines more go to a batch price. `rows`: those that the batch's key may use."""
    if not asked.may_overflow or (view.stops is not None and is_stopped(asked, view.stops)):
        return Release(0, "", "may not leave")
    spare_s = asked.left_s - given.api_before_s
    fitting = [row for row in rows if row.first_token_s <= asked.left_s]
    if not rows:
        return Release(0, "", "no batch price")
    if spare_s <= 0.0 or not fitting:
        return Release(0, "", "no time")
    row = min(fitting, key=_price)
    many = home.left
    if is_owned(asked, view):
        if asked.left_s > given.away_before_s:
            return Release(0, row.id, "idle engines have time")
        if home.per_s is None:
            return Release(0, row.id, "not measured yet")
        many = home.left - int(home.per_s * spare_s)
    lines = max(0, min(many, given.away_of_batch_max - home.away))
    return Release(lines, row.id, "idle engines will not do" if many > 0 else "engines will do")


def _price(row: Offering) -> tuple[float, str]:
    """Dollars, in millionths, of a usual call; the dearest where prices differ by size."""
    price = row.price
    if not row.exchange:
        return score.UNKNOWN_MONEY, row.id
    tokens = USUAL_TOKENS * price.input_micro_per_mtok
    tokens += score.OUTPUT_TOKENS * price.output_micro_per_mtok
    return tokens * row.exchange * score.spent_share(price) / 1e6, row.id


def hold_s(faults: int, given: BatchSettings) -> float:
    """How long no line goes away after so many failures in a row before this one."""
    return min(HOLD_S_MAX, given.away_hold_s * 2.0 ** min(faults, 10))


def may_try(run: int, given: BatchSettings) -> bool:
    """Whether a line may go away in this run: the last try is kept for home."""
    return run < max(2, given.tries_max)
