"""Requests over the hot wire's client, with TLS, and every failure with a kind.

One connection carries one request at a time, as most clients do; more are opened as needed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec

from models.worded import Worded
from serving.wire.client import Exchange, WireError

CONNECT_S = 10.0
HEAD_BYTES_MAX = 1 << 20
Feed: TypeAlias = Callable[[bytes, float], None]


class TargetError(Exception):
    """The target cannot be tested: its address, its certificate, its key."""


class Failed(Exception):  # noqa: N818 - a state of one request
    """A request got no whole answer. `kind` is a short name for tables."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


class Target(msgspec.Struct, frozen=True):
    """Where requests go."""

    url: str
    """Base, with or without /v1."""
    key: str
    model: str
    ca_file: str = ""
    """Certificates to trust, instead of the system's."""
    pin: str = ""
    """Header `x-ballast-pin`: the target that alone may answer; for a canary's key."""
    is_forwarder: bool = False
    """The key may say in `x-ballast-feature` for what it asks; any other key is refused that."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises TargetError."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            template = "--url {url}: {why}"
            raise TargetError(
                Worded("target.url", template, url=repr(self.url), why=error)
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            template = "--url {url}: write it as http://HOST[:PORT][/PATH]"
            raise TargetError(Worded("target.write", template, url=repr(self.url)))
        return parts.hostname, port or (443 if parts.scheme == "https" else 80)

    @property
    def base(self) -> str:
        """Path up to and with /v1."""
        path = urlsplit(self.url).path.rstrip("/")
        return path if path.endswith("/v1") else f"{path}/v1"

    def tls(self) -> ssl.SSLContext | None:
        """For https. Raises TargetError."""
        if urlsplit(self.url).scheme != "https":
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            template, file = "--ca-file {file}: {why}", self.ca_file
            raise TargetError(Worded("target.ca", template, file=file, why=error)) from None

    def head(self, method: str, path: str, more: str = "") -> str:
        """The head of a request, but for its end."""
        host, port = self.address
        name = f"[{host}]" if ":" in host else host
        key = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        pin = f"x-ballast-pin: {self.pin}\r\n" if self.pin else ""
        return f"{method} {path} HTTP/1.1\r\nhost: {name}:{port}\r\n{key}{pin}{more}"


class Connections:
    """Kept-alive connections to one target, newest used first."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.opened = 0
        self.resent = 0
        """Requests sent again since a kept connection was closed before it answered."""
        self._idle: list[Exchange] = []
        self._tls = target.tls()
        self._loop = asyncio.get_running_loop()
        path = f"{target.base}/chat/completions"
        self._post = target.head("POST", path, "content-type: application/json\r\n")

    async def post(self, body: bytes, hints: str, deadline_s: float) -> Exchange:
        """Send a chat; returns once the head is there. Raises Failed."""
        head = f"{self._post}{hints}content-length: {len(body)}\r\n\r\n"
        return await self.send(head.encode("latin-1") + body, deadline_s)

    async def get(self, path: str, deadline_s: float) -> tuple[int, bytes]:
        """A small answer. Raises Failed."""
        head = self.target.head("GET", self.target.base + path) + "\r\n"
        return await self.whole(head.encode("latin-1"), deadline_s)

    async def whole(self, data: bytes, deadline_s: float) -> tuple[int, bytes]:
        """Send, and read the answer to its end. Raises Failed."""
        exchange = await self.send(data, deadline_s)
        parts: list[bytes] = []
        await self.read(exchange, lambda part, _: parts.append(part))
        self.give(exchange)
        return exchange.status, b"".join(parts)

    async def send(self, data: bytes, deadline_s: float) -> Exchange:
        """Once more on a new connection where a kept one was closed before it answered."""
        while self._idle:
            exchange = self._idle.pop()
            if exchange.is_closed:
                continue
            try:
                await self._sent(exchange, data, deadline_s)
                return exchange
            except WireError as error:
                if error.is_timeout or exchange.status:
                    raise _named(error) from None
                self.resent += 1
        exchange = await self._connect()
        try:
            await self._sent(exchange, data, deadline_s)
        except WireError as error:
            raise _named(error) from None
        return exchange

    async def read(self, exchange: Exchange, feed: Feed) -> None:
        """Feed the body as it comes. Raises Failed; cancelled, it hangs up."""
        try:
            while data := await exchange.read():
                feed(data, self._loop.time())
        except WireError as error:
            raise _named(error) from None
        except BaseException:
            exchange.abort()
            raise

    def give(self, exchange: Exchange) -> None:
        """Take a connection back."""
        if exchange.settle():
            self._idle.append(exchange)
        else:
            exchange.abort()

    def close(self) -> None:
        """Close the idle ones."""
        for exchange in self._idle:
            exchange.abort()
        self._idle.clear()

    async def _sent(self, exchange: Exchange, data: bytes, deadline_s: float) -> None:
        try:
            await exchange.send(data, deadline_s)
        except BaseException:
            exchange.settle()
            exchange.abort()
            raise

    async def _connect(self) -> Exchange:
        loop, (host, port) = self._loop, self.target.address
        self.opened += 1
        try:
            async with asyncio.timeout(CONNECT_S):
                _, exchange = await loop.create_connection(
                    lambda: Exchange(loop), host, port, ssl=self._tls,
                )  # fmt: skip
        except TimeoutError:
            template, most = "no connection within {seconds} s", f"{CONNECT_S:g}"
            raise Failed("connect_timeout", Worded("target.slow", template, seconds=most)) from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or str(error)
            raise Failed("tls", Worded("target.tls", "TLS: {why}", why=why)) from None
        except OSError as error:
            why = error.strerror or str(error)
            said = Worded("target.away", "cannot connect: {why}", why=why)
            raise Failed("connect", said) from None
        return exchange


def _named(error: WireError) -> Failed:
    words = str(error).replace("the replica", "the target")
    if error.is_timeout:
        return Failed("timeout", words)
    return Failed("not_http" if "not HTTP" in words else "closed", words)
