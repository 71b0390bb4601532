"""The public listener against hostile and unlucky clients: smuggling, limits, slowness, drain.

Two ways in: a real loopback socket, and the protocol driven by hand (`Wire`) where a case must be
cut at every byte, which no socket promises.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop

from serving.errors import CallerError
from serving.settings import Limits
from serving.wire.server import Connection, Request, Server

WAIT_S = 20.0
"""Longest any step may take on a busy machine; nothing here waits so long when all is well."""
HEAD = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = Limits(body_bytes_max=4096, header_bytes_max=2048, header_count_max=16)


class App:
    """Answers `/now` in the same turn, `/later` when told, `/stream` in pieces."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.pieces = [b"one", b"two"]
        self.connection: Connection | None = None

    def __call__(self, request: Request, connection: Connection) -> None:
        self.seen.append(request)
        self.connection = connection
        if request.path.startswith(b"/later"):
            connection.run(self._later(connection))
        elif request.path.startswith(b"/stream"):
            connection.run(self._stream(connection))
        else:
            connection.answer(200, b'{"path":"%b"}' % request.path)

    async def _later(self, connection: Connection) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        connection.answer(200, b'{"later":true}')

    async def _stream(self, connection: Connection) -> None:
        try:
            connection.start(b"")
            for piece in self.pieces:
                connection.write(piece)
                if connection.is_paused:
                    await connection.writable()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        connection.end()


class Answer:
    """One response as a client reads it."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI-shaped error; fails when it is anything else."""
        assert self.headers["content-type"] == "application/json"
        data = msgspec.json.decode(self.body)
        assert set(data) == {"error"}, data
        assert set(data["error"]) == {"message", "type", "param", "code"}
        assert data["error"]["message"]
        return data["error"]


def answers(data: bytes, *, is_head: bool = False) -> list[Answer]:
    """All responses in what a connection sent; whatever is left over fails."""
    found = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        assert mark, f"not an HTTP head: {head!r}"
        first, *lines = head.decode().split("\r\n")
        assert first.startswith("HTTP/1.1 "), first
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status == 100:
            found.append(Answer(status, headers, b""))
            continue
        if is_head:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body, data = _dechunked(data)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, data = data[:length], data[length:]
            assert len(body) == length, "cut short"
        else:
            body, data = data, b""
        found.append(Answer(status, headers, body))
    return found


def _dechunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            return body, data


class Served:
    """A server on loopback and what its tests need."""

    def __init__(self, server: Server, app: App, port: int) -> None:
        self.server, self.app, self.port = server, app, port
        self._opened: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection; closed at the latest with the server."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._opened.append(writer)
        return reader, writer

    async def ask(self, data: bytes) -> list[Answer]:
        """Send, read to the end of the connection. A reset fails."""
        reader, writer = await self.open()
        writer.write(data)
        got = await reader.read()
        writer.close()
        return answers(got)

    async def close(self) -> None:
        """Hang up and wait until the server noticed."""
        for writer in self._opened:
            writer.transport.abort()
        await self.server.drain(0.0)
        while self.server.connections:
            await asyncio.sleep(0.005)


def run(check: Callable[[Served], Awaitable[None]], limits: Limits = SMALL) -> None:
    """Run `check` against a fresh server in a fresh loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = App()
        server = Server(app, limits, loop)
        listener = await loop.create_server(server, "127.0.0.1", 0)
        served = Served(server, app, listener.sockets[0].getsockname()[1])
        try:
            async with asyncio.timeout(WAIT_S):
                await check(served)
        finally:
            listener.close()
            await served.close()

    uvloop.run(main())


class Wire(asyncio.Transport):
    """A connection driven by hand: each `feed` is one segment."""

    def __init__(self, app: App, limits: Limits = SMALL) -> None:
        super().__init__()
        self.sent = b""
        self.is_over = False
        loop = asyncio.get_running_loop()
        self.server = Server(app, limits, loop)
        self.protocol = self.server()
        self.protocol.connection_made(self)

    def feed(self, *segments: bytes) -> list[Answer]:
        """Deliver segments as long as the server keeps the connection; what it answered."""
        for segment in segments:
            if not self.is_over:
                self.protocol.data_received(segment)
        return answers(self.sent)

    def write(self, data: Any) -> None:
        assert not self.is_over, "written after the close"
        self.sent += bytes(data)

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def write_eof(self) -> None:
        self.is_over = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def by_hand(check: Callable[[], Awaitable[None]]) -> None:
    """Run a check that drives `Wire`s."""
    uvloop.run(asyncio.wait_for(check(), WAIT_S))


def post(*lines: bytes, body: bytes = b"", path: bytes = b"/now", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"POST %b HTTP/%b" % (path, version), *lines, b"", body))


HOST = b"Host: a"
CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED: dict[str, tuple[bytes, int]] = {
    "length and chunked": (
        post(HOST, b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED), 400),
    "chunked and length": (
        post(HOST, CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED), 400),
    "two lengths that differ": (
        post(HOST, b"Content-Length: 0", b"Content-Length: 35", body=SMUGGLED), 400),
    "two lengths that agree": (
        post(HOST, b"Content-Length: 2", b"Content-Length: 2", body=b"{}"), 400),
    "a list of lengths": (post(HOST, b"Content-Length: 2, 2", body=b"{}"), 400),
    "length with plus": (post(HOST, b"Content-Length: +2", body=b"{}"), 400),
    "length with minus": (post(HOST, b"Content-Length: -2", body=b"{}"), 400),
    "length with a space inside": (post(HOST, b"Content-Length: 1 2", body=b"{}"), 400),
    "length in hex": (post(HOST, b"Content-Length: 0x2", body=b"{}"), 400),
    "length with underscore": (post(HOST, b"Content-Length: 1_0", body=b"{}"), 400),
    "empty length": (post(HOST, b"Content-Length:", body=b""), 400),
    "length beyond 64 bits": (post(HOST, b"Content-Length: " + b"9" * 30), 400),
    "unknown coding": (post(HOST, b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "identity": (post(HOST, b"Transfer-Encoding: identity", body=b"{}"), 400),
    "chunked not last": (
        post(HOST, b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "two codings lines": (
        post(HOST, CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), 400),
    "two chunked lines": (post(HOST, CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunked with a vertical tab": (
        post(HOST, b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "space before colon": (post(HOST, b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "space before the first name": (post(b" Host: a", body=b""), 400),
    "folded line": (post(HOST, b"X: a", b" b", body=b""), 400),
    "folded coding": (
        post(HOST, b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + SMUGGLED), 400),
    "bare LF after a header": (b"GET /now HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare LF after the request line": (b"GET /now HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF at the end of the head": (b"GET /now HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare CR in a value": (b"GET /now HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400),
    "NUL in a value": (b"GET /now HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "NUL in a name": (b"GET /now HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400),
    "NUL in the target": (b"GET /n\0w HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "line without colon": (b"GET /now HTTP/1.1\r\nHost: a\r\nFoo\r\n\r\n", 400),
    "empty name": (b"GET /now HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "no host": (b"GET /now HTTP/1.1\r\nX: y\r\n\r\n", 400),
    "two hosts": (b"GET /now HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two credentials": (
        b"GET /now HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /now\r\n\r\n", 400),
    "HTTP/2.0 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /now HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "lower-case protocol": (b"GET /now http/1.1\r\nHost: a\r\n\r\n", 400),
    "space before the method": (b" GET /now HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40, 400),
    "chunk size that overflows": (post(HOST, CHUNKED, body=b"1" + b"0" * 16 + b"\r\nab"), 400),
    "chunk size with 0x": (post(HOST, CHUNKED, body=b"0x2\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size with minus": (post(HOST, CHUNKED, body=b"-2\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size with space": (post(HOST, CHUNKED, body=b"2 \r\nab\r\n0\r\n\r\n"), 400),
    "chunk size ended by LF": (post(HOST, CHUNKED, body=b"2\nab\r\n0\r\n\r\n"), 400),
    "chunk longer than its size": (post(HOST, CHUNKED, body=b"2\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk extension ended by LF": (post(HOST, CHUNKED, body=b"2;a\nab\r\n0\r\n\r\n"), 400),
    "body too large by length": (post(HOST, b"Content-Length: 4097"), 413),
    "body far too large by length": (post(HOST, b"Content-Length: 99999999999999"), 413),
    "chunk announced larger than allowed": (
        post(HOST, CHUNKED, body=b"1001\r\n" + b"x" * 4097), 413),
    "chunks too large together": (
        post(HOST, CHUNKED, body=(b"800\r\n" + b"x" * 2048 + b"\r\n") * 3), 413),
    "too many headers": (
        b"GET /now HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 16 + b"\r\n", 431),
    "head never ends": (b"GET /now HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2048, 431),
    "target never ends": (b"GET /" + b"y" * 2048, 431),
    "head too large, whole": (
        b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + b"y" * 2048 + b"\r\n\r\n",
        431),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_once_in_openai_form_and_closes(name):
    data, status = REFUSED[name]

    async def check(served: Served) -> None:
        (answer,) = await served.ask(data)
        assert answer.status == status
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert not served.app.seen

    run(check)


@pytest.mark.parametrize("name", [name for name in REFUSED if "whole" not in name])
def test_refuses_the_same_when_it_comes_byte_by_byte(name):
    data, status = REFUSED[name]
    if name == "body too large by length":
        data = data[:-1]  # the refusal comes with the head's last byte

    async def check() -> None:
        app = App()
        segments = [data[i : i + 1] for i in range(len(data))]
        (answer,) = Wire(app).feed(*segments, b"\n")
        assert answer.status == status
        assert answer.error
        assert not app.seen

    by_hand(check)


TAKEN: dict[str, tuple[bytes, bytes]] = {
    "length": (post(HOST, b"Content-Length: 2", body=b"{}"), b"{}"),
    "length with leading zeros": (post(HOST, b"Content-Length: 0002", body=b"{}"), b"{}"),
    "chunks": (post(HOST, CHUNKED, body=b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), b"{}"),
    "chunks in capitals": (
        post(HOST, b"TRANSFER-ENCODING: Chunked", body=b"A\r\n0123456789\r\n0\r\n\r\n"),
        b"0123456789",
    ),
    "chunk extension": (
        post(HOST, CHUNKED, body=b'2;a="b;c";d\r\n{}\r\n0;last\r\n\r\n'), b"{}"),
    "trailer": (post(HOST, CHUNKED, body=b"2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n"), b"{}"),
    "largest body": (post(HOST, b"Content-Length: 4096", body=b"x" * 4096), b"x" * 4096),
    "largest chunked body": (
        post(HOST, CHUNKED, body=b"1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n"), b"x" * 4096),
    "empty lines before": (b"\r\n\r\n" + post(HOST, b"Content-Length: 2", body=b"{}"), b"{}"),
    "absolute target": (
        post(HOST, b"Content-Length: 2", body=b"{}", path=b"http://a/now"), b"{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_takes_what_is_right_however_it_is_cut(name):
    data, body = TAKEN[name]

    async def check() -> None:
        cuts = [[data[:i], data[i:]] for i in range(1, len(data), 1 + len(data) // 300)]
        bytewise = [data[i : i + 1] for i in range(len(data))]
        for segments in (*cuts, [data], bytewise):
            app = App()
            wire = Wire(app)
            (answer,) = wire.feed(*segments)
            assert answer.status == 200
            assert not wire.is_over
            assert [seen.body for seen in app.seen] == [body]

    by_hand(check)


def test_a_trailer_never_becomes_a_header():
    """Or a proxy that strips a header from the head would be walked around."""
    trailers = b"Authorization: Bearer stolen\r\nX-Ballast-Hop: x\r\n"
    data = post(HOST, CHUNKED, body=b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n")

    async def check() -> None:
        app = App()
        Wire(app).feed(data)
        for request in app.seen:
            assert b"authorization" not in request.headers
            assert b"x-ballast-hop" not in request.headers

    by_hand(check)


def test_trailers_are_bounded_like_a_head():
    async def check() -> None:
        app = App()
        wire = Wire(app)
        wire.feed(post(HOST, CHUNKED, body=b"2\r\n{}\r\n0\r\nX: "))
        found = wire.feed(*[b"y" * 1024] * 64)
        assert found, "64 KiB of one trailer were taken in"
        assert found[0].status == 431

    by_hand(check)


def test_a_large_body_may_have_a_trailer():
    body = b"200\r\n" + b"x" * 512 + b"\r\n0\r\nX-Sum: 1\r\n\r\n"

    async def check() -> None:
        app = App()
        (answer,) = Wire(app).feed(post(HOST, CHUNKED, body=body))
        assert answer.status == 200

    by_hand(check)


@pytest.mark.parametrize("path", [b"/now", b"/later"])
def test_a_pipelined_request_is_never_executed(path):
    """However the two are cut; the first one is answered, then the connection ends."""
    first = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path
    data = first + SMUGGLED

    async def check() -> None:
        for at in range(len(first) + 1, len(data) + 1):
            app = App()
            wire = Wire(app)
            wire.feed(data[:at], data[at:])
            app.go.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            (answer,) = answers(wire.sent)
            assert answer.status == 200
            assert [seen.path for seen in app.seen] == [path]
            assert wire.is_over

    by_hand(check)


def test_a_request_sent_before_the_answer_is_never_executed():
    """The segments fall between the two requests: the second arrives while the first runs."""

    async def check(served: Served) -> None:
        reader, writer = await served.open()
        writer.write(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(served.app.seen))
        writer.write(SMUGGLED)
        # Another connection's answer: by then those bytes have arrived too.
        await served.ask(b"GET /barrier HTTP/1.0\r\n\r\n")
        served.app.go.set()
        (answer,) = answers(await reader.read())
        assert answer.headers["connection"] == "close"
        assert [seen.path for seen in served.app.seen] == [b"/later", b"/barrier"]
        writer.close()

    run(check)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a state that comes by itself; the run's own deadline ends it."""
    while not is_so():
        await asyncio.sleep(0.005)


def test_keeps_the_connection_and_serves_one_request_after_another():
    async def check(served: Served) -> None:
        reader, writer = await served.open()
        for i in range(5):
            writer.write(post(HOST, b"Content-Length: 2", body=b"{}", path=b"/now%d" % i))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" not in head
            assert await reader.readexactly(len(b'{"path":"/now0"}')) == b'{"path":"/now%d"}' % i
        writer.close()

    run(check)


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET /now HTTP/1.0\r\n\r\n", False),
        (b"GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", False),
    ],
)
def test_keep_alive_follows_version_and_header(head, keeps):
    async def check() -> None:
        app = App()
        wire = Wire(app)
        (answer,) = wire.feed(head)
        assert answer.status == 200
        assert wire.is_over is not keeps
        assert ("connection" in answer.headers) is not keeps

    by_hand(check)


def test_an_http_1_0_stream_ends_with_the_connection():
    async def check(served: Served) -> None:
        (answer,) = await served.ask(b"GET /stream HTTP/1.0\r\n\r\n")
        assert answer.body == b"onetwo"
        assert "transfer-encoding" not in answer.headers

    run(check)


def test_a_stream_is_chunked_and_the_connection_lives_on():
    async def check(served: Served) -> None:
        reader, writer = await served.open()
        for _ in range(2):
            writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            (answer,) = answers(await reader.readuntil(b"0\r\n\r\n"))
            assert answer.body == b"onetwo"
            assert answer.headers["content-type"].startswith("text/event-stream")
        writer.close()

    run(check)


@pytest.mark.parametrize("path", [b"/now", b"/later"])
def test_head_gets_no_body(path):
    """A body after the answer to HEAD would be read as the next answer."""

    async def check() -> None:
        app = App()
        wire = Wire(app)
        app.go.set()
        wire.protocol.data_received(b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (answer,) = answers(wire.sent, is_head=True)
        assert answer.status in (200, 405)

    by_hand(check)


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/now", b""),
        (b"/now", b"{}"),
        (b"/later", b"{}"),
        (b"/later", b""),
    ],
)
def test_an_offer_of_h2c_is_ignored(path, body):
    """The request itself is answered, once."""

    async def check() -> None:
        app = App()
        wire = Wire(app)
        wire.feed(post(HOST, H2C, b"Content-Length: %d" % len(body), body=body, path=path))
        app.go.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (answer,) = answers(wire.sent)
        assert answer.status == 200
        assert [seen.body for seen in app.seen] == [body]

    by_hand(check)


class Kept:
    """A sink that knows whether it was ended."""

    bytes_max, wait_s = 1 << 20, 9.0

    def __init__(self) -> None:
        self.data = b""
        self.ends: list[bool] = []

    def feed(self, data: bytes) -> None:
        self.data += data

    def end(self, is_whole: bool) -> None:
        self.ends.append(is_whole)


@pytest.mark.parametrize("size", [5, 60_000])
def test_an_offer_of_h2c_opens_no_place_for_a_body_that_nobody_ends(size):
    """An upload's place was opened once for the offer and once for the request."""

    async def check() -> None:
        opened: list[Kept] = []
        wire = Wire(App())
        wire.server.sink = lambda *_: opened.append(Kept()) or opened[-1]
        body = b"x" * size
        wire.feed(post(HOST, H2C, b"Content-Length: %d" % size, body=body))
        (answer,) = answers(wire.sent)
        assert answer.status == 200
        assert [(kept.data, kept.ends) for kept in opened] == [(body, [True])]

    by_hand(check)


@pytest.mark.parametrize("path", [b"/now", b"/later"])
def test_what_follows_an_offer_of_h2c_is_never_executed(path):
    """Bytes lost in the middle would move the border of the next request."""
    first = b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (path, H2C)
    data = first + SMUGGLED

    async def check() -> None:
        for at in range(len(first) + 1, len(data) + 1):
            app = App()
            wire = Wire(app)
            wire.feed(data[:at])
            app.go.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            wire.feed(data[at:], SMUGGLED)
            assert [seen.path for seen in app.seen] == [path]
            assert [answer.status for answer in answers(wire.sent)] == [200]

    by_hand(check)


def test_connect_is_answered_once():
    async def check() -> None:
        app = App()
        found = Wire(app).feed(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
        assert len(found) == 1

    by_hand(check)


def test_continues_only_when_the_body_is_wanted():
    async def check(served: Served) -> None:
        reader, writer = await served.open()
        expect = b"Expect: 100-continue"
        writer.write(post(HOST, expect, b"Content-Length: 2"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        writer.close()
        (answer,) = await served.ask(post(HOST, expect, b"Content-Length: 999999"))
        assert answer.status == 413

    run(check)


def test_the_answer_to_an_oversized_body_can_be_read_while_it_is_still_sent():
    """No reset may overtake the 413, though the client keeps sending."""
    limits = Limits(body_bytes_max=4096)

    async def check(served: Served) -> None:
        for head in (
            post(HOST, b"Content-Length: 1048576"),
            post(HOST, CHUNKED, body=b"100000\r\n"),
        ):
            reader, writer = await served.open()
            writer.write(head)
            for _ in range(16):
                writer.write(b"x" * 65536)
                await writer.drain()
            (answer,) = answers(await reader.read())
            assert answer.status == 413
            assert answer.error["code"] == "body_too_large"
            writer.close()

    run(check, limits)


QUICK = Limits(
    body_bytes_max=64 << 20, header_wait_s=0.2, body_wait_s=0.2, idle_s=0.2, write_stall_s=0.2
)


async def _drip(served: Served, first: bytes, more: bytes) -> list[Answer]:
    reader, writer = await served.open()
    writer.write(first)
    reading = asyncio.ensure_future(reader.read())
    while not reading.done():
        if not writer.is_closing():
            writer.write(more)
        await asyncio.wait((reading,), timeout=0.05)
    writer.close()
    return answers(await reading)


LARGE = Limits(body_bytes_max=1 << 20, bodies_bytes_max=1 << 20, bodies_bytes_of_key_max=1 << 20)
SIZE = 608 << 10


def large(framing: str) -> list[bytes]:
    """A request with a body of `SIZE` bytes, in segments of 16 KiB."""
    if framing == "announced":
        data = post(HOST, b"Content-Length: %d" % SIZE, body=b"x" * SIZE, path=b"/later")
    else:
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        body = chunk * (SIZE // 0x4000) + b"0\r\n\r\n"
        data = post(HOST, CHUNKED, body=body, path=b"/later")
    return [data[i : i + 0x4000] for i in range(0, len(data), 0x4000)]


@pytest.mark.parametrize("framing", ["announced", "chunked"])
def test_a_large_body_is_read_for_a_known_caller_only(framing):
    async def check() -> None:
        app = App()
        wire = Wire(app, LARGE)
        wire.server.vet = lambda headers: (
            None if b"authorization" in headers else CallerError("missing_api_key", "who are you?")
        )
        (answer,) = wire.feed(*large(framing))
        assert (answer.status, answer.error["message"]) == (401, "who are you?")
        assert not app.seen
        assert wire.server.room.left_bytes == LARGE.bodies_bytes_max

    by_hand(check)


@pytest.mark.parametrize("framing", ["announced", "chunked"])
def test_large_bodies_share_one_bound_until_they_are_answered(framing):
    async def check() -> None:
        app = App()
        first, second = Wire(app, LARGE), Wire(app, LARGE)
        second.protocol._server = second.server = first.server
        first.feed(*large(framing))
        (refusal,) = second.feed(*large(framing))
        assert (refusal.status, refusal.error["code"]) == (503, "overloaded")
        assert refusal.headers["retry-after"] == "1"
        assert [len(request.body) // 1024 for request in app.seen] == [SIZE >> 10]
        app.go.set()
        await until(lambda: first.sent)
        second.protocol.connection_lost(None)
        assert first.server.room.left_bytes == LARGE.bodies_bytes_max

    by_hand(check)


def test_one_key_may_not_take_all_the_room_for_large_bodies():
    async def check() -> None:
        app = App()
        limits = Limits(
            body_bytes_max=1 << 20, bodies_bytes_max=4 << 20, bodies_bytes_of_key_max=1 << 20
        )
        wires = [Wire(app, limits) for _ in range(3)]
        server = wires[0].server
        names = iter(["greedy", "greedy", "other"])
        server.owner = lambda _: next(names)
        for wire in wires[1:]:
            wire.protocol._server = wire.server = server
        wires[0].feed(*large("announced"))
        (refusal,) = wires[1].feed(*large("announced"))
        assert (refusal.status, refusal.error["code"]) == (429, "rate_limit_exceeded")
        assert refusal.headers["retry-after"] == "1"
        wires[2].feed(*large("announced"))
        assert len(app.seen) == 2
        for wire in wires:
            wire.protocol.connection_lost(None)
        assert server.room.left_bytes == limits.bodies_bytes_max

    by_hand(check)


def test_work_that_dies_without_an_answer_cuts_its_connection(caplog):
    async def check() -> None:
        app = App()
        wire = Wire(app)
        app.pieces = [5]  # type: ignore[list-item] - the work fails on it
        wire.feed(post(HOST, path=b"/stream"))
        await until(lambda: wire.is_over)

    by_hand(check)
    assert "answer_lost" in caplog.text


def test_slow_senders_and_idle_connections_are_ended():
    """All at once, because the sweep comes once a second."""

    async def idle(served: Served) -> None:
        reader, writer = await served.open()
        assert await reader.read() == b""
        writer.close()

    async def idle_after_an_answer(served: Served) -> None:
        (answer,) = await served.ask(HEAD)
        assert answer.status == 200
        assert "connection" not in answer.headers

    async def slow_head(served: Served) -> None:
        (answer,) = await _drip(served, b"GET /slow-head HTTP/1.1\r\nHost: a\r\nX: ", b"y")
        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"

    async def slow_body(served: Served) -> None:
        head = post(HOST, b"Content-Length: 2000", path=b"/slow-body")
        (answer,) = await _drip(served, head, b"x")
        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"

    async def slow_chunks(served: Served) -> None:
        head = post(HOST, CHUNKED, path=b"/slow-chunks")
        (answer,) = await _drip(served, head, b"1\r\nx\r\n")
        assert answer.status == 408

    async def slow_trailer(served: Served) -> None:
        head = post(HOST, CHUNKED, body=b"0\r\nX: ", path=b"/slow-trailer")
        (answer,) = await _drip(served, head, b"y")
        assert answer.status == 408

    async def check(served: Served) -> None:
        kinds = (idle, idle_after_an_answer, slow_head, slow_body, slow_chunks, slow_trailer)
        await asyncio.gather(*(kind(served) for kind in kinds))
        assert [seen.path for seen in served.app.seen] == [b"/now"]
        await until(lambda: not served.server.connections)

    run(check, QUICK)


def _deaf(port: int) -> socket.socket:
    """A client with a small receive buffer that reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    return client


def test_a_client_that_reads_nothing_is_cut_and_its_work_cancelled():
    async def check(served: Served) -> None:
        served.app.pieces = [b"x" * 65536] * 1000
        with _deaf(served.port) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            await served.app.cancelled.wait()
            await until(lambda: not served.server.connections)

    run(check, QUICK)


def test_a_client_that_never_reads_the_end_of_its_answer_is_cut():
    """The last bytes fit the buffer, so nothing is paused, but they never leave."""

    async def check(served: Served) -> None:
        with _deaf(served.port) as client:
            client.sendall(b"GET /later HTTP/1.0\r\n\r\n")
            await until(lambda: bool(served.app.seen))
            connection = served.app.connection
            assert connection is not None
            connection.start(b"")
            transport = connection._transport
            while not transport.get_write_buffer_size():
                connection.write(b"x" * 4096)
                await asyncio.sleep(0)
            assert not connection.is_paused
            connection.end()
            async with asyncio.timeout(WAIT_S / 2):
                await until(lambda: not served.server.connections)

    run(check, QUICK)


def test_a_client_that_hangs_up_cancels_its_work():
    """A half close counts: it cannot be told from a client that is gone."""

    async def check(served: Served) -> None:
        for is_half in (False, True):
            served.app.cancelled.clear()
            _, writer = await served.open()
            writer.write(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: served.server.connections != set())
            if is_half:
                writer.write_eof()
            else:
                writer.close()
            await served.app.cancelled.wait()
            writer.close()
            await until(lambda: not served.server.connections)

    run(check)


def test_connections_beyond_the_limit_are_closed_and_the_others_live():
    async def check(served: Served) -> None:
        pairs = [await served.open() for _ in range(2)]
        await until(lambda: len(served.server.connections) == 2)
        reader, writer = await served.open()
        with_nothing = await reader.read()
        assert with_nothing == b"" or answers(with_nothing)[0].status == 503
        writer.close()
        for reader, writer in pairs:
            writer.write(HEAD)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
        await until(lambda: not served.server.connections)
        (answer,) = await served.ask(b"GET /now HTTP/1.0\r\n\r\n")
        assert answer.status == 200

    run(check, Limits(connections_max=2))


def test_what_the_wire_refuses_is_told_by_its_code():
    cases = {
        b"GET /now HTTP/1.1\r\n\r\n": "invalid_request",
        post(HOST, b"Content-Length: 4097"): "body_too_large",
        b"GET /" + b"y" * 4096: "headers_too_large",
    }

    async def check() -> None:
        for data, code in cases.items():
            told: list[str] = []
            wire = Wire(App())
            wire.server.on_refused = told.append
            wire.feed(data)
            wire.feed(data)
            assert told == [code]
        told = []
        wire = Wire(App())
        wire.server.on_refused = told.append
        wire.feed(HEAD)
        wire.feed(b"GET /slow")
        wire.protocol.overstay()
        assert told == ["request_timeout"]
        wire = Wire(App(), Limits(connections_max=1))
        wire.server.on_refused = told.append
        wire.server().connection_made(wire)
        assert told[1:] == ["too_many_connections"]
        wire.server.is_draining = True
        wire.server.connections.clear()
        wire.server().connection_made(wire)
        assert len(told) == 2

    by_hand(check)


def test_drain_ends_idle_connections_and_lets_running_answers_finish():
    async def check(served: Served) -> None:
        idle_reader, idle_writer = await served.open()
        reader, writer = await served.open()
        writer.write(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(served.app.seen) and len(served.server.connections) == 2)
        draining = asyncio.ensure_future(served.server.drain(WAIT_S))
        assert await idle_reader.read() == b""
        late_reader, late_writer = await served.open()
        assert await late_reader.read() == b""
        assert not draining.done()
        served.app.go.set()
        (answer,) = answers(await reader.read())
        assert answer.body == b'{"later":true}'
        assert answer.headers["connection"] == "close"
        await draining
        for one in (idle_writer, writer, late_writer):
            one.close()

    run(check)


def test_drain_cuts_what_does_not_end():
    async def check(served: Served) -> None:
        _, writer = await served.open()
        writer.write(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(served.app.seen))
        await served.server.drain(0.05)
        await served.app.cancelled.wait()
        writer.close()

    run(check)


def test_headers_reach_the_app_in_lower_case_and_joined():
    async def check() -> None:
        app = App()
        Wire(app).feed(b"GET /now?q=1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a:  2 \r\n\r\n")
        (request,) = app.seen
        assert request.headers == {b"host": b"a", b"x-a": b"1, 2"}
        assert request.path == b"/now?q=1"
        assert request.method == b"GET"

    by_hand(check)
