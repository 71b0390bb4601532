"""Our own engines, over the hot wire: connections, requests, load reports.

Everything a replica says about its load goes to admission. What it answers is read in
`replica_stream.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable

import msgspec

from models.capacity import Load
from serving.backends.base import BlockStream
from serving.backends.lines import Lines
from serving.backends.replica_stream import ReplicaStream
from serving.codecs import load_report, openai
from serving.codecs.going_on import Begun
from serving.records import Call, Replica, Resume, Target, Ticket
from serving.rescue import Pace, may_go_on
from serving.tracing.context import HEADER, traceparent
from serving.wire.client import Exchange, WireError
from serving.wire.pool import Pool

OnLoad = Callable[[str, Load, float, int], None]
_RESUME = b"/internal/resume"
_WANTS_IDS = b"x-ballast-ids: 1\r\n"


class ReplicaBackend:
    """Runs calls on replicas."""

    def __init__(
        self, pool: Pool, secret: Callable[[], bytes], on_load: OnLoad, follows: bool = True
    ) -> None:
        """`follows`: engines tell the ids they make, for a rescue."""
        self._pool = pool
        self._secret = secret
        self._on_load = on_load
        self._follows = follows
        self.pace = Pace()
        self.lines = Lines()
        self._salts: dict[str, str] = {}
        self._heads: dict[tuple[str, bytes], bytes] = {}

    def stream(self, call: Call, target: Target, ticket: Ticket, deadline_s: float) -> BlockStream:
        """See `Backend.stream`."""
        assert isinstance(target, Replica)
        return ReplicaStream(self, call, target, (ticket, deadline_s))

    async def close(self) -> None:
        """See `Backend.close`."""
        self._pool.close()

    def request(self, call: Call, target: Replica, ticket: Ticket) -> bytes:
        """The whole HTTP request."""
        resume = call.resume
        attempt = ticket.attempt if resume is None else resume.attempt
        body = openai.engine_body(call, f"{call.request_id}-{attempt}", self._salt(call))
        path = openai.PATHS[call.surface]
        if resume is not None:
            body, path = _resume_body(resume, path, body), _RESUME
        head = self._heads.get((target.id, path))
        if head is None:
            if len(self._heads) > 4096:
                self._heads.clear()
            host = f"{target.host}:{target.port}".encode()
            head = b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n" % (
                target.prefix.encode(), path, host,
            )  # fmt: skip
            self._heads[target.id, path] = head
        more = _WANTS_IDS if self._follows and may_go_on(call) else b""
        if call.trace is not None:
            line = traceparent(call.trace, call.request_id, ticket.attempt)
            more += b"%b: %b\r\n" % (HEADER.encode(), line.encode())
        tail = b"%bx-ballast-secret: %b\r\ncontent-length: %d\r\n\r\n" % (
            more, self._secret(), len(body),
        )  # fmt: skip
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
                if error.is_timeout or exchange.status or self.lines.broke(exchange):
                    raise
            except BaseException:
                exchange.settle()
                exchange.abort()
                raise
            else:
                return exchange
        exchange = await self._pool.connect(address)
        self.lines.add(address, exchange)
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

    def heard(self, target: Replica, header: bytes | None, unseen_tokens: int) -> None:
        """Take in a load report that does not hold so many prompt tokens yet."""
        if header is not None and (load := load_report.parse(header)) is not None:
            self._on_load(target.id, load, asyncio.get_running_loop().time(), unseen_tokens)


def _resume_body(resume: Resume, path: bytes, body: bytes) -> bytes:
    """What an engine needs to go on."""
    ids, said, finish = resume.trail
    begun = Begun(path.decode(), msgspec.Raw(body), ids, said, finish, resume.is_told)
    return msgspec.json.encode(begun)
