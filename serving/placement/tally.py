"""What went to our engines and to third parties lately, by model, and what it cost: the memory
behind ceilings. Pure but for its own counters; time is an argument.

It counts what this pod did since its start. Money is also counted by `meters` that all pods share
(0113), where there are some: slices of a window, which outlive a restart. A share of tokens needs
none: where each pod keeps to it, all together do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from serving.placement.values import Ceilings

MINUTE_MS: Final = 60_000
HOUR, DAY = 60, 1440
"""Minutes."""
NEAR: Final = 0.9
"""Share of a ceiling from which calls that can wait no longer leave."""
TOKENS_MIN: Final = 50_000
"""A share of less than this, own and third parties' tokens together, says nothing yet."""


HOUR_S, DAY_S = 3600.0, 86_400.0


class Meter(Protocol):
    """What is asked of `limits.base.Meter`. Units are millionths of a US dollar."""

    limit: int

    def has(self, units: float, now_s: float) -> bool:
        """Whether so much may be spent now."""
        ...

    def take(self, units: float, now_s: float) -> int:
        """It was spent."""
        ...

    def left(self, now_s: float) -> float:
        """Of all pods, as far as this one knows."""
        ...


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
        self._meters: dict[str, list[tuple[str, str, Meter]]] = {}
        """By model: the name whose ceiling it is, `hour` or `day`."""
        self._clock: Callable[[], float] = lambda: 0.0

    def share(
        self, most: Mapping[str, tuple[str, Ceilings]],
        make: Callable[[str, int, float], Meter], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """Count money with all pods from now on. `most`: by public name its model and ceilings;
        `make` a meter from a counter's name, a limit and the seconds of its window."""
        self._clock = clock
        for name, (model, bounds) in most.items():
            for what, limit, length_s in _windows(bounds):
                meter = make(f"ceiling {name} {what}", limit, length_s)
                self._meters.setdefault(model, []).append((name, what, meter))

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
            if micro and (meters := self._meters.get(model)):
                now_s = self._clock()
                for _, _, meter in meters:
                    meter.take(micro, now_s)

    def reached(self, model: str, most: Ceilings, out: int, now_ms: int) -> tuple[str, float]:
        """The ceiling that is nearest, and how much of it is used (1 is all). `out` are calls at
        third parties now: they count as the mean of those that ended."""
        used: list[tuple[str, float]] = []
        sums = self._models.get(model)
        cost_micro = 0.0 if sums is None else sums.cost_micro
        used += self._shared(model, most, (out + 1) * cost_micro)
        if sums is None:
            return max(used, key=lambda one: one[1], default=("", 0.0))
        _forget(sums, now_ms // MINUTE_MS)
        due = out * cost_micro
        if most.day_micro:
            used.append(("day", (sums.day_micro + due) / most.day_micro))
        if most.hour_micro:
            used.append(("hour", (sums.hour[2] + due) / most.hour_micro))
        total = sums.hour[0] + sums.hour[1]
        if most.share and total >= TOKENS_MIN:
            used.append(("share", sums.hour[1] / total / most.share))
        return max(used, key=lambda one: one[1], default=("", 0.0))

    def _shared(self, model: str, most: Ceilings, due: float) -> Iterator[tuple[str, float]]:
        """The same of what all pods spent; `due` is what this one's calls under way and the next
        are likely to cost."""
        now_s = self._clock()
        for name, what, meter in self._meters.get(model, ()):
            if name == most.name:
                used = 1.0 - meter.left(now_s) / meter.limit
                yield what, used if meter.has(max(due, 1.0), now_s) else max(1.0, used)


def _windows(most: Ceilings) -> Iterator[tuple[str, int, float]]:
    if most.hour_micro:
        yield "hour", most.hour_micro, HOUR_S
    if most.day_micro:
        yield "day", most.day_micro, DAY_S


def _forget(sums: _Model, minute: int) -> None:
    while sums.minutes and sums.minutes[0][0] <= minute - HOUR:
        for at, amount in enumerate(sums.minutes.popleft()[1:]):
            sums.hour[at] -= amount
    while sums.spent and sums.spent[0][0] <= minute - DAY:
        sums.day_micro -= sums.spent.popleft()[1]
