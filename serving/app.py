"""The gateway's composition root: the only place of the request path that constructs.

`python -m serving.app --config FILE` prints one JSON line when it listens, drains on SIGTERM, and
exits with 3 when the settings are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop

from models.tokens import TokenRatio
from serving import auth, logs
from serving.admission import Admission
from serving.api import ops
from serving.api.inference import Inference, Terms
from serving.api.models import Catalogue
from serving.backends.base import Backend
from serving.backends.provider import ProviderBackend
from serving.backends.replica import ReplicaBackend
from serving.discovery import ServeSource, Source, StaticSource
from serving.fleet import Bounds, Fleet
from serving.gauges import gauges
from serving.holding import Line
from serving.idempotency import Idempotency
from serving.idempotent import Idempotent
from serving.journal import Journal
from serving.keys import Keys
from serving.ledger.base import Ledger, LedgerUnavailable
from serving.ledger.drain import Drainer
from serving.ledger.sqlite import SqliteLedger
from serving.logs import RequestLog, utc_ms
from serving.metrics import Metrics
from serving.observer import Observer
from serving.offerings import accounts, offerings
from serving.pipeline import Pipeline
from serving.records import Offering, Replica
from serving.settings import EXIT_CODE, Settings, SettingsError, load
from serving.stages import Stages
from serving.waiting import Queue
from serving.wire.client import Pool
from serving.wire.server import Server

_log = logging.getLogger("serving.app")


class Gateway:
    """One gateway process: everything it is made of, and the order of start and stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_ms = utc_ms()
        bought = accounts(settings)
        sold = offerings(settings, bought)
        self._admission = Admission()
        own = settings.gateway
        self._queue = Queue(own.queue.calls_max, own.queue.bytes_max)
        bounds = Bounds(own.pods, own.queue.hold_s_max)
        self._fleet = Fleet(settings.fleet, settings.models, sold, self._admission, bounds)
        self._catalogue = Catalogue(
            settings.models, lambda: self._fleet.view, self._started_ms // 1000
        )
        self._keys = Keys(settings)
        self._ratios = {m.name: TokenRatio() for m in settings.models}
        self._log = RequestLog()
        self._bought = bought

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then drain."""
        settings, own, loop = self._settings, self._settings.gateway, asyncio.get_running_loop()
        state = settings.state_dir
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        book = settings.ledger
        journal = Journal.open(
            state / "journal" / str(own.index), book.segment_bytes, book.reserve_bytes
        )
        ledger = SqliteLedger.open(state / "ledger.sqlite")
        drainer = Drainer(journal, ledger, book.drain_s)
        await self._recover(drainer)
        metrics = Metrics(gauges(self._admission, self._queue, self._fleet, drainer, self._ratios))
        observer = Observer(metrics, self._log, self._ratios)
        backends = self._backends()
        line = Line(self._queue, loop)
        pipeline = Pipeline(
            Stages(
                self._fleet, self._admission, line, backends, journal, observer, own.retry,
                loop, book.sync == "disk",
            )
        )  # fmt: skip
        self._fleet.on_death = stop.set
        self._fleet.on_view = lambda: line.refreshed(self._fleet.view)
        store = Idempotency(own.idempotency.ttl_s, own.idempotency.bytes_max)
        await self._remember(store, drainer, ledger)
        terms = Terms(
            pipeline, Idempotent(store, pipeline, loop.time), self._catalogue, self._keys.identify,
            own.classes, settings.deployment_id, metrics.unparsed, self._ratios,
            loop.time,
        )  # fmt: skip
        server = Server(Inference(terms), own.limits, loop)
        facts = ops.Facts(
            f"{settings.deployment_id}/{own.index}", self._started_ms,
            tuple(m.name for m in settings.models), lambda: self._fleet.view, self._admission,
            self._queue, observer, metrics, self._log, loop.time,
            lambda: [] if journal.can_begin else ["journal_full"],
        )  # fmt: skip
        drainer.start()
        try:
            await self._listen(server, facts, stop)
        finally:
            await self._fleet.close()
            for backend in backends.values():
                await backend.close()
            self._fleet.save(state / f"time-to-ready-{own.index}.json")
            await drainer.close()
            journal.close()
            ledger.close()
            self._log.flush()

    async def _recover(self, drainer: Drainer) -> None:
        """Settle what earlier lives left open; a ledger that is away must not stop serving."""
        try:
            recovered = await drainer.recover(utc_ms())
            _log.info("recovered", extra=msgspec.to_builtins(recovered))
        except (LedgerUnavailable, OSError) as error:
            _log.warning("recovery_postponed", extra={"reason": str(error)})

    async def _remember(self, store: Idempotency, drainer: Drainer, ledger: Ledger) -> None:
        """Keys answered by an earlier life: not replayable, but not to be served again."""
        loop = asyncio.get_running_loop()
        since_ms = utc_ms() - int(self._settings.gateway.idempotency.ttl_s * 1e3)
        try:
            rows = await drainer.ask(lambda: ledger.idempotency(since_ms))
        except (LedgerUnavailable, OSError) as error:
            _log.warning("idempotency_unknown", extra={"reason": str(error)})
            return
        for row in rows:
            key, _, body_hash = row.idempotency.partition(":")
            store.remember(key, body_hash, row.usage, loop.time())

    def _backends(self) -> Mapping[type[Any], Backend]:
        settings = self._settings
        fleet = settings.fleet
        pool = Pool(fleet.connect_s, fleet.connections_per_replica)
        return {
            Replica: ReplicaBackend(pool, self._fleet.secret, self._admission.reported),
            Offering: ProviderBackend(self._bought, settings.deployment_id),
        }

    async def _listen(self, server: Server, facts: ops.Facts, stop: asyncio.Event) -> None:
        settings, own = self._settings, self._settings.gateway
        loop = asyncio.get_running_loop()
        sources: list[Source] = [StaticSource(settings.fleet.static)]
        if settings.fleet.serve_url:
            sources.append(ServeSource(settings.fleet.serve_url, settings.fleet.ray_token_file))
        self._fleet.remember(settings.state_dir / f"time-to-ready-{own.index}.json")
        self._fleet.start(sources)
        ops_socket = _bind(own.ops_host, own.ops_port + own.index if own.ops_port else 0)
        config = uvicorn.Config(
            ops.build(facts),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
        )
        ops_server = _OpsServer(config)
        ops_socket.listen(128)  # so that it is there when the line below says so
        ops_task = asyncio.create_task(ops_server.serve([ops_socket]), name="ops")
        public_socket = _bind(own.host, own.port, is_shared=own.pods > 1)
        listener = await loop.create_server(server, sock=public_socket, backlog=4096)
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
        ops_server.should_exit = True
        await ops_task


class _OpsServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the gateway stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the process's handlers alone."""
        yield


def _bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A listening address, shared with our other processes if so told. Raises SettingsError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return bound


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Gateway(settings).run(stop)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="serving.app", description="Ballast gateway")
    parser.add_argument("--config", type=Path)
    logs.configure()
    try:
        settings = load(parser.parse_args().config)
        uvloop.run(_main(settings))
    except (SettingsError, auth.KeyConflict) as error:
        print(error, file=sys.stderr)  # noqa: T201 - to the person who started us
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
