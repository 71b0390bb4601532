"""Listening, for the fakes: in a test's own event loop or as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable

import uvloop
from aiohttp import web

_SHUTDOWN_S = 0.2
"""How long handlers under way may run on after `close`; stalls never end by themselves."""
BODY_BYTES_MAX = 64 * 1024 * 1024


class Served:
    """A fake that listens. `url` is the base to which `/v1/...` is appended."""

    def __init__(self, runner: web.AppRunner, host: str, prefix: str) -> None:
        self._runner = runner
        self.port: int = runner.addresses[0][1]
        self.url = f"http://{host}:{self.port}{prefix}"

    def kill(self) -> None:
        """Drop the listener and every connection at once, as the kernel does for a killed process.

        `close` is still needed afterwards.
        """
        for site in list(self._runner.sites):
            if isinstance(site, Listener):
                site.drop()
        server = self._runner.server
        for handler in list(server.connections) if server else []:
            if handler.transport is not None:
                reset(handler.transport)

    async def close(self) -> None:
        """Stop listening, end what is under way, wait until all is gone."""
        await self._runner.cleanup()


class Listener(web.BaseSite):
    """A socket site whose listening socket can be dropped without waiting."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket) -> None:
        super().__init__(runner, backlog=4096)
        self._listening = listening

    @property
    def name(self) -> str:
        """The address, for aiohttp's own messages."""
        return "http://{}:{}".format(*self._listening.getsockname())

    async def start(self) -> None:
        """Begin to accept."""
        await super().start()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(server, sock=self._listening, backlog=4096)

    def drop(self) -> None:
        """Stop accepting now."""
        if self._server is not None:
            self._server.close()


async def serve(app: web.Application, host: str, port: int, prefix: str = "") -> Served:
    """Listen on `host:port` (0 = any free port). A client that goes away cancels its handler."""
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
    )
    await runner.setup()
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        await runner.cleanup()
        raise
    listening.setblocking(False)
    await Listener(runner, listening).start()
    return Served(runner, host, prefix)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a TCP reset instead of an orderly end; unsent bytes are lost."""
    if transport.is_closing():
        return
    known = transport.get_extra_info("socket")
    # The option belongs to the connection, not to the descriptor, so a duplicate may set it:
    # uvloop shows its sockets read-only.
    with socket.socket(fileno=os.dup(known.fileno())) as duplicate:
        linger_on_for_no_time = struct.pack("ii", 1, 0)
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_on_for_no_time)
    transport.abort()


def run_process(start: Callable[[], Awaitable[Served]]) -> int:
    """Serve until SIGTERM or SIGINT; prints one JSON line when listening. Returns the exit code."""
    return uvloop.run(_until_signalled(start))


async def _until_signalled(start: Callable[[], Awaitable[Served]]) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.ensure_future(start())
    stopping = asyncio.ensure_future(ended.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return 0
    served = starting.result()
    ready = {"ready": True, "url": served.url, "port": served.port, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    await stopping
    await served.close()
    return 0
