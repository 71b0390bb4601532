"""What a replica answers, as Blocks.

Its 503 and 429 mean full, its 4xx is the caller's and passes on. Closing an unfinished stream
closes the connection, which stops the engine's work at once.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from serving.backends.base import Take
from serving.backends.silence import Silence
from serving.codecs import pooling
from serving.codecs.marks import Marks
from serving.errors import Kind, UpstreamError
from serving.records import POOLED, Block, Call, Replica, Resume, Ticket
from serving.rescue import Pace
from serving.wire import sse
from serving.wire.client import Exchange, WireError

_BODY_BYTES_MAX = 64 << 20


class Wires(Protocol):
    """What a stream needs of the backend it came from."""

    pace: Pace

    def request(self, call: Call, target: Replica, ticket: Ticket) -> bytes: ...

    async def connect(self, target: Replica, data: bytes, deadline_s: float) -> Exchange: ...

    def give(self, target: Replica, exchange: Exchange) -> None: ...

    def heard(self, target: Replica, header: bytes | None, unseen_tokens: int) -> None: ...


class ReplicaStream:
    """One answer of a replica."""

    __slots__ = ("_backend", "_begun", "_call", "_cutter", "_deadline_s", "_exchange", "_fault",
                 "_left", "_marks", "_opened_s", "_silence", "_take", "_target",
                 "_ticket")  # fmt: skip

    def __init__(
        self, backend: Wires, call: Call, target: Replica, terms: tuple[Ticket, float]
    ) -> None:
        self._backend = backend
        self._call = call
        self._target = target
        self._ticket, self._deadline_s = terms
        self._begun = False
        self._exchange: Exchange | None = None
        self._cutter: sse.Cutter | None = None
        self._fault: UpstreamError | None = None
        self._marks: Marks | None = None
        self._silence: Silence | None = None
        self._opened_s = 0.0
        self._take: Take | None = None
        self._left: Block | Exception | None = None

    def hand(self, take: Take) -> None:
        """See `base.hand`."""
        self._take = take
        if self._exchange is not None and self._silence is not None:
            self._exchange.direct = self._pass

    def _pass(self, data: bytes) -> bool:
        """Cut what arrived and hand it on; what cannot be is left for the reader."""
        take, cutter = self._take, self._cutter
        assert take is not None and cutter is not None  # noqa: PT018
        try:
            block = cutter.feed(data)
            if block is None or take(block):
                return True
            self._left = block
        except Exception as error:  # noqa: BLE001 - raised where the reader is
            self._left = error
        return False

    def __aiter__(self) -> ReplicaStream:
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
        is_before = self._call.stream and exchange.status == 200  # the engine takes it in after
        report, prompt = exchange.headers.get(b"x-ballast-load"), self._ticket.prompt_tokens
        backend.heard(target, report, prompt if is_before else 0)
        if exchange.status != 200:
            body = await self._whole()
            self._give()
            # An adapter unloaded a moment ago: the engine is well, and so is its breaker.
            is_gone = exchange.status == 404 and self._call.adapter
            raise _status_fault(400 if is_gone else exchange.status, exchange.headers, body)
        if (call := self._call).stream:
            self._marks = Marks(None if call.resume is None else call.resume.trail)
            self._cutter = sse.Cutter(call.wants_usage, call.n, self._marks)
            return await self._next()
        body = await self._whole()
        self._give()
        return pooling.plain(body) if call.surface in POOLED else sse.plain(body)

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
            if self._left is not None:
                left, self._left = self._left, None
                if isinstance(left, Exception):
                    raise left
                return left
            if not data:
                return self._ended(cutter)
            block = cutter.feed(data)
            if block is not None:
                if block.opens:
                    self._listen(exchange, cutter)
                return block

    def _listen(self, exchange: Exchange, cutter: sse.Cutter) -> None:
        """From the first content on a long silence is a break."""
        if self._marks is not None and not self._marks.has_any:
            self._marks = cutter.marks = None  # it tells no ids
        loop = asyncio.get_running_loop()
        self._opened_s = loop.time()
        limit_s = self._backend.pace.limit_s(self._call.model)
        self._silence = Silence(exchange, limit_s, loop)
        if self._take is not None:
            exchange.direct = self._pass

    def _ended(self, cutter: sse.Cutter) -> Block:
        if not self._is_told():
            self.abort()
            raise UpstreamError(Kind.CUT, "the replica's stream ended without a finish reason")
        self._give()
        usage = cutter.usage
        if usage is not None and usage.completion_tokens > 1 and self._call.resume is None:
            span_s = asyncio.get_running_loop().time() - self._opened_s
            self._backend.pace.ended(self._call.model, span_s / (usage.completion_tokens - 1))
        if cutter.has_done:
            raise StopAsyncIteration
        return Block(sse.DONE, 1, ends=True)

    def _is_told(self) -> bool:
        """Whether the client has the finish."""
        cutter, resume = self._cutter, self._call.resume
        has_finish = cutter is not None and cutter.finish is not None
        return has_finish or (resume is not None and resume.is_told)

    def resume(self) -> Resume | None:
        """See `Resumable.resume`."""
        trail = self._marks.trail() if self._marks is not None else None
        before = self._call.resume
        if trail is None or not trail.ids:
            return before  # broken before it said anything: what was known still holds
        attempt = self._ticket.attempt if before is None else before.attempt
        return Resume(attempt, trail, self._is_told())

    def _give(self) -> None:
        """Hand the connection back: from now on it may carry somebody else's call."""
        exchange = self._let_go()
        assert exchange is not None
        self._backend.give(self._target, exchange)

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        exchange = self._let_go()
        if exchange is not None:
            exchange.settle()
            exchange.abort()

    def _let_go(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        if self._silence is not None:
            self._silence.end()
            self._silence = None
        return exchange


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
