"""What went to our engines and to third parties lately, by model, and what it cost: the memory
behind ceilings. Pure but for its own counters; time is an argument.

Of this pod alone and since its start: a ceiling is a fence around one gateway, a budget (0111) is
the account that all of them share.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from serving.placement.values import Ceilings

MINUTE_MS: Final = 60_000
HOUR, DAY = 60, 1440
"""Minutes."""
NEAR: Final = 0.9
"""Share of a ceiling from which calls that can wait no longer leave."""
TOKENS_MIN: Final = 50_000
"""A share of less than this, own and third parties' tokens together, says nothing yet."""


class _Model:
    """Sums of one model."""

    __slots__ = ("cost_micro", "day_micro", "hour", "minutes", "spent")

    def __init__(self) -> None:
        self.minutes: deque[list[int]] = deque()
        """Minute, own tokens, third parties' tokens, micro; of the last hour."""
        self.hour = [0, 0, 0]
        """Their sums."""
        self.spent: deque[list[int]] = deque()
        """Minute, micro, of the last day."""
        self.day_micro = 0
        self.cost_micro = 0.0
        """Of one third party's call, a decayed mean."""


class Tally:
    """One process's."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def ended(self, model: str, tokens: int, micro: int | None, now_ms: int) -> None:
        """An attempt ended; `micro` is what a third party's cost in millionths of a dollar, None
        is an attempt of our own."""
        sums = self._models.setdefault(model, _Model())
        minute, is_api = now_ms // MINUTE_MS, micro is not None
        _forget(sums, minute)
        if not sums.minutes or sums.minutes[-1][0] != minute:
            sums.minutes.append([minute, 0, 0, 0])
        sums.minutes[-1][1 + is_api] += tokens
        sums.hour[is_api] += tokens
        if micro is not None:
            if not sums.spent or sums.spent[-1][0] != minute:
                sums.spent.append([minute, 0])
            sums.spent[-1][1] += micro
            sums.day_micro += micro
            sums.minutes[-1][3] += micro
            sums.hour[2] += micro
            sums.cost_micro += 0.1 * (micro - sums.cost_micro) if sums.cost_micro else micro

    def reached(self, model: str, most: Ceilings, out: int, now_ms: int) -> tuple[str, float]:
        """The ceiling that is nearest, and how much of it is used (1 is all). `out` are calls at
        third parties now: they count as the mean of those that ended."""
        sums = self._models.get(model)
        if sums is None:
            return "", 0.0
        _forget(sums, now_ms // MINUTE_MS)
        used: list[tuple[str, float]] = []
        due = out * sums.cost_micro
        if most.day_micro:
            used.append(("day", (sums.day_micro + due) / most.day_micro))
        if most.hour_micro:
            used.append(("hour", (sums.hour[2] + due) / most.hour_micro))
        total = sums.hour[0] + sums.hour[1]
        if most.share and total >= TOKENS_MIN:
            used.append(("share", sums.hour[1] / total / most.share))
        return max(used, key=lambda one: one[1], default=("", 0.0))


def _forget(sums: _Model, minute: int) -> None:
    while sums.minutes and sums.minutes[0][0] <= minute - HOUR:
        for at, amount in enumerate(sums.minutes.popleft()[1:]):
            sums.hour[at] -= amount
    while sums.spent and sums.spent[0][0] <= minute - DAY:
        sums.day_micro -= sums.spent.popleft()[1]
