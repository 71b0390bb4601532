"""Third-party APIs, over aiohttp, driven by the provider table and the codec of their dialect.

Never follows a redirect (the key would go along), never retries by itself, never passes on the
caller's headers. Comments and role-only events are not first tokens: a provider that sends nothing
else within `first_content_s` has failed.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Collection, Mapping

import aiohttp
from msgspec import structs
from yarl import URL

from serving.backends.account import Account, Timers, chosen
from serving.backends.base import BlockStream
from serving.backends.bounded import bounded
from serving.backends.broken import transport_fault
from serving.codecs import failures, whole
from serving.codecs.dialects import DIALECTS, Translator, address
from serving.codecs.hearing import content_type
from serving.codecs.told import told
from serving.errors import Kind, UpstreamError
from serving.logs import utc_ms
from serving.placement.pacing import Headroom
from serving.records import Block, Call, Offering, Target, Ticket
from serving.tracing.context import HEADER, traceparent
from serving.wire import sse

_BODY_BYTES_MAX = 64 << 20
_ERROR_BYTES_MAX = 64 << 10
_PIECES_BYTES = 1 << 20
_NO_FINISH = "the provider's stream ended without a finish reason"


class ProviderBackend:
    """Runs calls on third-party APIs."""

    def __init__(
        self, accounts: Mapping[str, Account], deployment_id: str, timers: Timers | None = None,
        paces: Mapping[str, Headroom] | None = None, traced: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._accounts = accounts
        self._deployment_id = deployment_id
        self.timers = timers or Timers()
        self._paces = paces or {}  # by offering
        self._traced = traced  # providers that are told of traces
        self._session: aiohttp.ClientSession | None = None

    def stream(self, call: Call, target: Target, ticket: Ticket, deadline_s: float) -> BlockStream:
        """See `Backend.stream`."""
        assert isinstance(target, Offering)
        return _ProviderStream(self, call, target, (ticket, deadline_s))

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._session is not None:
            await self._session.close()

    def account(self, target: Offering, call: Call) -> Account:
        """The account an offering is bought with."""
        return chosen(self._accounts, target, call)

    def hop(self, call: Call) -> str:
        """The hop header: who has seen this call."""
        return f"{call.hop},{self._deployment_id}" if call.hop else self._deployment_id

    async def post(
        self, account: Account, call: Call, to: tuple[Offering, Ticket], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send; returns once the head came."""
        target, ticket = to
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=1000, limit_per_host=500)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
                read_bufsize=256 << 10,
            )  # fmt: skip
        stall_s = self.timers.stall_s if call.stream else None
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self.timers.connect_s, sock_read=stall_s
        )
        headers = {
            **account.headers(asyncio.get_running_loop().time()),
            "content-type": content_type(call),
            "x-ballast-hop": self.hop(call),
        }
        if call.trace is not None and target.provider in self._traced:
            headers[HEADER] = traceparent(call.trace, call.request_id, ticket.attempt)
        url = URL(address(account.base_url, account.row, call, target), encoded=True)
        # aiohttp warns of large bytes; a file-like body is sent in pieces.
        data = io.BytesIO(body) if len(body) > _PIECES_BYTES else body
        pace = self._paces.get(target.id)
        if pace is not None:
            pace.sent(call.prompt_tokens + (call.max_tokens or 0))
        response = await self._session.post(
            url, data=data, headers=headers, allow_redirects=False, timeout=timeout,
            proxy=account.proxy,
        )  # fmt: skip
        if pace is not None:
            pace.learn(response.headers, asyncio.get_running_loop().time(), utc_ms() / 1e3)
        return response


class _ProviderStream:
    """One answer of a provider."""

    def __init__(
        self, backend: ProviderBackend, call: Call, target: Offering,
        leave: tuple[Ticket, float],
    ) -> None:  # fmt: skip
        self._backend = backend
        self._call = call
        self._target = target
        self._ticket, self._deadline_s = leave
        self._account = backend.account(target, call)
        self._dialect = DIALECTS[self._account.row.dialect]
        self._translator: Translator | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._cutter: sse.Cutter | None = None
        self._fault: UpstreamError | None = None
        self._has_begun = False
        self._has_opened = False
        self._is_over = False

    def __aiter__(self) -> _ProviderStream:
        return self

    async def __anext__(self) -> Block:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            self.abort()
            raise fault
        if self._is_over:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._until_s()):
                block = await self._advance()
        except UpstreamError:
            self.abort()
            raise
        except sse.StreamFault as stream_fault:
            error = self._classified(200, stream_fault.body)
            if stream_fault.before is None:
                self.abort()
                raise error from stream_fault
            self._fault = error
            return stream_fault.before
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self.abort()
            raise transport_fault(error) from error
        self._has_opened = self._has_opened or block.opens
        return block

    def _until_s(self) -> float:
        if self._has_opened or self._fault is not None:
            return self._deadline_s
        if not self._has_begun:
            now_s = asyncio.get_running_loop().time()
            wait_s = max(self._backend.timers.first_content_s, self._account.row.wait_s or 0.0)
            self._first_by_s = now_s + wait_s
            if not self._call.stream:
                # A plain answer comes whole: its length is part of the wait.
                self._first_by_s += whole.wait_s(self._call)
        return min(self._deadline_s, self._first_by_s)

    async def _advance(self) -> Block:
        if not self._has_begun:
            self._has_begun = True
            if (block := await self._first()) is not None:
                return block
        return await self._next()

    async def _first(self) -> Block | None:
        call, target = told(self._call, self._target.system), self._target
        row = self._account.row
        # Within the context, or the provider refuses what it would answer in full.
        answer_max = min(call.answer_max, max(1, target.context_tokens - call.prompt_tokens))
        body = self._dialect.body(call, target, row, answer_max)
        response = self._response = await self._backend.post(
            self._account, call, (target, self._ticket), body
        )
        if response.status != 200:
            text = await bounded(response, _ERROR_BYTES_MAX)
            raise failures.classify(row.error_rules, response.status, text, response.headers)
        is_stream = response.content_type == "text/event-stream"
        if call.stream and is_stream:
            self._cutter = sse.Cutter(call.wants_usage, call.n)
            if self._dialect.translator is not None:
                self._translator = self._dialect.translator(call)
            return None
        text = await bounded(response, _BODY_BYTES_MAX)
        if self._dialect.plain is not None and not is_stream:
            text = self._dialect.plain(text)
        block = whole.plain(call, target, response.content_type, text)
        if call.stream or is_stream:
            message = "the provider did not answer with an event stream"
            raise UpstreamError(Kind.PROTOCOL, message, usage=block.usage)
        self._is_over = True
        return block

    async def _next(self) -> Block:
        response, cutter = self._response, self._cutter
        assert response is not None
        assert cutter is not None
        while True:
            data = await response.content.readany()
            if self._translator is not None:
                has_ended = not data
                data = self._translator.end() if has_ended else self._translator.feed(data)
                if not data and not has_ended:
                    continue
            if not data:
                return self._ended(cutter)
            block = cutter.feed(data)
            if block is None:
                continue
            if not cutter.has_done:
                return block
            self._is_over = True
            if cutter.finish is None:
                # Never pass a [DONE] that hides a cut.
                self._fault = UpstreamError(Kind.CUT, _NO_FINISH)
                return structs.replace(block, data=block.data.removesuffix(sse.DONE), ends=False)
            response.release()
            return block

    def _ended(self, cutter: sse.Cutter) -> Block:
        self._is_over = True
        if cutter.finish is None:
            raise UpstreamError(Kind.CUT, _NO_FINISH)
        return Block(sse.DONE, 1, ends=True)

    def _classified(self, status: int, body: bytes) -> UpstreamError:
        if not body:
            return UpstreamError(Kind.PROTOCOL, "the provider's stream is not what it should be")
        return failures.classify(self._account.row.error_rules, status, body, {})

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._is_over = True
        if self._response is not None:
            self._response.close()
            self._response = None
