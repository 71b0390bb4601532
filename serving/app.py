"""The gateway's composition root: the only place of the request path that constructs.

`python -m serving.app --config FILE` prints one JSON line when it listens, drains on SIGTERM, and
exits with 3 when the settings are refused, with 1 when a part it cannot do without died.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from fastapi import FastAPI

from models.tokens import TokenRatio
from serving import auth, deployment, logs, start_record
from serving.admission import Admission
from serving.api import admin_routes, explaining, ops
from serving.api.actors import Actors
from serving.api.admin import Admin, targets
from serving.api.admin_limits import Limits
from serving.api.admin_routes import Behind
from serving.api.body_limit import BodyLimit
from serving.api.capacity import Capacity
from serving.api.console.paths import Elsewhere
from serving.api.inference import Inference, Terms
from serving.api.models import Catalogue
from serving.audit.auditor import Auditor
from serving.backends.base import Backend
from serving.backends.provider import ProviderBackend
from serving.backends.replica import ReplicaBackend
from serving.budgets import scopes
from serving.budgets.funds import Funds
from serving.budgets.keeper import Keeper
from serving.demand import Demand
from serving.directory.store import opener as directory_opener
from serving.directory.values import Directory
from serving.discovery import ServeSource, Source, StaticSource
from serving.fleet import Bounds, Fleet
from serving.gauges import Live, gauges
from serving.guard.gate import Gate
from serving.holding import Line
from serving.idempotency import Idempotency
from serving.idempotent import Idempotent
from serving.journal import Journal
from serving.jwks import KeySet
from serving.keys import Keys, pepper
from serving.listen import Ops, bind
from serving.logs import RequestLog, utc_ms
from serving.market import read as read_market
from serving.metrics import Metrics
from serving.observer import Observer
from serving.parts import Around, Parts
from serving.pipeline import Pipeline
from serving.placement.build import beside, margins
from serving.policy import Policies, stops
from serving.records import Offering, Replica
from serving.rollout.desk import RolloutDesk
from serving.settings import EXIT_CODE, Settings, SettingsError, load
from serving.stages import Settled, Stages
from serving.tracing import start as tracing
from serving.waiting import Queue
from serving.wire.pool import Pool
from serving.wire.server import Server

FIRST_LOOK_POLLS = 2
"""Polls that may time out (of the list, then of an engine) before the listener opens anyway."""
_log = logging.getLogger("serving.app")


class Gateway:
    """One gateway process: everything it is made of, and the order of start and stop."""

    making: type[Parts] = Parts

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_ms = utc_ms()
        self._deployment_id = self._url = ""
        self._market = market = read_market(settings)
        self._admission = Admission(margins(settings))
        own = settings.gateway
        self._queue = Queue(own.queue.calls_max, own.queue.bytes_max)
        self._beside = beside(settings, market.sold, market.theirs)
        bounds = Bounds(
            own.pods, own.queue.hold_s_max, self._queue.held, self._beside, market.by_tenant
        )
        self._fleet = Fleet(settings.fleet, settings.models, market.sold, self._admission, bounds)
        self._catalogue = Catalogue(
            settings.models, lambda: self._fleet.view, self._started_ms // 1000,
            settings.rollout.endings,
        )  # fmt: skip
        self._keys = Keys(settings)
        self._ratios = {m.name: TokenRatio() for m in settings.models}
        labels = {name: frozenset(row.label for row in rows) for name, rows in market.sold.items()}
        self._demand = Demand({m.name: m.speed for m in settings.models}, labels)
        contexts = {m.name: m.context_tokens for m in settings.models}
        self.funds = Funds(settings.budgets, contexts, utc_ms)
        self._log = RequestLog()
        self._pool = Pool(settings.fleet.connect_s, settings.fleet.connections_per_replica)

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until `stop`, then drain. The exit code: 1 when a task it cannot do without died.

        Raises SettingsError when it may not start.
        """
        deaths: list[int] = []
        self._deployment_id = deployment.identify(self._settings)

        def died() -> None:
            deaths.append(1)
            stop.set()

        async with contextlib.AsyncExitStack() as closing:  # closes in the reverse order
            closing.callback(self._log.flush)
            await self._serve(stop, died, closing)
        return max(deaths, default=0)

    async def _serve(
        self, stop: asyncio.Event, died: Callable[[], None], closing: contextlib.AsyncExitStack
    ) -> None:
        own, loop = self._settings.gateway, asyncio.get_running_loop()
        parts = self.making(self._settings, died, closing)
        store = Idempotency(own.idempotency.ttl_s, own.idempotency.bytes_max)
        journal, drainer = await parts.book(store)
        sharing, allowances = await parts.limits(self._deployment_id)
        self._beside.share(sharing.window, loop.time)
        keeper = parts.budgets(self.funds, journal.life)
        metrics = Metrics(gauges(Live(
            self._admission, self._queue, self._fleet, drainer, self._log, self._ratios, sharing,
            keeper,
        )))  # fmt: skip
        observer = Observer(metrics, self._log, self._ratios, self._demand, self._admission)
        observer.tally, line = self._beside.tally, Line(self._queue, loop, self._fleet)
        told = self._traced(parts, metrics, observer)
        gate, reviews = parts.guard(), parts.reviews(metrics)
        parts.heed_canaries(self._fleet)
        pipeline = Pipeline(
            Stages(
                self._fleet, self._admission, allowances, line, self._backends(closing), journal,
                told, own.retry, loop, self._settings.ledger.sync == "disk", gate, keeper,
                parts.cache(self._fleet, self._deployment_id), own.rescue,
            )
        )  # fmt: skip
        calls = parts.calls(self._catalogue, (self._deployment_id, self._fleet), self._ratios)
        terms = Terms(
            pipeline, Idempotent(store, pipeline, loop.time), calls, self._keys.identify,
            self._keys.on_behalf, metrics.unparsed, reviews,
            parts.batches(pipeline, calls, reviews, Around(
                self._fleet, self._queue, self._keys, metrics, observer, stop.is_set)),
            self._demand.fills, Capacity(calls, self._admission.lengths),
        )  # fmt: skip
        server = Inference(terms).served(own.limits, loop)
        facts = ops.Facts(
            f"{self._deployment_id}/{own.index}", self._started_ms, tuple(self._ratios),
            lambda: self._fleet.view, self._admission, self._queue, observer, metrics, self._log,
            loop.time, lambda: _faults(server, journal), lambda: self._fleet.away | sharing.away,
            lambda: self._fleet.troubles, lambda: self._fleet.drifting,
        )  # fmt: skip
        self._fleet.on_view = lambda: self._viewed(line)
        drainer.start()
        policies = await self._obey(keeper, gate, parts)
        ops_app = self._ops(facts)
        limits = Limits(allowances, sharing, loop.time)
        behind = Behind(reviews, limits, parts.finance(), self._elsewhere(), self._rollouts())
        admin_routes.mount(ops_app, *self._admin(policies, keeper), behind)
        ops_app.add_middleware(BodyLimit)
        await self._listen(server, ops_app, stop, closing)

    def _traced(self, parts: Parts, metrics: Metrics, observer: Observer) -> Settled:
        exporter = tracing.exporter(self._settings, self._deployment_id, self._market.accounts)
        if exporter is not None:
            metrics.more.append(exporter.counted)
            parts.closing.push_async_callback(exporter.close)
            exporter.start()
        clock = asyncio.get_running_loop().time
        return tracing.observed(observer, exporter, self._settings.tracing, clock)

    def _ops(self, facts: ops.Facts) -> FastAPI:
        app, classes, know = ops.build(facts), self._settings.gateway.classes, self._keys.policy_of
        known = explaining.Known(self._catalogue, facts.view, know, classes, facts.clock)
        explaining.mount(app, known)
        return app

    async def _obey(self, keeper: Keeper, gate: Gate, parts: Parts) -> Policies:
        """What administrators decided, read and obeyed from now on."""
        await parts.record_policy(self._deployment_id, (self._keys, self._market.named, gate))
        policies = Policies(directory_opener(self._settings))
        parts.closing.push_async_callback(policies.close)

        def changed(directory: Directory) -> None:
            self._fleet.stops = stops(directory)
            self._beside.obey(directory.rollouts.values())
            self._fleet.publish()
            projects = directory.projects.values()
            keeper.obey(scopes.in_force(directory.budgets, projects, self._settings.budgets))
            self._keys.take(directory)

        def read() -> None:
            self._fleet.policy_at_s = policies.read_s

        policies.on_change, policies.on_read = changed, read
        policies.on_death = self._fleet.on_death = parts.died
        await policies.start()
        return policies

    def _admin(self, policies: Policies, keeper: Keeper) -> tuple[Admin, Actors]:
        settings, secret = self._settings, pepper(self._settings)
        tokens = None
        if settings.oidc is not None:
            tokens = settings.oidc, KeySet(settings.oidc, asyncio.get_running_loop().time)
        found = targets(settings, self._market.rows)
        admin = Admin(
            policies, secret, lambda: self._keys.standing, found, os.urandom, utc_ms,
            Auditor(settings), keeper,
        )  # fmt: skip
        return admin, Actors(lambda: admin.known, secret, self._keys.identify, tokens)

    def _elsewhere(self) -> Elsewhere:
        """What the console asks: the controller, and our own public listener."""
        given = self._settings.controller
        return Elsewhere(given.url or f"http://127.0.0.1:{given.ops_port}", lambda: self._url)

    def _rollouts(self) -> RolloutDesk:
        clock, own, fleet = asyncio.get_running_loop().time, self._settings, self._fleet
        standing, holder = self._beside.standing, self._keys.holder
        return RolloutDesk(own, standing, lambda: fleet.view, holder, clock, utc_ms)

    def _viewed(self, line: Line) -> None:
        """A new view: wake who can be served, hang up on engines that left."""
        view = self._fleet.view
        line.refreshed(view)
        self._pool.forget({(r.host, r.port) for rows in view.replicas.values() for r in rows})

    def _backends(self, closing: contextlib.AsyncExitStack) -> Mapping[type[Any], Backend]:
        """The backends, closed at the end."""
        settings, fleet = self._settings, self._fleet
        follows = settings.gateway.rescue.exact
        own = ReplicaBackend(self._pool, fleet.secret, self._admission.reported, follows)
        sold = ProviderBackend(
            self._market.accounts, self._deployment_id, paces=self._beside.paces,
            traced=settings.tracing.providers,
        )  # fmt: skip
        fleet.on_quiet, fleet.on_lost = own.lines.quiet, own.lines.lost
        for backend in (own, sold):
            closing.push_async_callback(backend.close)
        return {Replica: own, Offering: sold}

    async def _listen(
        self, server: Server, ops_app: FastAPI, stop: asyncio.Event,
        closing: contextlib.AsyncExitStack,
    ) -> None:  # fmt: skip
        settings, own = self._settings, self._settings.gateway
        loop = asyncio.get_running_loop()
        ops_socket = bind(own.ops_host, own.ops_port + own.index if own.ops_port else 0)
        public_socket = bind(own.host, own.port, is_shared=own.pods > 1)
        sources: list[Source] = [StaticSource(settings.fleet.static)]
        if settings.fleet.serve_url:
            sources.append(ServeSource(settings.fleet.serve_url, settings.fleet.ray_token_file))
        times = settings.state_dir / f"time-to-ready-{own.index}.json"
        self._fleet.ready_times.follow(settings.state_dir / start_record.FILE)
        self._fleet.ready_times.remember(times)
        closing.callback(self._fleet.ready_times.save, times)
        closing.push_async_callback(self._fleet.close)
        self._fleet.start(sources)
        with contextlib.suppress(TimeoutError):  # a call that came before would meet no engine
            async with asyncio.timeout(FIRST_LOOK_POLLS * settings.fleet.poll_timeout_s):
                await self._fleet.first_look.wait()
        ops_server = Ops(ops_app, ops_socket)
        listener = await loop.create_server(server, sock=public_socket, backlog=4096)
        self._url = own.url(public_socket.getsockname()[1])
        line = {
            "event": "listening",
            "url": f"http://{own.host}:{public_socket.getsockname()[1]}",
            "ops": f"http://{own.ops_host}:{ops_socket.getsockname()[1]}",
        }
        print(msgspec.json.encode(line).decode(), flush=True)  # noqa: T201 - the start protocol
        # What lives now lives for ever: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        await stop.wait()
        _log.info("draining")
        listener.close()
        await server.drain(own.drain_s)
        await ops_server.close()


def _faults(server: Server, journal: Journal) -> list[str]:
    """Why new work would be refused now."""
    faults = ["draining"] if server.is_draining else []
    return faults if journal.can_begin else [*faults, "journal_full"]


async def _main(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await Gateway(settings).run(stop)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="serving.app", description="Ballast gateway")
    parser.add_argument("--config", type=Path)
    logs.configure()
    try:
        settings = load(parser.parse_args().config)
        return uvloop.run(_main(settings))
    except (SettingsError, auth.KeyConflict) as error:
        print(error, file=sys.stderr)  # noqa: T201 - to the person who started us
        return EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
