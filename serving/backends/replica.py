"""Our own engines, over the hot wire.

A replica's 503 and 429 mean full. Its 4xx is the caller's and passes on. Everything it says about
its load goes to admission. Closing an unfinished stream closes the connection, which stops the
engine's work at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from collections.abc import Callable

from models.capacity import Load
from serving.backends.base import BlockStream
from serving.codecs import load_report, openai, pooling
from serving.errors import Kind, UpstreamError
from serving.records import POOLED, Block, Call, Replica, Target, Ticket
from serving.wire import sse
from serving.wire.client import Exchange, Pool, WireError

OnLoad = Callable[[str, Load, float], None]
_BODY_BYTES_MAX = 64 << 20


class ReplicaBackend:
    """Runs calls on replicas."""

    def __init__(self, pool: Pool, secret: Callable[[], bytes], on_load: OnLoad) -> None:
        self._pool = pool
        self._secret = secret
        self._on_load = on_load
        self._salts: dict[str, str] = {}
        self._heads: dict[tuple[str, bytes], bytes] = {}

    def stream(self, call: Call, target: Target, ticket: Ticket, deadline_s: float) -> BlockStream:
        """See `Backend.stream`."""
        assert isinstance(target, Replica)
        return _ReplicaStream(self, call, target, (ticket, deadline_s))

    async def close(self) -> None:
        """See `Backend.close`."""
        self._pool.close()

    def request(self, call: Call, target: Replica, ticket: Ticket) -> bytes:
        """The whole HTTP request."""
        body = openai.engine_body(call, f"{call.request_id}-{ticket.attempt}", self._salt(call))
        path = openai.PATHS[call.surface]
        head = self._heads.get((target.id, path))
        if head is None:
            if len(self._heads) > 4096:
                self._heads.clear()
            host = f"{target.host}:{target.port}".encode()
            head = b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n" % (
                target.prefix.encode(), path, host,
            )  # fmt: skip
            self._heads[target.id, path] = head
        tail = b"x-ballast-secret: %b\r\ncontent-length: %d\r\n\r\n" % (self._secret(), len(body))
        return head + tail + body

    def _salt(self, call: Call) -> str:
        """Keeps one tenant's cached prefixes from answering timing questions of another."""
        salt = self._salts.get(call.tenant)
        if salt is None:
            if len(self._salts) > 10_000:
                self._salts.clear()
            salt = hmac.digest(self._secret(), call.tenant.encode(), hashlib.sha256).hex()[:32]
            self._salts[call.tenant] = salt
        return salt

    async def connect(self, target: Replica, data: bytes, deadline_s: float) -> Exchange:
        """An exchange whose answer's head has come. A kept-alive connection that turns out to have
        been closed is replaced once."""
        address = (target.host, target.port)
        exchange = self._pool.take(address)
        if exchange is not None:
            try:
                await exchange.send(data, deadline_s)
            except WireError as error:
                exchange.settle()
                if error.is_timeout or exchange.status:
                    raise
            except BaseException:
                exchange.settle()
                exchange.abort()
                raise
            else:
                return exchange
        exchange = await self._pool.connect(address)
        try:
            await exchange.send(data, deadline_s)
        except BaseException:
            exchange.settle()
            exchange.abort()
            raise
        return exchange

    def give(self, target: Replica, exchange: Exchange) -> None:
        """Take an exchange back."""
        self._pool.give((target.host, target.port), exchange)

    def heard(self, target: Replica, header: bytes | None) -> None:
        """Take in a load report."""
        if header is not None:
            load = load_report.parse(header)
            if load is not None:
                self._on_load(target.id, load, asyncio.get_running_loop().time())


class _ReplicaStream:
    """One answer of a replica."""

    __slots__ = ("_backend", "_begun", "_call", "_cutter", "_deadline_s", "_exchange", "_fault",
                 "_target", "_ticket")  # fmt: skip

    def __init__(
        self, backend: ReplicaBackend, call: Call, target: Replica, terms: tuple[Ticket, float]
    ) -> None:
        self._backend = backend
        self._call = call
        self._target = target
        self._ticket, self._deadline_s = terms
        self._begun = False
        self._exchange: Exchange | None = None
        self._cutter: sse.Cutter | None = None
        self._fault: UpstreamError | None = None

    def __aiter__(self) -> _ReplicaStream:
        return self

    async def __anext__(self) -> Block:
        try:
            if self._begun:
                return await self._next()
            self._begun = True
            return await self._first()
        except WireError as error:
            cutter = self._cutter
            self.abort()
            if cutter is not None and cutter.has_done:
                raise StopAsyncIteration from error
            begun = cutter is not None
            raise _wire_fault(error, begun=begun) from error
        except sse.StreamFault as fault:
            refusal = UpstreamError(Kind.SERVER_ERROR, str(fault), body=fault.body)
            if fault.before is None:
                self.abort()
                raise refusal from fault
            # What was good before the fault is delivered first.
            self._fault = refusal
            return fault.before

    async def _first(self) -> Block:
        backend, target = self._backend, self._target
        data = backend.request(self._call, target, self._ticket)
        self._exchange = exchange = await backend.connect(target, data, self._deadline_s)
        backend.heard(target, exchange.headers.get(b"x-ballast-load"))
        if exchange.status != 200:
            body = await self._whole()
            self._give()
            # An adapter unloaded a moment ago: the engine is well, and so is its breaker.
            is_gone = exchange.status == 404 and self._call.adapter
            raise _status_fault(400 if is_gone else exchange.status, exchange.headers, body)
        if self._call.stream:
            self._cutter = sse.Cutter(self._call.wants_usage, self._call.n)
            return await self._next()
        body = await self._whole()
        self._give()
        return pooling.plain(body) if self._call.surface in POOLED else sse.plain(body)

    async def _whole(self) -> bytes:
        exchange = self._exchange
        assert exchange is not None
        data = await exchange.read()
        if exchange.has_ended:
            return data
        parts, size = [data], len(data)
        while data := await exchange.read():
            parts.append(data)
            size += len(data)
            if size > _BODY_BYTES_MAX:
                raise WireError("the replica's answer exceeds 64 MiB", sent=True)
        return b"".join(parts)

    async def _next(self) -> Block:
        exchange, cutter = self._exchange, self._cutter
        if self._fault is not None:
            fault, self._fault = self._fault, None
            self.abort()
            raise fault
        if exchange is None or cutter is None:
            raise StopAsyncIteration
        while True:
            data = await exchange.read()
            if not data:
                return self._ended(cutter)
            block = cutter.feed(data)
            if block is not None:
                return block

    def _ended(self, cutter: sse.Cutter) -> Block:
        if cutter.finish is None:
            self.abort()
            raise UpstreamError(Kind.CUT, "the replica's stream ended without a finish reason")
        self._give()
        if cutter.has_done:
            raise StopAsyncIteration
        return Block(sse.DONE, 1, ends=True)

    def _give(self) -> None:
        """Hand the connection back: from now on it may carry somebody else's call."""
        exchange, self._exchange, self._cutter = self._exchange, None, None
        assert exchange is not None
        self._backend.give(self._target, exchange)

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        exchange, self._exchange, self._cutter = self._exchange, None, None
        if exchange is not None:
            exchange.settle()
            exchange.abort()


def _wire_fault(error: WireError, *, begun: bool) -> UpstreamError:
    if error.is_timeout:
        return UpstreamError(Kind.TIMEOUT, str(error), sent=error.sent)
    kind = Kind.CUT if begun else Kind.CONNECT
    return UpstreamError(kind, str(error), sent=error.sent)


def _status_fault(status: int, headers: dict[bytes, bytes], body: bytes) -> UpstreamError:
    if status in (429, 503):
        return UpstreamError(
            Kind.FULL, "the engine is full", retry_after_s=_seconds(headers.get(b"retry-after"))
        )
    if status in (400, 413, 422):
        message = "the engine refused the request"
        return UpstreamError(Kind.BAD_REQUEST, message, body=body, status=status)
    kind = Kind.SERVER_ERROR if status >= 500 else Kind.PROTOCOL
    return UpstreamError(kind, f"the engine answered with status {status}", body=body)


def _seconds(value: bytes | None) -> float | None:
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0.0 <= seconds < math.inf else None
