"""The clients of a drill: each request is sent when it is due, and how it ended is written down."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

from benchmarks.drills.values import (
    CLOSED,
    HUNG,
    LEFT,
    MODEL,
    REFUSED,
    TOLD_CUT,
    UNCLEAR,
    UNREACHED,
    WHOLE,
    Told,
    Wave,
)
from benchmarks.load.answers import Reader, code_of
from benchmarks.load.wire import Connections, Failed, Target
from serving.fakes.text import answer_text, seed_of
from serving.wire.client import Exchange, WireError

SLOW_BYTES = 4096
"""Read at a time by a slow client, and its window."""
AGAIN_S, FOREVER_S = 1.0, 1e6


class Crowd:
    """All clients of one load."""

    def __init__(self, gateways: Sequence[str], start_s: float) -> None:
        self._gateways = list(gateways)
        self._start_s = start_s
        self._loop = asyncio.get_running_loop()
        self._connections: dict[tuple[int, str], Connections] = {}
        self._turn = 0
        self.told: list[Told] = []

    async def send(self, waves: Sequence[Wave]) -> None:
        """All waves, until the last request has ended."""
        async with asyncio.TaskGroup() as group:
            for wave in waves:
                group.create_task(self._wave(wave, group))

    @property
    def resent(self) -> int:
        """Requests sent twice, for a kept connection died with the first."""
        return sum(connections.resent for connections in self._connections.values())

    def close(self) -> None:
        """Close what is idle."""
        for connections in self._connections.values():
            connections.close()

    async def _wave(self, wave: Wave, group: asyncio.TaskGroup) -> None:
        count = max(1, round(wave.seconds * wave.rate))
        for number in range(count):
            due_s = self._start_s + wave.from_s + number / wave.rate
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            for place in range(wave.at_once):
                group.create_task(self._until_told(wave, f"{wave.name} {number} {place}"))

    async def _until_told(self, wave: Wave, text: str) -> None:
        for left in range(wave.tries - 1, -1, -1):
            told = await self._ask(wave, text)
            if not left or told.end != REFUSED or told.status < 429:
                return
            told.will_come_again = True
            await asyncio.sleep(told.retry_after_s if told.retry_after_s >= 0 else AGAIN_S)

    async def _ask(self, wave: Wave, text: str) -> Told:
        messages = [{"role": "user", "content": text}]
        first = self._turn % len(self._gateways) if wave.gateway is None else wave.gateway
        self._turn += 1
        told = Told(
            wave=wave.name, key=wave.key, gateway=first, sent_s=self._now_s(),
            tokens=wave.tokens, is_stream=wave.is_stream,
        )  # fmt: skip
        self.told.append(told)
        others = 1 if wave.gateway is not None else len(self._gateways)
        try:
            async with asyncio.timeout(wave.give_up_s):
                for place in range(others):
                    told.gateway = (first + place) % len(self._gateways)
                    await self._once(wave, messages, told)
                    if told.end != UNREACHED:
                        break
        except TimeoutError:
            told.end = LEFT if wave.reads_s else HUNG
        told.done_s = self._now_s()
        return told

    async def _once(self, wave: Wave, messages: list[dict[str, str]], told: Told) -> None:
        connections = self._of(told.gateway, wave.key)
        body: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": wave.tokens}
        if wave.is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        reader = Reader(lambda _: None, keeps_text=True)
        deadline_s = self._loop.time() + wave.give_up_s
        try:
            if wave.read_pause_s or wave.reads_s:
                exchange = await _slowly_asked(connections.target, data, deadline_s)
            else:
                exchange = await connections.post(data, "", deadline_s)
            _head(told, exchange)
            rest = await self._read(exchange, reader, wave)
            connections.give(exchange)
        except Failed as failed:
            is_new = failed.kind in ("connect", "connect_timeout")
            told.end, told.words = (UNREACHED if is_new else CLOSED), str(failed)[:200]
        except WireError as error:
            told.end, told.words = CLOSED, str(error)[:200]
        else:
            raw = json.dumps(messages, separators=(",", ":"), ensure_ascii=False)
            _judge(told, reader, rest, answer_text(seed_of(raw), wave.tokens))
        told.first_s = reader.answer.first_s

    async def _read(self, exchange: Exchange, reader: Reader, wave: Wave) -> bytes:
        """The body of what is no good stream; a stream is read by the reader. Raises WireError."""
        kind = exchange.headers.get(b"content-type", b"")
        is_stream = exchange.status == 200 and kind.startswith(b"text/event-stream")
        parts: list[bytes] = []
        began_s = self._loop.time()
        try:
            while data := await exchange.read():
                if is_stream:
                    reader.feed(data, self._now_s())
                else:
                    parts.append(data)
                if isinstance(exchange, _Slow):
                    is_over = wave.reads_s and self._loop.time() >= began_s + wave.reads_s
                    await exchange.rest(FOREVER_S if is_over else wave.read_pause_s)
        except BaseException:
            exchange.abort()
            raise
        if exchange.status == 200 and not is_stream:
            reader.plain(b"".join(parts), self._now_s())
        return b"".join(parts)

    def _of(self, gateway: int, key: str) -> Connections:
        known = self._connections.get((gateway, key))
        if known is None:
            known = Connections(Target(self._gateways[gateway], key_of(key), MODEL))
            self._connections[gateway, key] = known
        return known

    def _now_s(self) -> float:
        return self._loop.time() - self._start_s


def key_of(name: str) -> str:
    """The API key with this name."""
    return f"bl-drill-{name}"


class _Slow(Exchange):
    """A connection with a small window whose reader rests: what it does not read stays where it is,
    so that the sender feels it."""

    async def rest(self, pause_s: float) -> None:
        """Read nothing for so long."""
        if self.is_closed:
            return
        self._transport.pause_reading()
        await asyncio.sleep(pause_s)
        if not self.is_closed:
            self._transport.resume_reading()


async def _slowly_asked(target: Target, data: bytes, deadline_s: float) -> Exchange:
    """A request over a connection of its own. Raises WireError."""
    loop = asyncio.get_running_loop()
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
    door.setblocking(False)
    try:
        await loop.sock_connect(door, target.address)
        _, exchange = await loop.create_connection(lambda: _Slow(loop), sock=door)
    except OSError as error:
        door.close()
        raise WireError(f"cannot connect: {error}", sent=False) from None
    more = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    head = target.head("POST", f"{target.base}/chat/completions", more)
    await exchange.send(head.encode("latin-1") + data, deadline_s)
    return exchange


def _head(told: Told, exchange: Exchange) -> None:
    told.status = exchange.status
    headers = exchange.headers
    told.request_id = headers.get(b"x-request-id", b"").decode("latin-1")
    told.target = headers.get(b"x-ballast-target", b"").decode("latin-1")
    retry_after = headers.get(b"retry-after", b"")
    told.retry_after_s = float(retry_after) if retry_after.isdigit() else -1.0


def _judge(told: Told, reader: Reader, body: bytes, wanted: str) -> None:
    """How it ended, from an answer that was read to its end."""
    answer = reader.answer
    told.prompt_tokens, told.completion_tokens = answer.prompt_tokens, answer.completion_tokens
    text = "".join(answer.text)
    told.text_is_right = wanted.startswith(text)
    if told.status != 200:
        told.code = code_of(body)
        told.end = UNCLEAR if told.code == "no_code" else REFUSED
        told.words = body[:200].decode("utf-8", "replace")
    elif answer.fault.startswith("in_stream "):
        told.end, told.code = TOLD_CUT, answer.fault.removeprefix("in_stream ")
    elif answer.fault or not (answer.finish and answer.has_done):
        told.end, told.words = UNCLEAR, answer.fault or "a stream without an end"
    else:
        told.end = WHOLE
        told.text_is_right = text == wanted
