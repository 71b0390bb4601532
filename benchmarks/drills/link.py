"""`python -m benchmarks.drills.link NEAR=FAR...`: forwards sockets, as a process of its own.

SIGSTOP makes it a network that drops every packet: nothing is refused or reset, nothing arrives.
SIGCONT heals it. An address is `HOST:PORT` or a path; the near port 0 is any free one. Prints one
JSON line when it listens: the near addresses in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence

import uvloop

CHUNK = 64 << 10


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _joined(far: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until both ends are done."""
    try:
        if far.startswith("/"):
            other = await asyncio.open_unix_connection(far)
        else:
            host, _, port = far.rpartition(":")
            other = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(_forward(reader, other[1]), _forward(other[0], writer))


async def _listen(near: str, far: str) -> tuple[asyncio.Server, str]:
    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _joined(far, reader, writer)

    if near.startswith("/"):
        return await asyncio.start_unix_server(met, near), near
    host, _, port = near.rpartition(":")
    server = await asyncio.start_server(met, host, int(port))
    return server, f"{host}:{server.sockets[0].getsockname()[1]}"


async def _run(pairs: Sequence[str]) -> int:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    servers, names = [], []
    for pair in pairs:
        near, _, far = pair.partition("=")
        server, name = await _listen(near, far)
        servers.append(server)
        names.append(name)
    print(json.dumps({"near": names}), flush=True)
    await ended.wait()
    for server in servers:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(_run(sys.argv[1:])))
