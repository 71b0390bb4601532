"""Blocks that go past the task which reads a stream: nothing is lost, doubled or carried over, and
the reader has the end, the fault and whatever was left to him, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from serving.backends.replica_stream import ReplicaStream
from serving.backends.silence import LOOK_S, Silence
from serving.errors import UpstreamError
from serving.records import Block
from serving.rescue import Pace
from serving.wire.client import Exchange

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


def said(word: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % word.encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire(asyncio.Transport):
    """An exchange whose bytes are fed by hand, behind the stream that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.exchange = Exchange(asyncio.get_running_loop())
        self.exchange.connection_made(self)
        self.is_over = self.was_given = False
        self.pace = Pace()

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.is_over = True

    def request(self, *_: object) -> bytes:
        return b"ask"

    async def connect(self, _: object, data: bytes, deadline_s: float) -> Exchange:
        await self.exchange.send(data, deadline_s)
        return self.exchange

    def give(self, _: object, exchange: Exchange) -> None:
        self.was_given = exchange.settle()

    def heard(self, *_: object) -> None:
        pass

    def feed(self, *events: bytes) -> None:
        self.exchange.data_received(b"".join(map(chunk, events)))


class Reading:
    """A stream that is read to its end while some of its blocks are taken past the reader."""

    def __init__(self, wire: Wire, stream: ReplicaStream) -> None:
        self.wire, self.stream = wire, stream
        self.is_slow = False
        self.order: list[tuple[str, bytes]] = []
        self.fault: Exception | None = None

    def take(self, block: Block) -> bool:
        if block.ends or self.is_slow:
            return False
        if self.fault is not None:
            raise self.fault
        self.order.append(("past", block.data))
        return True

    async def read(self) -> None:
        async for block in self.stream:
            if block.opens:
                self.order.append(("read", block.data))
                self.stream.hand(self.take)
                continue
            self.order.append(("read", block.data))


def run(check: Callable[[Reading, asyncio.Task[None]], Awaitable[None]], make: Any) -> None:
    async def main() -> None:
        wire = Wire()
        loop = asyncio.get_running_loop()
        replica = make.replica()
        terms = (make.ticket(replica), loop.time() + 20.0)
        reading = Reading(wire, ReplicaStream(wire, make.call(stream=True), replica, terms))
        task = asyncio.ensure_future(reading.read())
        await asyncio.sleep(0)
        wire.exchange.data_received(HEAD)
        wire.feed(ROLE + said("a"))
        await turns()
        try:
            await check(reading, task)
        finally:
            task.cancel()
            reading.stream.abort()
            await asyncio.gather(task, return_exceptions=True)

    uvloop.run(main())


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def test_what_only_passes_does_not_wake_the_reader(make):
    async def check(reading: Reading, task: asyncio.Task[None]) -> None:
        waiter = reading.wire.exchange.waiter
        for word in "bcd":
            reading.wire.feed(said(word))
        assert reading.wire.exchange.waiter is waiter
        assert reading.order[1:] == [("past", said(word)) for word in "bcd"]
        reading.wire.feed(LAST)
        reading.wire.exchange.data_received(chunk(DONE) + b"0\r\n\r\n")
        await task
        assert reading.order[4:] == [("past", LAST), ("read", DONE)]
        assert reading.wire.was_given

    run(check, make)


def test_an_event_in_pieces_passes_once_it_is_whole(make):
    async def check(reading: Reading, _: asyncio.Task[None]) -> None:
        for byte in said("b"):
            reading.wire.feed(bytes([byte]))
        assert reading.order[1:] == [("past", said("b"))]

    run(check, make)


def test_a_slow_client_has_all_in_order_from_the_reader(make):
    async def check(reading: Reading, _: asyncio.Task[None]) -> None:
        reading.wire.feed(said("b"))
        reading.is_slow = True
        reading.wire.feed(said("c"))  # left to the reader, who is not there yet
        reading.wire.feed(said("d"))
        await turns()
        reading.is_slow = False
        reading.wire.feed(said("e"))
        assert reading.order[1:] == [
            ("past", said("b")), ("read", said("c")), ("read", said("d")), ("past", said("e")),
        ]  # fmt: skip

    run(check, make)


def test_a_fault_of_the_engine_or_of_who_takes_reaches_the_reader(make):
    async def broken(reading: Reading, task: asyncio.Task[None]) -> None:
        reading.wire.feed(said("b") + b'data: {"error":{"message":"lost"}}\n\n')
        with pytest.raises(UpstreamError, match="carried an error"):
            await task
        assert [what for what in reading.order if said("b") == what[1]] == [("read", said("b"))]

    async def cut(reading: Reading, task: asyncio.Task[None]) -> None:
        reading.wire.feed(said("b"))
        reading.wire.exchange.connection_lost(None)
        with pytest.raises(UpstreamError, match="closed the connection"):
            await task
        assert reading.order[1:] == [("past", said("b"))]

    async def refused(reading: Reading, task: asyncio.Task[None]) -> None:
        reading.fault = RuntimeError("the client's end failed")
        reading.wire.feed(said("b"))
        with pytest.raises(RuntimeError, match="client's end"):
            await task

    for check in (broken, cut, refused):
        run(check, make)


def test_a_stream_without_its_end_is_a_break_though_all_went_past(make):
    async def check(reading: Reading, task: asyncio.Task[None]) -> None:
        reading.wire.feed(said("b"))
        reading.wire.exchange.data_received(b"0\r\n\r\n")
        with pytest.raises(UpstreamError, match="without a finish reason"):
            await task

    run(check, make)


def test_nothing_is_carried_over_to_the_next_call_of_a_connection(make):
    async def check(reading: Reading, task: asyncio.Task[None]) -> None:
        reading.wire.feed(LAST)
        reading.wire.exchange.data_received(chunk(DONE) + b"0\r\n\r\n")
        await task
        assert reading.wire.exchange.direct is None
        seen = len(reading.order)
        sending = asyncio.ensure_future(
            reading.wire.exchange.send(b"ask", asyncio.get_running_loop().time() + 20.0)
        )
        await asyncio.sleep(0)
        reading.wire.exchange.data_received(HEAD)
        await sending
        reading.wire.feed(said("x"))
        assert await reading.wire.exchange.read() == said("x")
        assert len(reading.order) == seen

    run(check, make)


class Clock:
    """A loop whose time is told; holds the one timer there is."""

    def __init__(self) -> None:
        self.now_s, self.look = 0.0, lambda: None

    def time(self) -> float:
        return self.now_s

    def call_later(self, _: float, look: Callable[[], None]) -> Any:
        self.look = look
        return self

    def cancel(self) -> None:
        pass


class Quiet:
    """An exchange on which somebody waits."""

    def __init__(self) -> None:
        self.waiter: Any = object()
        self.arrivals = 0
        self.said: list[str] = []

    def fail(self, message: str) -> None:
        self.said.append(message)


def test_a_stream_that_goes_past_its_reader_is_not_silent():
    clock, exchange = Clock(), Quiet()
    Silence(exchange, 3.0, clock)  # type: ignore[arg-type]
    for look in range(100):
        exchange.arrivals += 1
        clock.now_s = look * LOOK_S
        clock.look()
    assert not exchange.said
    for _ in range(6):
        clock.now_s += LOOK_S
        clock.look()
    assert exchange.said == ["the replica was silent for 3.0 s"]
