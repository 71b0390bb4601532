"""The engines of a request-level simulation: ordered, booting, serving, drained, given back."""

from __future__ import annotations

import random

from autoscale.calls import Setup
from autoscale.engines import Engine


class Fleet:
    """Mutable; says when what happens, and somebody else keeps the clock."""

    def __init__(self, setup: Setup, lots: random.Random) -> None:
        self._setup, self._lots = setup, lots
        self.engines: dict[str, Engine] = {}
        self.draining: set[str] = set()
        self.booting: list[float] = []
        """When each is ready, or given up."""
        for number in range(setup.months):
            self.engines[f"month{number}"] = Engine(setup.profile, 0.0)

    @property
    def serving(self) -> list[str]:
        """Engines that take calls, eldest first."""
        return [name for name in self.engines if name not in self.draining]

    @property
    def ordered(self) -> int:
        """Replicas that serve or boot."""
        return len(self.serving) + len(self.booting)

    @property
    def paid(self) -> float:
        """What they cost, in replicas by the hour."""
        months, share = self._setup.months, self._setup.scenario.month_share
        return months * share + max(0, len(self.engines) + len(self.booting) - months)

    def order(self, now_s: float) -> tuple[float, str]:
        """One more: when it is `ready`, or found `dead`."""
        setup, kind = self._setup, "ready"
        fail_rate = setup.scenario.fail_rate
        if fail_rate and self._lots.random() < fail_rate:
            # Just after a tick, so that it is in the rent of that one.
            at_s, kind = now_s + 2 * setup.ready_s + 1e-3, "dead"
        else:
            shape = 1.0 / setup.ready_cv**2
            at_s = now_s + self._lots.gammavariate(shape, setup.ready_s / shape)
        self.booting.append(at_s)
        return at_s, kind

    def begin(self, name: str, now_s: float) -> float | None:
        """It serves; when it will be taken away, if it will."""
        self.engines[name] = Engine(self._setup.profile, now_s)
        rate = self._setup.scenario.taken_per_hour
        return now_s + self._lots.expovariate(rate / 3600) if rate else None

    def release(self, wanted: int) -> list[float]:
        """Give back what is too many, the idlest first and those that boot before those that serve.
        The boots that need not be waited for."""
        cancelled = []
        while (over := self.ordered - wanted) > 0:
            if self.booting:
                cancelled.append(max(self.booting))
                self.booting.remove(cancelled[-1])
                continue
            for name in sorted(self.serving, key=lambda name: self.engines[name].calls)[:over]:
                self.draining.add(name)
                if not self.engines[name].calls:
                    self.drop(name)
        return cancelled

    def drop(self, name: str) -> None:
        """It is gone."""
        del self.engines[name]
        self.draining.discard(name)
