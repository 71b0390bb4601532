"""The third party of a request-level simulation: latency, outages, a rate limit, changing prices,
and what of its bill credits and prepaid quotas pay.

Money is made by the gateway's accounting and split by the finance books' own rule. A replica's hour
is `HOUR_MICRO` micro-units here, about what an H100 costs in dollars.
"""

from __future__ import annotations

import random

from msgspec.structs import replace

from autoscale import calls
from autoscale.calls import Row, Setup
from serving import accounting
from serving.finance import grants
from serving.finance.values import Grant, Spent
from serving.records import Offering, Usage

HOUR_MICRO = 3_600_000
MICRO_PER_S = HOUR_MICRO / 3600
DEPTH_S = 10.0
"""Of the rate limit's bucket: what was not used in so long is lost."""


class Api:
    """Mutable: told each call, it says when the first token comes, or for how long it is full."""

    def __init__(self, setup: Setup, lots: random.Random) -> None:
        self._setup, self._lots = setup, lots
        self._offering = calls.offering()
        self._ratio = -1.0
        self._left_s, self._filled_s = DEPTH_S * setup.scenario.api_most, 0.0
        self._spent: list[Spent] = []
        self.micro = 0
        """Its bill so far, however that is paid."""

    def offering(self, now_s: float) -> Offering:
        """As its row says today."""
        ratio = self._setup.scenario.ratio_at(now_s)
        if ratio != self._ratio:
            self._ratio, work = ratio, self._setup.work
            price = calls.price(work, ratio * MICRO_PER_S)
            self._offering = replace(self._offering, price=price)
        return self._offering

    def is_away(self, now_s: float) -> bool:
        """Whether it answers nothing."""
        return any(a <= now_s < b for a, b in self._setup.outages)

    def full_s(self, row: Row, now_s: float) -> float:
        """Seconds until its rate limit takes a call; 0: it takes this one, which is counted."""
        most, work_s = self._setup.scenario.api_most, self._setup.work.of(row.prompt, row.output)
        if most == float("inf"):
            return 0.0
        self._left_s = min(DEPTH_S * most, self._left_s + (now_s - self._filled_s) * most)
        self._filled_s = now_s
        if self._left_s <= 0.0:
            return max(0.1, (work_s - self._left_s) / most) if most else calls.TICK_S
        self._left_s -= work_s
        return 0.0

    def take(self, row: Row, number: int, now_s: float) -> float:
        """Put a call on the bill; seconds to its first token."""
        usage, at_ms = Usage(row.prompt, row.output), round(now_s * 1e3)
        offering = self.offering(now_s)
        price = accounting.price_at(offering, at_ms, row.prompt)
        charge = accounting.charge(price, usage)
        self.micro += charge.micro
        if self._setup.grants:
            self._spent.append(
                Spent(f"{number:x}", 1, at_ms, offering.id, calls.MODEL, charge.currency,
                      charge.micro, row.prompt + row.output, "cash")
            )  # fmt: skip
        return calls.API_FIRST_S * self._lots.lognormvariate(0.0, calls.API_FIRST_SIGMA)

    def cash_micro(self) -> int:
        """Of the bill, what neither credit nor quota paid; beside what these cost."""
        if not self._setup.grants:
            return self.micro
        burns = grants.settled(self._spent, self._setup.grants, {}, 0)
        own = sum(burn.micro for burn in burns if not burn.grant_id)
        return own + sum(grant.paid_micro for grant in self._setup.grants)


def credit(replica_hours: float, until_s: float, paid_hours: float = 0.0) -> Grant:
    """Money at the API, measured by a replica's hour, that lapses; what was paid for it."""
    return grants.checked(
        Grant(
            by="simulated", id=f"credit-{until_s:.0f}", kind="prepaid" if paid_hours else "credit",
            unit="micro", amount=round(replica_hours * HOUR_MICRO), currency="USD", provider="api",
            begin_ms=0, end_ms=round(until_s * 1e3), paid_micro=round(paid_hours * HOUR_MICRO),
        )
    )  # fmt: skip
