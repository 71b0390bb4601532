"""The simulated fleet in fluid form: replicas that boot, fail and are taken away, beside an API
that may be down. Seeded; a tick is one bin of the trace. Costs are in replica-bins.
"""

from __future__ import annotations

import random
from bisect import bisect_right

import msgspec

from autoscale.arrivals import BIN_S


class Scenario(msgspec.Struct, frozen=True):
    """What the world is like."""

    ratio: float = 3.0
    """The API's price for an hour of a full replica's work, against the replica's hour (r)."""
    ready_s: float = 180.0
    """Mean time from order to service."""
    ready_cv: float = 0.0
    """Spread over mean of a gamma distribution; 0: always the mean."""
    fail_rate: float = 0.0
    """Share of orders that never come; they are paid for until the mean has passed twice."""
    taken_per_hour: float = 0.0
    """Rate at which a running replica is taken away (spot)."""
    outages: tuple[tuple[float, float], ...] = ()
    """When the API answers nothing, in seconds from the trace's start: (from, until)."""
    prices: tuple[tuple[float, float], ...] = ()
    """Changes of `ratio`: (seconds from the trace's start, the ratio from then on), in order."""
    api_most: float = float("inf")
    """Replicas' work that the API takes at once: its rate limit; what is above is refused."""
    month_share: float = 0.85
    """A machine's price by the month against its price by the hour. ASSUMED, as in the scenario of
    `ballast plan`: discounts differ by provider and day."""

    def is_away(self, at_s: float) -> bool:
        """Whether the API answers nothing then."""
        return bool(self.outages) and any(a <= at_s < b for a, b in self.outages)

    def ratio_at(self, at_s: float) -> float:
        """The API's price at that time."""
        ratio = self.ratio
        for since_s, changed in self.prices:
            if at_s >= since_s:
                ratio = changed
        return ratio


class Spent(msgspec.Struct):
    """Running sums, in replica-bins; work is demand."""

    rent: float = 0.0
    api: float = 0.0
    own_work: float = 0.0
    api_work: float = 0.0
    lost_work: float = 0.0
    """Neither found room nor an API: refused."""
    starts: int = 0
    most: int = 0

    @property
    def cost(self) -> float:
        """All money."""
        return self.rent + self.api


class World:
    """Mutable: told a wish, moved by a bin's demand."""

    def __init__(self, scenario: Scenario, seed: int, months: int = 0) -> None:
        """`months`: so many machines are rented by the month. They are there from the start, paid
        at their own price whether wanted or not, and nobody takes them away."""
        self._scenario, self._months = scenario, months
        # Reproducible draws, not secrets.
        self._lots = random.Random(seed)  # noqa: S311
        self._ready_s = [0.0] * months
        """When each replica serves, earliest first."""
        self._dead_s: list[float] = []
        """Orders that failed: until when they are paid."""
        self.now_s = 0.0
        self.spent = Spent()

    @property
    def ready(self) -> int:
        """Replicas that serve now."""
        return bisect_right(self._ready_s, self.now_s)

    @property
    def ordered(self) -> int:
        """Replicas that serve or boot."""
        return len(self._ready_s) + len(self._dead_s)

    def want(self, count: int) -> None:
        """Order or give back; what boots goes first."""
        ordered = len(self._ready_s) + len(self._dead_s)
        while ordered < count:
            self._order()
            ordered += 1
        while ordered > max(count, self._months):
            (self._dead_s if self._dead_s else self._ready_s).pop()
            ordered -= 1

    def _order(self) -> None:
        scenario, spent = self._scenario, self.spent
        spent.starts += 1
        if self._lots.random() < scenario.fail_rate:
            self._dead_s.append(self.now_s + 2 * scenario.ready_s)
            return
        self._ready_s.append(self.now_s + self._boot_s())
        self._ready_s.sort()

    def _boot_s(self) -> float:
        mean, cv = self._scenario.ready_s, self._scenario.ready_cv
        if not cv:
            return mean
        shape = 1.0 / cv**2
        return self._lots.gammavariate(shape, mean / shape)

    def pass_bin(self, demand: float) -> tuple[float, float]:
        """Serve one bin. Returns the work done by own replicas and by the API."""
        scenario, spent, months = self._scenario, self.spent, self._months
        ordered = len(self._ready_s) + len(self._dead_s)
        ready = float(bisect_right(self._ready_s, self.now_s))
        own = ready if ready < demand else demand
        by_hour = ordered - months if ordered > months else 0
        spent.rent += months * scenario.month_share + by_hour
        spent.own_work += own
        if ordered > spent.most:
            spent.most = ordered
        api, over = 0.0, demand - own
        if over:
            if not (scenario.outages and scenario.is_away(self.now_s)):
                api = over if over < scenario.api_most else scenario.api_most
            spent.lost_work += over - api
            spent.api_work += api
            ratio = scenario.ratio_at(self.now_s) if scenario.prices else scenario.ratio
            spent.api += api * ratio
        self.now_s += BIN_S
        if self._dead_s:
            self._dead_s = [until for until in self._dead_s if until > self.now_s]
        if scenario.taken_per_hour:
            chance, stays = scenario.taken_per_hour * BIN_S / 3600, self._ready_s[:months]
            self._ready_s = stays + [
                at
                for at in self._ready_s[months:]
                if at > self.now_s or self._lots.random() >= chance
            ]
        return own, api
