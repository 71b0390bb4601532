"""`python -m ballast.alerting --config FILE`: run the bridge until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from ballast.alerting.bridge import Bridge
from ballast.alerting.settings import Alerting, load
from ballast.problem import ProblemError
from serving import logs


async def serve(settings: Alerting, stop: asyncio.Event) -> None:
    """Run until `stop`. Raises ProblemError when the address is taken or a secret unreadable."""
    bridge = Bridge(settings, logs.utc_ms)
    runner = web.AppRunner(bridge.app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise ProblemError(f"port {settings.port}: {error.strerror}") from None
        line = {"event": "listening", "url": f"http://{settings.host}:{runner.addresses[0][1]}"}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        async with aiohttp.ClientSession(proxy=settings.proxy) as session:
            telling = asyncio.create_task(bridge.run(session))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([telling, stopping], return_when=asyncio.FIRST_COMPLETED)
            died = telling.done()
            telling.cancel()
            stopping.cancel()
            await asyncio.wait([telling, stopping])
            if died:  # nobody would be told and nobody would know
                telling.result()
    finally:
        await runner.cleanup()


async def main_of(settings: Alerting) -> None:
    """Run until SIGTERM or SIGINT. Raises ProblemError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ballast.alerting", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    logs.configure()
    try:
        asyncio.run(main_of(load(parser.parse_args(argv).config)))
    except ProblemError as error:
        sys.stderr.write(f"{error.what}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
