"""The controller's composition root: `python -m autoscale.app --config FILE`.

One loop of observe, step, actuate, journal; an ops listener on loopback. Its death freezes the
number of replicas and stops no request.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from autoscale.actuators.dry_run import Actuator, DryRun
from autoscale.bookkeeping import Bookkeeper
from autoscale.briefing import policy_of
from autoscale.canaries import Canaries, key
from autoscale.checkpoints import Checkpoints, Kept
from autoscale.gauges import Gauges
from autoscale.journal import Journal
from autoscale.memory import Memory
from autoscale.observe import observe
from autoscale.records import Scale, Tick
from autoscale.step import step
from serving import logs
from serving.audit.auditor import KEY_FILE, signer
from serving.directory.store import opener as directory_opener
from serving.finance.store import opener
from serving.ledger.store import opener as ledger_opener
from serving.quality import store as quality_store
from serving.settings import EXIT_CODE, Settings, SettingsError, load

_log = logging.getLogger("autoscale.app")
LOOPBACK = "127.0.0.1"


class Controller:
    """Holds what `step` remembers. Raises SettingsError for pools that fit no model."""

    def __init__(
        self, settings: Settings, journal: Journal, actuator: Actuator, books: Bookkeeper | None
    ) -> None:
        gateway = settings.gateway
        self._gateways = tuple(
            f"http://{gateway.ops_host}:{gateway.ops_port + i}" for i in range(gateway.pods)
        )
        self._policy = policy_of(settings, datetime.now(UTC).date())
        self._tick_s = settings.controller.tick_s
        self._actuator = actuator
        self._books = books
        self._memory = Memory()
        self.journal = journal
        self.registry = CollectorRegistry()
        self._ticks = Counter("ballast_controller_ticks", "Ticks by how they ended", ["outcome"],
                              registry=self.registry)  # fmt: skip
        self._gauges = Gauges(self.registry)
        self._wanted = Gauge("ballast_controller_wanted_replicas", "Replicas decided on last",
                             ["model"], registry=self.registry)  # fmt: skip

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Tick until cancelled, at a steady pace."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            try:
                await self._tick(session)
                self._ticks.labels("ok").inc()
            except Exception:  # noqa: BLE001 - the controller's one edge: log, count, go on
                self._ticks.labels("failed").inc()
                _log.exception("tick_failed")
            next_s = max(next_s + self._tick_s, loop.time())
            await asyncio.sleep(next_s - loop.time())

    async def _tick(self, session: aiohttp.ClientSession) -> None:
        samples = await observe(session, self._gateways, logs.utc_ms())
        outcome = step(samples, self._memory, self._policy)
        for decision in outcome.decisions:
            await self._actuator.apply(decision)
            if isinstance(decision, Scale):
                self._wanted.labels(decision.model).set(decision.replicas)
        tick = Tick(samples, self._policy, self._memory, outcome.decisions)
        self._memory = outcome.memory
        self.journal.write(tick)
        self._gauges.show(outcome.decisions, self._policy.plans)
        if self._books is not None:
            self._books.seen(samples)
            self._gauges.lapsing(self._books.lapses)


def ops(controller: Controller) -> web.Application:
    """`/livez`, `/decisions`, `/metrics`."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text='{"status":"ok"}', content_type="application/json")

    async def decisions(_: web.Request) -> web.Response:
        body = msgspec.json.encode({"decisions": list(controller.journal.recent)[::-1]})
        return web.Response(body=body, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(controller.registry)
        return web.Response(body=body, headers={"content-type": "text/plain; version=0.0.4"})

    app = web.Application()
    for path, handler in (("/livez", livez), ("/decisions", decisions), ("/metrics", metrics)):
        app.router.add_get(path, handler)
    return app


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop`. Raises SettingsError when the port is taken."""
    if not settings.controller.is_dry_run:
        raise SettingsError("controller.is_dry_run: only `true` is built yet")
    state = settings.state_dir.expanduser()
    books = Bookkeeper(settings, opener(settings))
    controller = Controller(settings, Journal(state / "controller"), DryRun(), books)
    runner = web.AppRunner(ops(controller), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, settings.controller.ops_port)
        try:
            await site.start()
        except OSError as error:
            port = settings.controller.ops_port
            raise SettingsError(f"controller.ops_port {port}: {error.strerror}") from None
        line = {"event": "listening", "url": f"http://{LOOPBACK}:{runner.addresses[0][1]}"}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        async with aiohttp.ClientSession() as session:
            tasks = [asyncio.create_task(controller.run(session), name="ticks")]
            if settings.canaries.key_file is not None:
                asking = canaries_of(settings, controller.registry)
                tasks.append(asyncio.create_task(asking.run(session), name="canaries"))
            signing = checkpoints_of(settings, controller.registry)
            if signing is not None:
                given = settings.audit
                work = signing.run(session, given.anchor_url, given.every_s)
                tasks.append(asyncio.create_task(work, name="checkpoints"))
            await _until(stop, tasks)
    finally:
        await books.close()
        await runner.cleanup()


def canaries_of(settings: Settings, registry: CollectorRegistry) -> Canaries:
    """What asks the canaries' prompts. Raises SettingsError for what cannot be read."""
    prompts = quality_store.prompts(settings.canaries.prompts_file)
    key(settings.canaries)
    return Canaries(settings, prompts, quality_store.opener(settings), logs.utc_ms, registry)


def checkpoints_of(settings: Settings, registry: CollectorRegistry) -> Checkpoints | None:
    """What signs the audit's checkpoints; None without a key. Raises SettingsError for one that is
    named and cannot be read."""
    if settings.audit.key_file is None and not (settings.state_dir / KEY_FILE).exists():
        _log.warning("no_audit_key", extra={"reason": f"no {KEY_FILE} in the state folder"})
        return None
    stores = ledger_opener(settings), directory_opener(settings)
    return Checkpoints(signer(settings), Kept.of(settings), stores, logs.utc_ms, registry)


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`, or raise what ended a task before."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *tasks):
        task.cancel()
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(done, Exception):
            raise done


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stop.set)
    await serve(settings, stop)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM; exits with 3 when the settings are refused."""
    parser = argparse.ArgumentParser(prog="python -m autoscale.app")
    parser.add_argument("--config", type=Path, help="settings file")
    logs.configure()
    try:
        asyncio.run(_main(load(parser.parse_args(argv).config)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
