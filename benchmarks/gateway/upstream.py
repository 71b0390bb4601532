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
import functools
import itertools
import json
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import uvloop

MODEL = "m"
PROMPT_TOKENS = 16
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_MARK = re.compile(rb"@pace=(\d{1,4}),(\d{1,5});")
PACES_MAX = 32
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Pace(NamedTuple):
    """What every stream looks like: so many content events, so many milliseconds apart (0: all at
    once)."""

    tokens: int
    chunk_ms: float


def mark(pace: Pace) -> str:
    """What a prompt says to be answered at this pace; milliseconds are whole."""
    return f"@pace={pace.tokens},{pace.chunk_ms:.0f};"


def marked(body: bytes) -> Pace | None:
    """The pace that a request asks for."""
    found = _MARK.search(body)
    return Pace(int(found[1]), float(found[2])) if found else None


def event(payload: object) -> bytes:
    """One server-sent event in one HTTP chunk."""
    data = b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
    return chunk(data)


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Script:
    """The answers, ready to be written."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": pace.tokens,
            "total_tokens": PROMPT_TOKENS + pace.tokens,
        }
        self._usage = usage
        message = {"role": "assistant", "content": "tok " * pace.tokens}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "chatcmpl-0", "object": "chat.completion", "created": 1, "model": MODEL}
        self.whole = answer({**whole, "choices": [choice], "usage": usage})
        done = chunk(b"data: [DONE]\n\n") + _LAST_CHUNK
        plain, asked = self.events("chatcmpl-0", with_usage=False), self.events("chatcmpl-0")
        self.instant = [_SSE_HEAD, *plain, done]
        self.instant_usage = [_SSE_HEAD, *asked, done]
        self.done = done
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}
        load = {"w": 0, "r": 0, "q": 0, "kv": 0.0, "at": 0, "limit": 4096, "started": 1}
        self.others = {
            b"/internal/load": answer({**load, "model": MODEL, "draining": False}),
            b"/v1/models": answer({"object": "list", "data": [{**model, "max_model_len": 8192}]}),
            b"info": answer({"model_path": MODEL, "model_id": MODEL, "served_model_name": MODEL,
                             "tokenizer_path": MODEL, "is_generation": True}),
        }  # fmt: skip
        self.fine = answer({"status": "ok"})

    def events(self, name: str, *, with_usage: bool = True) -> list[bytes]:
        """The events of one stream but the last: numbered content, finish reason, usage."""
        base = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        found = [
            event({**base, "choices": [_choice({"content": f" tok{i}"}, None)]})
            for i in range(self.pace.tokens)
        ]
        found.append(event({**base, "choices": [_choice({}, "stop")]}))
        if with_usage:
            found.append(event({**base, "choices": [], "usage": self._usage}))
        return found

    def other(self, line: bytes) -> bytes:
        """The answer to a request that is no completion, by its first line."""
        for mark, data in self.others.items():
            if mark in line:
                return data
        return self.fine


def _choice(delta: dict[str, str], finish: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def answer(payload: object) -> bytes:
    """A whole JSON answer with its head."""
    body = json.dumps(payload).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


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
        write(_SSE_HEAD)
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


@functools.lru_cache(maxsize=PACES_MAX)
def scripted(pace: Pace) -> Script:
    """Made once for each pace that is asked for."""
    return Script(pace)


def take(buffer: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The first whole request as (request line, body, what follows); None while there is none."""
    end = buffer.find(_HEAD_END)
    if end < 0:
        return None
    head, start = buffer[:end].lower(), end + len(_HEAD_END)
    line = buffer[: buffer.find(b"\r\n")]
    if b"transfer-encoding: chunked" in head:
        stop = buffer.find(_LAST_CHUNK, start)
        if stop < 0:
            return None
        return line, buffer[start:stop], buffer[stop + len(_LAST_CHUNK) :]
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
