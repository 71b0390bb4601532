"""The replica side of the wire against peers that answer badly: nothing of one answer may reach
another, nothing is held without bound, nothing waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from serving.wire.client import Exchange, WireError
from serving.wire.pool import Pool

WAIT_S = 20.0
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """Answers the n-th request it gets with the n-th act, then keeps the connection open."""

    def __init__(self, *acts: Act | bytes) -> None:
        self._acts = list(acts)
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.requests = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                act = self._acts[self.requests] if self.requests < len(self._acts) else OK
                self.requests += 1
                if isinstance(act, bytes):
                    writer.write(act)
                else:
                    await act(reader, writer)
            return
        writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


def run(check: Callable[[Peer, Pool], Awaitable[None]], *acts: Act | bytes) -> None:
    """Run `check` with a peer and a pool."""

    async def main() -> None:
        peer, pool = Peer(*acts), Pool(connect_s=5.0, per_address_max=4)
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        peer.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(WAIT_S):
                await check(peer, pool)
        finally:
            pool.close()
            peer.close()
            server.close()
            for _ in range(5):  # let the closed transports go
                await asyncio.sleep(0)

    uvloop.run(main())


async def take(peer: Peer, pool: Pool) -> Exchange:
    address = ("127.0.0.1", peer.port)
    return pool.take(address) or await pool.connect(address)


def in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def read_all(exchange: Exchange) -> bytes:
    parts = []
    while data := await exchange.read():
        parts.append(data)
    return b"".join(parts)


async def ask(peer: Peer, pool: Pool, within_s: float = WAIT_S) -> tuple[int, bytes]:
    """One exchange, and the connection given back."""
    exchange = await take(peer, pool)
    try:
        await exchange.send(ASK, in_s(within_s))
        status = exchange.status
        body = await read_all(exchange)
    finally:
        pool.give(("127.0.0.1", peer.port), exchange)
    return status, body


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


class Wire(asyncio.Transport):
    """An exchange driven by hand: each segment is fed as it is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_over = False
        self.exchange = Exchange(asyncio.get_running_loop())
        self.exchange.connection_made(self)

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.is_over = True

    def close(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    async def answer(self, *segments: bytes) -> tuple[int, bytes]:
        """What a request gets when these segments arrive."""
        sending = asyncio.ensure_future(self.exchange.send(ASK, in_s(WAIT_S)))
        await asyncio.sleep(0)
        for segment in segments:
            if not self.is_over:
                self.exchange.data_received(segment)
        await sending
        return self.exchange.status, await read_all(self.exchange)


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "length": (OK, 200, b"ok"),
    "chunks": (CHUNKED_HEAD + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", 200, b"ok"),
    "trailer": (CHUNKED_HEAD + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"ok"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "empty body": (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
    "early hints first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 9\r\n\r\n" + OK, 200, b"ok"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_reads_an_answer_however_it_is_cut(name):
    data, status, body = WHOLE[name]

    async def main() -> None:
        cuts = [[data[:i], data[i:]] for i in range(1, len(data))]
        for segments in (*cuts, [data], [data[i : i + 1] for i in range(len(data))]):
            wire = Wire()
            assert await wire.answer(*segments) == (status, body)
            assert "link" not in wire.exchange.headers
            assert wire.exchange.settle()

    uvloop.run(main())


def test_keeps_a_connection_for_the_next_request():
    async def check(peer: Peer, pool: Pool) -> None:
        for _ in range(3):
            assert await ask(peer, pool) == (200, b"ok")
        assert peer.connections == 1

    run(check)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["close", "1.0"],
)
def test_gives_up_a_connection_that_the_peer_will_close(answer):
    async def check(peer: Peer, pool: Pool) -> None:
        assert await ask(peer, pool) == (200, b"ok")
        assert await ask(peer, pool) == (200, b"ok")
        assert peer.connections == 2

    run(check, answer)


EVIL = b"HTTP/1.1 500 Evil\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"


def test_bytes_after_the_answer_poison_nothing():
    """Cut anywhere: neither this answer nor the next one may see them."""
    data = OK + EVIL

    async def main() -> None:
        for at in range(1, len(data) + 1):
            wire = Wire()
            assert await wire.answer(data[:at], data[at:]) == (200, b"ok"), at
            assert b"x-evil" not in wire.exchange.headers
            assert not wire.exchange.settle(), at

    uvloop.run(main())


def test_bytes_after_the_answer_end_the_connection():
    """On a real socket, in one segment or late: the next request gets a connection of its own."""

    async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        asyncio.get_running_loop().call_later(0.02, writer.write, EVIL[:40])

    async def check(peer: Peer, pool: Pool) -> None:
        assert await ask(peer, pool) == (200, b"ok")
        await until(lambda: pool.take(("127.0.0.1", peer.port)) is None)
        assert await ask(peer, pool) == (200, b"ok")
        assert peer.connections == 2

    run(check, late)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(EVIL, id="whole"),
        pytest.param(EVIL[:30], id="half"),
        pytest.param(b"\0", id="garbage"),
    ],
)
def test_bytes_in_the_same_segment_end_the_connection(extra):
    async def check(peer: Peer, pool: Pool) -> None:
        assert await ask(peer, pool) == (200, b"ok")
        assert await ask(peer, pool) == (200, b"ok")
        assert peer.connections == 2

    run(check, OK + extra)


BROKEN = {
    "shorter than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    "without length": b"HTTP/1.1 200 OK\r\n\r\nok",
    "chunks that end early": CHUNKED_HEAD + b"2\r\nok\r\n",
    "half a chunk": CHUNKED_HEAD + b"9\r\nok",
    "without the last empty line": CHUNKED_HEAD + b"2\r\nok\r\n0\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_cut_answer_gives_what_came_and_then_fails(name):
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BROKEN[name])
        writer.close()

    async def check(peer: Peer, pool: Pool) -> None:
        exchange = await take(peer, pool)
        await exchange.send(ASK, in_s(WAIT_S))
        assert await exchange.read() == b"ok"
        with pytest.raises(WireError) as caught:
            await exchange.read()
        assert caught.value.sent
        assert not caught.value.is_timeout
        assert not exchange.settle()

    run(check, cut)


NO_ANSWER = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0",
    "other protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
    b"Connection: upgrade\r\n\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_no_answer_is_an_error_at_once(name):
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(NO_ANSWER[name])
        writer.close()

    async def check(peer: Peer, pool: Pool) -> None:
        exchange = await take(peer, pool)
        with pytest.raises(WireError) as caught:
            await exchange.send(ASK, in_s(WAIT_S))
        assert caught.value.sent
        assert not caught.value.is_timeout
        exchange.settle()

    run(check, cut)


def test_a_head_without_end_is_not_kept_in_memory():
    """Bounded by us, not by the peer's patience."""

    async def main() -> None:
        wire = Wire()
        sending = asyncio.ensure_future(wire.exchange.send(ASK, in_s(WAIT_S)))
        await asyncio.sleep(0)
        wire.exchange.data_received(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(64):
            if not wire.is_over:
                wire.exchange.data_received(b"y" * 65536)
        await asyncio.sleep(0)
        over = wire.is_over
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        wire.exchange.settle()
        assert over, "4 MiB of one header were taken in"

    uvloop.run(main())


def test_a_reset_is_an_error_at_once():
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def check(peer: Peer, pool: Pool) -> None:
        with pytest.raises(WireError):
            await ask(peer, pool)

    run(check, reset)


@pytest.mark.parametrize("first", [b"", CHUNKED_HEAD, CHUNKED_HEAD + b"2\r\nok\r\n"])
def test_the_deadline_covers_head_and_body(first):
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.read()

    async def check(peer: Peer, pool: Pool) -> None:
        with pytest.raises(WireError) as caught:
            await ask(peer, pool, within_s=0.1)
        assert caught.value.is_timeout
        assert peer.requests == 1
        assert pool.take(("127.0.0.1", peer.port)) is None

    run(check, stall)


def test_each_request_of_a_connection_has_its_own_deadline():
    """One timer serves them all: it must be neither late for the second nor early for the third."""

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await passed.wait()
        writer.write(OK)

    async def check(peer: Peer, pool: Pool) -> None:
        assert await ask(peer, pool, within_s=0.1) == (200, b"ok")
        asyncio.get_running_loop().call_later(0.2, passed.set)
        assert await ask(peer, pool) == (200, b"ok")  # past the first one's deadline
        with pytest.raises(WireError) as caught:
            await ask(peer, pool, within_s=0.05)
        assert caught.value.is_timeout
        assert (peer.connections, peer.requests) == (1, 3)

    passed = asyncio.Event()
    run(check, OK, slow, stall)


def test_a_refused_connect_says_that_nothing_was_sent():
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, never listening
            with pytest.raises(WireError) as caught:
                await Pool(5.0, 4).connect(taken.getsockname())
        assert not caught.value.sent
        assert not caught.value.is_timeout

    uvloop.run(main())


def test_a_connect_that_hangs_ends_after_its_own_limit():
    async def main() -> None:
        with contextlib.ExitStack() as open_sockets:
            full = open_sockets.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # more than the backlog takes
                client = open_sockets.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            with pytest.raises(WireError) as caught:
                await Pool(0.2, 4).connect(full.getsockname())
        assert not caught.value.sent
        assert caught.value.is_timeout

    uvloop.run(main())


def test_a_reader_that_pauses_holds_the_peer_back():
    """Else one slow client would pull a whole answer into memory."""
    total, written = 128 << 20, 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while written < total:
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()

    async def check(peer: Peer, pool: Pool) -> None:
        exchange = await take(peer, pool)
        await exchange.send(ASK, in_s(WAIT_S))
        before = -1
        while written != before:  # until the peer stands still
            before = written
            await asyncio.sleep(0.05)
        # The sockets' own buffers hold most of this.
        assert written < 32 << 20
        assert len(await exchange.read()) < 2 << 20
        size = 0
        while data := await exchange.read():
            size += len(data)
        assert exchange.has_ended
        assert size > total - (2 << 20)
        assert exchange.settle()
        exchange.abort()

    run(check, flood)


def test_the_pool_keeps_no_more_idle_connections_than_allowed():
    async def check(peer: Peer, pool: Pool) -> None:
        address = ("127.0.0.1", peer.port)
        exchanges = [await pool.connect(address) for _ in range(6)]
        for exchange in exchanges:
            await exchange.send(ASK, in_s(WAIT_S))
            assert await read_all(exchange) == b"ok"
        for exchange in exchanges:
            pool.give(address, exchange)
        assert sum(not exchange.is_closed for exchange in exchanges) == 4
        pool.forget(set())
        assert all(exchange.is_closed for exchange in exchanges)
        assert pool.take(address) is None

    run(check)


def test_an_unfinished_answer_never_goes_back_to_the_pool():
    async def check(peer: Peer, pool: Pool) -> None:
        exchange = await take(peer, pool)
        await exchange.send(ASK, in_s(WAIT_S))
        pool.give(("127.0.0.1", peer.port), exchange)
        assert exchange.is_closed
        assert await ask(peer, pool) == (200, b"ok")
        assert peer.connections == 2

    run(check, CHUNKED_HEAD + b"2\r\nok\r\n")


def test_a_connection_the_peer_closed_while_idle_is_not_used():
    async def close_after(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    async def check(peer: Peer, pool: Pool) -> None:
        exchange = await take(peer, pool)
        await exchange.send(ASK, in_s(WAIT_S))
        assert await read_all(exchange) == b"ok"
        pool.give(("127.0.0.1", peer.port), exchange)
        await until(lambda: exchange.is_closed)
        assert await ask(peer, pool) == (200, b"ok")

    run(check, close_after)


def test_a_loop_that_was_late_itself_does_not_call_a_good_connection_slow():
    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            asked = asyncio.create_task(Pool(0.02, 4).connect(server.sockets[0].getsockname()))
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251 - a starved machine: nothing of this process runs
            (await asked).abort()

    asyncio.run(main())
    uvloop.run(main())


def test_a_connection_that_comes_as_its_caller_leaves_is_closed():
    async def main() -> None:
        open_: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.add(writer)
            await reader.read()
            open_.discard(writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for turns in range(40):  # among them the turn in which it stands
                pool = Pool(5.0, 4)
                asked = asyncio.create_task(pool.connect(server.sockets[0].getsockname()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if asked.done():
                    asked.result().abort()
                    continue
                asked.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    (await asked).abort()
            for _ in range(50):  # until the last ones are accepted
                await asyncio.sleep(0)
            until_s = asyncio.get_running_loop().time() + 3.0
            while open_ and asyncio.get_running_loop().time() < until_s:
                await asyncio.sleep(0.01)
            assert not open_

    asyncio.run(main())
    uvloop.run(main())
