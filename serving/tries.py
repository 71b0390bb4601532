"""One try on one target: its ticket, its rows, its stream, and what it says about the target.

Every try is begun once and closed once, whatever happens between: that is the law of tickets and
attempt rows (docs/ARCHITECTURE.md, section 3). When to try stands in the pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving import accounting
from serving.attempt import Attempt
from serving.backends.base import BlockStream, Take
from serving.errors import Kind, OwnError, UpstreamError
from serving.health import Health
from serving.logs import utc_ms
from serving.progress import Progress
from serving.records import Block, Burst, Call, Offering, Outcome, Run, Ticket
from serving.rules import may_see, stopped
from serving.stages import Client, Stages

CONTENT_FILTER = "content_filter"
OUT_OF_TIME = "deadline"
"""A row's error where the caller's deadline, not the target's time, ran out."""
HELD_BYTES_MAX = 4 << 20
"""Pulled before the commit point: role chunks, comments, pings; more is not an answer."""
TIMER_S = 0.001
"""uvloop's timers fire up to half a millisecond early by its own clock (measured: one in three):
a deadline as near as this has passed."""
_OUTCOMES = {"upstream_timeout": Outcome.TIMEOUT}


class Tries:
    """Begins, opens, judges and closes tries."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._loop = stages.loop
        self._funds = stages.budgets.funds if stages.budgets is not None else None
        self._health = Health(stages.admission, lambda: stages.fleet.view)

    def begin(self, progress: Progress, placement: Run | Burst, call: Call) -> None:
        """A ticket, on record before anything is sent. Raises JournalFull."""
        stages, caller, now_s = self._stages, progress.caller, self._loop.time()
        ticket = stages.admission.issue(call, placement, progress.attempts + 1, now_s)
        begin = accounting.begin(call, caller, ticket, utc_ms())
        try:
            if ticket.is_egress:
                sensitivity = int(progress.sensitivity)
                intent = accounting.intent(call, caller, ticket, begin.at_ms, sensitivity)
                stages.journal.append(intent, begin)
            else:
                stages.journal.append(begin)
        except BaseException:
            stages.admission.revoke(ticket, call)
            raise
        known = 0 if call.resume is None else len(call.resume.trail.ids)
        self._health.sent(ticket)
        progress.begin(ticket, placement, known)
        if progress.funding is not None and self._funds is not None:
            # Nothing was awaited since `door.bound` saw that it fits.
            self._funds.reserve(call, progress.funding, ticket)

    async def open(self, progress: Progress, call: Call) -> BlockStream:
        """The target's answer as it comes; it is asked when the first Block is."""
        stages, attempt = self._stages, progress.attempt
        assert attempt is not None
        ticket = attempt.ticket
        if ticket.is_egress or stages.is_disk_sync:
            # No record, no egress: the intent is on the disk before the first byte leaves.
            try:
                async with asyncio.timeout_at(call.complete_by_s):
                    await stages.journal.synced()
            except TimeoutError as error:
                message = "the deadline passed before it was sent"
                raise OwnError("upstream_timeout", message) from error
            self._recheck(progress)
        progress.sent()
        if stages.gate is not None and progress.verdict is not None and not call.is_prefixed:
            call = stages.gate.seen(call, progress.verdict, ticket)
        backend = stages.backends[type(ticket.target)]
        stream = backend.stream(call, ticket.target, ticket, call.complete_by_s)
        is_vetted = isinstance(ticket.target, Offering) and (not call.pin or call.batch)
        return Vetted(stream) if is_vetted else stream

    def _recheck(self, progress: Progress) -> None:
        """The disk may have taken its time: what was stopped meanwhile is not sent after all."""
        assert progress.attempt is not None
        view, now_s = self._stages.fleet.view, self._loop.time()
        why = "" if view.stops is None else stopped(progress.call, view.stops)
        if why or not may_see(progress.attempt.ticket.target, view, now_s):
            message = why or "its target was stopped meanwhile"
            raise OwnError("stopped", message, retry_after_s=30.0)

    def judge(self, progress: Progress, error: BaseException, *, is_left: bool = False) -> None:
        """What a failure says about the target. `is_left`: the client is gone."""
        attempt, admission, now_s = progress.attempt, self._stages.admission, self._loop.time()
        assert attempt is not None
        if not attempt.is_open:
            return
        ticket = attempt.ticket
        if isinstance(error, UpstreamError):
            progress.failed(error)
            if error.kind is Kind.TIMEOUT and now_s + TIMER_S >= progress.call.complete_by_s:
                # The caller's own deadline passed: that says nothing about the target.
                self._undecided(ticket, now_s)
                attempt.error = OUT_OF_TIME
            else:
                admission.failed(ticket, error.kind, error.retry_after_s, now_s)
                self._health.failed(ticket, error.kind, now_s)
            return
        self._undecided(ticket, now_s)
        if isinstance(error, asyncio.CancelledError):
            progress.broke(Outcome.DISCONNECTED if is_left else Outcome.CUT)
        elif isinstance(error, OwnError):
            progress.broke(_OUTCOMES.get(error.code, Outcome.REFUSED))
        else:
            progress.broke(Outcome.INTERNAL)

    def opened(self, progress: Progress) -> None:
        """The first content came."""
        attempt, now_s, is_stream = progress.attempt, self._loop.time(), progress.call.stream
        assert attempt is not None
        tenant, call = progress.call.tenant, progress.call
        self._stages.admission.opened(attempt.ticket, now_s, is_stream=is_stream, call=call)
        self._health.opened(attempt.ticket, now_s, tenant=tenant, is_stream=is_stream)
        progress.opened(now_s)

    def lost(self, progress: Progress, attempt: Attempt, *, why: str) -> None:
        """A try nobody waits for any more, which says nothing about its target."""
        if attempt.is_open:
            self._undecided(attempt.ticket, self._loop.time())
            attempt.outcome, attempt.error = Outcome.DISCONNECTED, why
            self.close_one(progress, attempt)

    def _undecided(self, ticket: Ticket, now_s: float) -> None:
        self._stages.admission.undecided(ticket, now_s)
        self._health.undecided(ticket, now_s)

    def close_one(self, progress: Progress, attempt: Attempt) -> None:
        """Close a try beside the one that goes on."""
        current, progress.attempt = progress.attempt, attempt
        self.close(progress)
        progress.attempt = current

    def close(self, progress: Progress) -> None:
        """Give the ticket back and queue the row; nothing where it is done."""
        attempt, stages, call = progress.attempt, self._stages, progress.call
        assert attempt is not None
        if not attempt.is_open:
            return
        stages.admission.release(attempt.ticket, call)
        row = progress.close(utc_ms())
        if progress.funding is not None and self._funds is not None:
            self._funds.settle(progress.funding, row, call, attempt.ticket)
        stages.observer.attempt(progress, row)
        stages.line.wake(call.model)

    def write_ends(self, progress: Progress) -> None:
        """The rows of tries that are over, before another one begins."""
        rows, progress.rows = progress.rows, []
        if rows:
            self._stages.journal.append_end(*rows)


class Vetted:
    """A third party's stream whose refusal of the content, said before any of it reached the
    client, is an error like one said by a status."""

    def __init__(self, stream: BlockStream) -> None:
        self._stream = stream
        self._has_opened = False

    def __aiter__(self) -> Vetted:
        return self

    async def __anext__(self) -> Block:
        block = await self._stream.__anext__()
        if not self._has_opened and block.opens:
            self._has_opened = True
            if block.finish == CONTENT_FILTER:
                message = "the provider's content filter refused it"
                raise UpstreamError(Kind.CONTENT_FILTER, message, usage=block.usage)
        return block

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._stream.abort()


async def opening(
    stream: BlockStream, took: Callable[[Block], None] = lambda _: None
) -> list[Block]:
    """All Blocks up to the first that says something, each told to `took` as it comes. Raises
    UpstreamError where none does."""
    held: list[Block] = []
    size, usage = 0, None
    async for block in stream:
        took(block)
        usage = block.usage or usage
        held.append(block)
        if block.opens:
            return held
        size += len(block.data)
        if size > HELD_BYTES_MAX:
            raise UpstreamError(Kind.PROTOCOL, "the stream sends no content", usage=usage)
    raise UpstreamError(Kind.CUT, "the stream ended without content", usage=usage)


def passing(progress: Progress, client: Client) -> Take:
    """Blocks that only pass go to a client that keeps up without waking its task."""

    def take(block: Block) -> bool:
        if block.ends or client.is_paused:
            return False
        progress.took(block)
        client.write(block.data)
        return True

    return take
