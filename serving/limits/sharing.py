"""The counters that this process shares with others: rates through Redis where the settings name
one, plans through their store. Owns both renewals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Iterable

from serving.limits import plan_store, windows
from serving.limits.base import LimitsAway, Rule
from serving.limits.plan_store import PlanStore
from serving.limits.redis_rates import RedisRates
from serving.limits.renewing import Renewer
from serving.limits.slice import Slice
from serving.settings import Settings

RATES_EVERY_S = 0.1
PLANS_EVERY_S = 0.5
FIRST_S_MAX = 3.0
"""The start waits so long to hear what was used of plans; then it goes on without."""
_log = logging.getLogger(__name__)


class Sharing:
    """Made in the loop that it is to live in. `name` is the deployment's, and this process's, which
    no other has ever after."""

    def __init__(
        self, settings: Settings, name: tuple[str, str], utc_ms: Callable[[], int]
    ) -> None:
        pods, clock = settings.gateway.pods, asyncio.get_running_loop().time
        self._utc_ms = utc_ms
        self._plan_store = PlanStore(plan_store.opener(settings), utc_ms)
        self.plans = Renewer("plans", self._plan_store, (PLANS_EVERY_S, pods), clock)
        self.rates: Renewer | None = None
        if settings.redis.url:
            store = RedisRates.at(settings.redis, *name)
            self.rates = Renewer("redis", store, (RATES_EVERY_S, pods), clock)

    @property
    def renewers(self) -> Iterable[Renewer]:
        """Those there are."""
        return (self.plans,) if self.rates is None else (self.rates, self.plans)

    @property
    def away(self) -> dict[str, str]:
        """Why a store does not answer, by what it holds."""
        return {f"limits in {one.name}": one.away for one in self.renewers if one.away}

    def window(self, key: str, limit: int, length_s: float) -> Slice:
        """A counter of a window that all processes share."""
        now_s = asyncio.get_running_loop().time()
        return self.plans.meter(key, Rule(limit, length_s, is_window=True), now_s)

    async def start(self, on_death: Callable[[], None]) -> None:
        """Hear what was used, and go on renewing."""
        try:
            async with asyncio.timeout(FIRST_S_MAX):
                rows = await self._plan_store.read()
        except (LimitsAway, TimeoutError) as error:
            _log.warning("plans_unread", extra={"reason": str(error) or "no answer in time"})
        else:
            now_ms = self._utc_ms()
            self.plans.remember({
                key: functools.partial(windows.known, row, now_ms=now_ms)
                for key, row in rows.items()
            })  # fmt: skip
        for one in self.renewers:
            one.on_death = on_death
            one.start()

    async def close(self) -> None:
        """Give back what is held."""
        for one in self.renewers:
            with contextlib.suppress(LimitsAway):
                await one.close()
