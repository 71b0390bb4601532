"""An instant OpenAI-shaped engine on raw asyncio and uvloop, so that it is never the bottleneck.

Every answer is made before the first request. It also answers what routers ask an engine
(`/internal/load` for Ballast, `/v1/models`, `/health`, `/metrics`, `/server_info`), so that each
takes it for one of its own. It checks nothing and refuses nothing.

With `--chunk-ms` each stream is paced and bears an id of its own, and its events are numbered:
`check.py` can tell lost, doubled, reordered and mixed-up events. A prompt may ask for another pace
(`mark`), so that one upstream serves every measurement. `--targets` makes it as many engines, each
on a port of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import uvloop

from benchmarks.gateway.script import LAST_CHUNK, SSE_HEAD, Pace, Script, marked, scripted

_HEAD_END = b"\r\n\r\n"
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')


class Upstream(asyncio.Protocol):
    """One connection; pipelined requests are answered in order."""

    _numbers = itertools.count(1)

    def __init__(self, script: Script) -> None:
        self._script = script
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._buffer = b""
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._is_busy:
            taken = take(self._buffer)
            if taken is None:
                return
            line, body, self._buffer = taken
            self._answer(line, body)

    def _answer(self, line: bytes, body: bytes) -> None:
        script, write = self._asked(body), self._transport.write
        if not line.startswith(b"POST") or b"/chat/completions" not in line:
            write(script.other(line))
            return
        if not _STREAM.search(body):
            write(script.whole)
            return
        with_usage = _USAGE.search(body) is not None
        if script.pace.chunk_ms == 0:
            # One write an event, as an engine does; uvloop sends them together.
            for piece in script.instant_usage if with_usage else script.instant:
                write(piece)
            return
        self._is_busy = True
        write(SSE_HEAD)
        events = script.events(f"chatcmpl-{next(self._numbers)}", with_usage=with_usage)
        self._send(_Timetable(events, script, self._loop.time()), 0)

    def _asked(self, body: bytes) -> Script:
        """The answers at the pace that the prompt asks for."""
        pace = marked(body)
        if pace is None or pace == self._script.pace:
            return self._script
        return scripted(pace)

    def _send(self, due: _Timetable, index: int) -> None:
        """The first event at once, as the first token is; a late one does not delay the next."""
        if self._transport.is_closing():
            return
        pace = due.script.pace
        if index < pace.tokens:
            self._transport.write(due.events[index])
            at_s = due.start_s + (index + 1) * pace.chunk_ms / 1e3
            self._loop.call_at(at_s, partial(self._send, due, index + 1))
            return
        self._transport.write(b"".join(due.events[index:]) + due.script.done)
        self._is_busy = False
        self.data_received(b"")


class _Timetable(NamedTuple):
    """One paced stream."""

    events: list[bytes]
    script: Script
    start_s: float


def take(buffer: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The first whole request as (request line, body, what follows); None while there is none."""
    end = buffer.find(_HEAD_END)
    if end < 0:
        return None
    head, start = buffer[:end].lower(), end + len(_HEAD_END)
    line = buffer[: buffer.find(b"\r\n")]
    if b"transfer-encoding: chunked" in head:
        stop = buffer.find(LAST_CHUNK, start)
        if stop < 0:
            return None
        return line, buffer[start:stop], buffer[stop + len(LAST_CHUNK) :]
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    if len(buffer) < start + length:
        return None
    return line, buffer[start : start + length], buffer[start + length :]


async def serve(port: int, pace: Pace, targets: int) -> None:
    """Listen on loopback until SIGTERM; prints one JSON line when ready."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    script = Script(pace)
    servers = [
        await loop.create_server(lambda: Upstream(script), "127.0.0.1", port, backlog=4096)
        for _ in range(targets)
    ]
    urls = [f"http://127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers]
    print(json.dumps({"event": "listening", "url": urls[0], "urls": urls}), flush=True)
    await ended.wait()
    for server in servers:
        server.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--targets", type=int, default=1, help="engines, each on any free port")
    parser.add_argument("--tokens", type=int, default=64, help="content events per stream")
    parser.add_argument("--chunk-ms", type=float, default=0.0, help="pause between events")
    given = parser.parse_args(argv)
    if given.port and given.targets > 1:
        parser.error("several targets take ports that are free: leave --port out")
    uvloop.run(serve(given.port, Pace(given.tokens, given.chunk_ms), given.targets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
