"""A token bucket of one process: holds so many units, refilled evenly. Pure."""

from __future__ import annotations


class Bucket:
    """Implements `base.Meter`. One minute's worth, so that a limit is neither doubled at a minute's
    edge nor wasted by a burst."""

    __slots__ = ("_at_s", "_left", "_length_s", "limit")

    def __init__(self, limit: int, length_s: float, now_s: float) -> None:
        self.limit = limit
        self._length_s = length_s
        self._left = float(limit)
        self._at_s = now_s

    def left(self, now_s: float) -> float:
        """See `base.Meter`; negative after a call that cost more than it reserved."""
        refilled = self._left + max(0.0, now_s - self._at_s) * self.limit / self._length_s
        self._left, self._at_s = min(float(self.limit), refilled), now_s
        return self._left

    def has(self, units: float, now_s: float) -> bool:
        """See `base.Meter`."""
        return self.left(now_s) >= min(units, float(self.limit))

    def take(self, units: float, now_s: float) -> int:
        """See `base.Meter`; without a window."""
        self._left = min(float(self.limit), self.left(now_s) - units)
        return 0

    def correct(self, units: float, window: int, now_s: float) -> None:
        """See `base.Meter`."""
        assert window == 0, "a bucket has no windows"
        self.take(units, now_s)

    def wait_s(self, units: float, now_s: float) -> float:
        """See `base.Meter`."""
        missing = min(units, float(self.limit)) - self.left(now_s)
        return max(0.0, missing * self._length_s / self.limit)

    def full_s(self, now_s: float) -> float:
        """See `base.Meter`."""
        return self.wait_s(self.limit, now_s)
