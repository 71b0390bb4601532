"""The controller's loop: lease, observe, step, actuate, journal. Its death freezes the number of
replicas and stops no request.

Without the lease it observes and decides, so that its answers show what it sees, and writes
nothing: no number, no journal, no books.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from autoscale.acts import Act, AskedOf
from autoscale.actuators.base import Actuator, Order
from autoscale.actuators.serve import ServeActuator
from autoscale.bookkeeping import Bookkeeper
from autoscale.briefing import policy_of
from autoscale.gateways import Gateways
from autoscale.gauges import Gauges
from autoscale.journal import Journal
from autoscale.lease import Denied, Fence, Grant, Granted, Lease
from autoscale.memory import Memory
from autoscale.observe import Sources, by_pool, observe
from autoscale.records import Samples, Scale, Tick
from autoscale.serve_api import ServeApi
from autoscale.step import Outcome, step
from serving import logs
from serving.settings import Settings

_log = logging.getLogger("autoscale.controller")


class Parts(NamedTuple):
    """What the controller works with."""

    lease: Lease
    actuators: tuple[Actuator, ...]
    serve: ServeApi | None = None
    books: Bookkeeper | None = None


class Controller:
    """Holds what `step` remembers. Raises SettingsError for pools that fit no model."""

    def __init__(self, settings: Settings, journal: Journal, parts: Parts) -> None:
        gateway = settings.gateway
        self._gateways = Gateways(gateway.ops_host, gateway.ops_port, gateway.pods)
        self._policy = policy_of(settings, datetime.now(UTC).date())
        self._tick_s = settings.controller.tick_s
        self._parts = parts
        self._memory = Memory()
        self.journal = journal
        self.grant: Grant = Denied("no tick yet")
        self.acts: tuple[Act, ...] = ()
        self._fence: Fence | None = None
        self.led, self.lost = asyncio.Event(), asyncio.Event()
        self._count()

    def _count(self) -> None:
        self.registry = CollectorRegistry()
        self._ticks = Counter("ballast_controller_ticks", "Ticks by how they ended", ["outcome"],
                              registry=self.registry)  # fmt: skip
        self._gauges = Gauges(self.registry)
        self._wanted = Gauge("ballast_controller_wanted_replicas", "Replicas decided on last",
                             ["model"], registry=self.registry)  # fmt: skip
        self._leads = Gauge("ballast_controller_leader", "1 while this controller holds the lease",
                            registry=self.registry)  # fmt: skip
        self._acted = Counter("ballast_controller_acts", "What came of decisions, tick by tick",
                              ["actuator", "outcome"], registry=self.registry)  # fmt: skip
        self._stuck = Gauge("ballast_controller_stuck_replicas",
                            "Accepted by an actuator's other side, and nothing follows",
                            ["actuator", "model"], registry=self.registry)  # fmt: skip

    @property
    def _asked(self) -> AskedOf:
        """What Serve has been asked for so far."""
        found = (a.asked for a in self._parts.actuators if isinstance(a, ServeActuator))
        return dict(next(found, {}))

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Tick until cancelled, at a steady pace; then let the lease go."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        try:
            while True:
                try:
                    await self._tick(session)
                    self._ticks.labels("ok").inc()
                except Exception:  # noqa: BLE001 - the controller's one edge: log, count, go on
                    self._ticks.labels("failed").inc()
                    _log.exception("tick_failed")
                next_s = max(next_s + self._tick_s, loop.time())
                await asyncio.sleep(next_s - loop.time())
        finally:
            self._cease()
            await self._parts.lease.release()

    def _cease(self) -> None:
        for actuator in self._parts.actuators:
            actuator.cease()

    async def _tick(self, session: aiohttp.ClientSession) -> None:
        self._follow(await self._parts.lease.ask())
        urls, missing = await self._gateways.urls()
        sources = Sources(urls, self._parts.serve, missing)
        samples = await observe(session, sources, logs.utc_ms(), self._asked)
        samples = self._known(samples)
        outcome = step(samples, self._memory, self._policy)
        before, asked = self._memory, self._asked
        self._memory = outcome.memory
        self.acts = await self._act(samples, outcome, session)
        token = self.grant.token if isinstance(self.grant, Granted) else 0
        tick = Tick(samples, self._policy, before, outcome.decisions, self.acts, asked, token)
        self._tell(outcome)
        self._gauges.show(outcome.decisions, self._policy.plans)
        if not token:
            self.journal.show(tick)
            return
        self.journal.write(tick)
        if self._parts.books is not None:
            self._parts.books.seen(samples)
            self._gauges.lapsing(self._parts.books.lapses)

    def _known(self, samples: Samples) -> Samples:
        """The samples with what actuators know: hosts by pool, hosts that are going, pools that
        have nothing to give."""
        actuators = self._parts.actuators
        short = tuple(pool for one in actuators for pool in one.short(samples.at_ms))
        hosts = {host: pool for one in actuators for host, pool in one.hosts().items()}
        if self._parts.serve is not None and hosts:
            samples = by_pool(samples, self._parts.serve.hosts, hosts)
        leaving = {model: n for one in actuators for model, n in one.leaving().items()}
        return msgspec.structs.replace(samples, short=short, leaving=leaving)

    def _follow(self, grant: Grant) -> None:
        """Notice that we began or ceased to lead. A new leader starts from what the journal's
        last leader knew, if that is news; what it thought while it stood by is not."""
        did, leads = isinstance(self.grant, Granted), isinstance(grant, Granted)
        is_new = isinstance(grant, Granted) and (
            not isinstance(self.grant, Granted) or self.grant.token != grant.token
        )
        is_told = isinstance(grant, Denied) and grant == self.grant
        self.grant = grant
        self._leads.set(leads)
        if is_new and isinstance(grant, Granted):
            self._memory, asked = self.journal.left(self._policy, logs.utc_ms())
            for actuator in self._parts.actuators:
                actuator.begin(asked)
            _log.info("leading", extra={"token": grant.token})
        elif isinstance(grant, Denied) and not is_told:
            self._cease()
            _log.warning("standing_by" if not did else "lease_lost", extra={"reason": grant.reason})
        (self.led if leads else self.lost).set()
        (self.lost if leads else self.led).clear()

    async def _act(
        self, samples: Samples, outcome: Outcome, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """What the actuators made of it; nothing without the lease, and it says so."""
        if isinstance(self.grant, Denied):
            why = f"standing by: {self.grant.reason}"
            return tuple(Act("lease", d.model, "fenced", why) for d in outcome.decisions)
        if self._fence is None or self._fence.token != self.grant.token:
            self._fence = Fence(self.grant, asyncio.get_running_loop().time)
        fence = self._fence
        fence.renew(self.grant)
        order = Order(outcome.decisions, samples, self._policy)
        # What others did must stand in the journal though one of us has a bug.
        actuators = self._parts.actuators
        found = await asyncio.gather(
            *(one.apply(order, fence, session) for one in actuators), return_exceptions=True
        )
        acts: list[Act] = []
        for one, came in zip(actuators, found, strict=True):
            if isinstance(came, tuple):
                acts += came
                continue
            if not isinstance(came, Exception):
                raise came
            _log.error("actuator_failed", exc_info=came, extra={"actuator": one.name})
            why = f"failed in itself, see the log: {type(came).__name__}"
            acts += [Act(one.name, d.model, "unknown", why) for d in outcome.decisions]
        return tuple(acts)

    def _tell(self, outcome: Outcome) -> None:
        for decision in outcome.decisions:
            if isinstance(decision, Scale):
                self._wanted.labels(decision.model).set(decision.replicas)
        for act in self.acts:
            self._acted.labels(act.actuator, act.outcome).inc()
            is_stuck = act.outcome == "stuck"
            short = max(1, act.wanted - act.seen) if is_stuck else 0
            self._stuck.labels(act.actuator, act.model).set(short)

    def standing(self) -> Mapping[str, Any]:
        """Whether we lead, why not, and what came of the last tick; for `/decisions`."""
        grant = self.grant
        if isinstance(grant, Granted):
            return {"leads": True, "token": grant.token, "acts": self.acts}
        return {"leads": False, "reason": grant.reason, "acts": self.acts}
