"""What second tries may cost: pure but for its count."""

from __future__ import annotations


class Purse:
    """What second tries may cost in each hour."""

    def __init__(self, hour_max_micro: int) -> None:
        self._most = hour_max_micro
        self._hour, self._spent = -1, 0

    def take(self, micro: int, now_s: float) -> bool:
        """Reserve; False when the hour's money does not reach."""
        hour = int(now_s // 3600)
        if hour != self._hour:
            self._hour, self._spent = hour, 0
        if self._spent + micro > self._most:
            return False
        self._spent += micro
        return True

    def settle(self, reserved: int, cost: int) -> None:
        """What it cost after all."""
        self._spent = max(0, self._spent - reserved + cost)
