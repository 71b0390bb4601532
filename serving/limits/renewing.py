"""Renews what this process holds of shared counters, in the background. Decides nothing.

The request path only ever touches memory. A store that does not answer is told of once in the log
and stands in `away`; meanwhile each process counts its own share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from serving.limits.base import CounterStore, Grant, LimitsAway, Rule
from serving.limits.slice import Slice
from serving.watched import watch

SOON_S = 0.005
"""Between two renewals at least, however urgent."""
_log = logging.getLogger(__name__)


class Renewer:
    """Owns the task that asks one store, and makes the counters it renews. `pace` is how often,
    in seconds, and for how many processes that share the limits."""

    def __init__(
        self, name: str, store: CounterStore, pace: tuple[float, int], clock: Callable[[], float]
    ) -> None:
        self.name = name
        self._store = store
        self._every_s, self._pods = pace
        self._clock = clock
        self._active: set[Slice] = set()
        self._need: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._before: dict[str, Callable[[int], Grant]] = {}
        self.on_death: Callable[[], None] = lambda: None
        self._is_closing = False
        self.away = ""
        """Why the store does not answer; empty while it does."""
        self.renewals = 0
        self.failures = 0

    def remember(self, before: Mapping[str, Callable[[int], Grant]]) -> None:
        """What the store knew when this process started, by counter: from a limit to a grant."""
        self._before = dict(before)

    def meter(self, key: str, rule: Rule, now_s: float) -> Slice:
        """A counter."""
        made = Slice(key, rule, self._pods, now_s, self._needed)
        known = self._before.pop(key, None)
        if known is not None:
            made.remember(known(rule.limit), now_s)
        return made

    def start(self) -> None:
        """Renew from now on."""
        self._is_closing = False
        self._task = asyncio.create_task(self._run(), name=f"limits-{self.name}")
        watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Give back what is held, and end."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        asks = [one.farewell(self._clock()) for one in self._active]
        with contextlib.suppress(LimitsAway):
            if asks and not self.away:
                await self._store.settle(asks)
        await self._store.close()

    async def renew(self) -> None:
        """One round."""
        now_s = self._clock()
        asked = [(one, one.window, one.ask(now_s)) for one in self._active]
        wanted = [(one, window, ask) for one, window, ask in asked if ask is not None]
        self._active.difference_update([one for one, _, ask in asked if ask is None])
        if not wanted:
            return
        try:
            grants = await self._store.settle([ask for _, _, ask in wanted])
        except (LimitsAway, asyncio.CancelledError) as error:
            for one, _, _ in wanted:
                one.unanswered(self._clock())
            if isinstance(error, asyncio.CancelledError):
                raise
            self._told(str(error))
            return
        now_s = self._clock()
        for (one, window, _), grant in zip(wanted, grants, strict=True):
            one.granted(grant, window, now_s)
        self._told("")

    def _told(self, why: str) -> None:
        self.renewals += 1
        self.failures += bool(why)
        if why and not self.away:
            facts = {"store": self.name, "reason": why, "pods": self._pods}
            _log.warning("limits_away", extra=facts)
        elif self.away and not why:
            _log.info("limits_back", extra={"store": self.name})
        self.away = why

    def _needed(self, one: Slice) -> None:
        self._active.add(one)
        if self._pods > 1 and one.is_short:
            self._need.set()

    async def _run(self) -> None:
        while not self._is_closing:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the result, as
            # a client's own time limits may; hence the flag.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._need.wait()
            self._need.clear()
            await self.renew()
            # While the store is away its time limit paces the rounds, and a pause does.
            await asyncio.sleep(self._every_s if self.away else SOON_S)
