"""The controller's composition root: `python -m autoscale.app --config FILE`.

The loop itself is in `controller`; here it gets its lease, its actuators, and an ops listener on
loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from autoscale.acting import parts_of
from autoscale.bookkeeping import Bookkeeper
from autoscale.canaries import Canaries, key
from autoscale.checkpoints import Checkpoints, Kept
from autoscale.controller import Controller
from autoscale.gateways import Gateways
from autoscale.journal import Journal
from autoscale.rollout_hook import RolloutHook
from autoscale.rollouts import Means, Rollouts
from models.worded import Worded
from serving import logs
from serving.audit.auditor import KEY_FILE, signer
from serving.directory.store import opener as directory_opener
from serving.finance.store import open_to_read, opener
from serving.ledger.store import opener as ledger_opener
from serving.quality import store as quality_store
from serving.rollout.counts import first_s
from serving.settings import EXIT_CODE, Settings, SettingsError, load

_log = logging.getLogger("autoscale.app")


def ops(controller: Controller, rolling: Rollouts | None = None) -> web.Application:
    """`/livez`, `/decisions` (also why each rollout waits), `/metrics`."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text='{"status":"ok"}', content_type="application/json")

    async def decisions(_: web.Request) -> web.Response:
        recent = list(controller.journal.recent)[::-1]
        waiting = {} if rolling is None else rolling.waiting()
        told = {
            "decisions": recent, "standing": controller.standing(), "rollouts": waiting,
        }  # fmt: skip
        body = msgspec.json.encode(told, enc_hook=str)
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
    state = settings.state_dir.expanduser()
    books = Bookkeeper(settings, opener(settings))
    async with contextlib.AsyncExitStack() as held:
        held.push_async_callback(books.close)
        parts = await parts_of(settings, state, books, held)
        controller = Controller(settings, Journal(state / "controller"), parts)
        rolling = Rollouts(rollout_means(settings), controller.registry)
        runner = web.AppRunner(ops(controller, rolling), access_log=None)
        held.push_async_callback(runner.cleanup)
        await listen(runner, settings.controller.ops_host, settings.controller.ops_port)
        session = await held.enter_async_context(aiohttp.ClientSession())
        tasks = [asyncio.create_task(controller.run(session), name="ticks")]
        tasks += [
            asyncio.create_task(while_leading(controller, work), name=name)
            for name, work in jobs(settings, controller.registry, session, rolling)
        ]
        await _until(stop, tasks)


async def listen(runner: web.AppRunner, host: str, port: int) -> None:
    """Open the ops listener and say where. Raises SettingsError when it cannot be had."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SettingsError(
            Worded(
                "settings.controller_port",
                "controller.ops_host {host}, ops_port {port}: {strerror}",
                host=host,
                port=port,
                strerror=error.strerror,
            )
        ) from None
    line = {"event": "listening", "url": f"http://{host}:{runner.addresses[0][1]}"}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def jobs(
    settings: Settings,
    registry: CollectorRegistry,
    session: aiohttp.ClientSession,
    rolling: Rollouts,
) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
    """The scheduled work beside the ticks, by name."""
    found: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []
    if settings.canaries.key_file is not None:
        asking = canaries_of(settings, registry)
        found.append(("canaries", lambda: asking.run(session)))
    signing = checkpoints_of(settings, registry)
    if signing is not None:
        given = settings.audit
        found.append(("checkpoints", lambda: signing.run(session, given.anchor_url, given.every_s)))
    found.append(("rollouts", lambda: rolling.run(session)))
    if settings.rollout.hook.url:
        telling = hook_of(settings, registry)
        found.append(("rollout hook", lambda: telling.run(session)))
    return found


def rollout_means(settings: Settings) -> Means:
    """What drives rollouts."""
    own = settings.gateway
    return Means(
        settings.rollout, directory_opener(settings), lambda: open_to_read(settings),
        Gateways(own.ops_host, own.ops_port, own.pods), first_s(settings), logs.utc_ms,
    )  # fmt: skip


def hook_of(settings: Settings, registry: CollectorRegistry) -> RolloutHook:
    """What tells of them."""
    path = settings.state_dir.expanduser() / "controller" / "rollout-hook"
    name = settings.deployment_id or ""
    opened = directory_opener(settings)
    return RolloutHook(settings.rollout.hook, name, path, opened, registry)


async def while_leading(
    controller: Controller, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Do the work whenever this controller leads; two controllers must not do it both."""
    while True:
        await controller.led.wait()
        task = asyncio.create_task(work())
        lost = asyncio.create_task(controller.lost.wait())
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            was_lost = lost.done()
            for one in (task, lost):
                one.cancel()
            ended = await asyncio.gather(task, lost, return_exceptions=True)
        if isinstance(ended[0], Exception):
            raise ended[0]
        if not was_lost:
            return  # it ended by itself


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
