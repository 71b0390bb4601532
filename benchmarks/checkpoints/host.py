"""Runs `EngineReplica` without Ray, one engine after another in one process.

Ray places and watches replicas, the same for every architecture; what differs between them is
vLLM's. So one process imports vLLM once and serves them in turn. It reads lines from stdin: the
JSON fields of an EngineSpec start an engine, `stop` ends it, the end of stdin ends the host. Each
line is answered by one of JSON: address and seconds, or the error. vLLM's own words go to stderr.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from serving.engine.replica import EngineReplica

LOOPBACK = "127.0.0.1"
GRACE_S = 20.0
"""For a core to end by itself: ended by force, it may be gone before vLLM looks for its children,
which raises."""
REFUSALS = (RuntimeError, ValueError, ImportError, OSError, AssertionError, SystemExit)
"""How vLLM says that it cannot run a model; its parser exits on a bad flag."""
Answer = Callable[..., None]
Read = Callable[[], Awaitable[bytes]]


async def serve(read: Read, answer: Answer) -> None:
    """Serve an engine for each spec that `read` yields, until it yields nothing."""
    while line := await read():
        try:
            await _serve_one(json.loads(line), read, answer)
        except REFUSALS as error:
            answer(error=f"{type(error).__name__}: {error}")


async def _serve_one(args: dict[str, Any], read: Read, answer: Answer) -> None:
    started_s = time.monotonic()
    async with engine(args) as address:
        answer(address=address, seconds=round(time.monotonic() - started_s, 2))
        await read()
    answer(stopped=args["model_name"])


@asynccontextmanager
async def engine(args: dict[str, Any]) -> AsyncIterator[str]:
    """A running replica behind its gate, as Serve's direct ingress would serve it; its address."""
    replica = EngineReplica(args)
    try:
        app: Any = await replica.__serve_build_asgi_app__()
        await replica.check_health()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        # It listens from here on: who connects before uvicorn runs waits in the kernel's queue.
        with socket.create_server((LOOPBACK, 0)) as listener:
            running = asyncio.create_task(server.serve([listener]))
            yield "http://{}:{}".format(*listener.getsockname())
            server.should_exit = True
            await running
        await replica.check_health()
    finally:
        replica.close(GRACE_S)


async def main() -> None:
    """Speak over stdin and stdout."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        out.write(json.dumps(fields) + "\n")
        out.flush()

    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    await serve(lines.readline, answer)


if __name__ == "__main__":
    asyncio.run(main())
