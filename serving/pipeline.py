"""The order of a request, and the only file that knows it.

    guard -> budgets -> place -> ticket -> (intent) begin -> backend -> commit -> relay -> settle
    -> last byte

Up to the commit point another target may be tried; after it the stream can only go on or end with
an error event. One `finally` settles every call, however it ends: ticket released, rows written,
metrics and log line. Nothing here decides: placement, retry kinds, prices and codes come from pure
modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, assert_never

import msgspec

from serving import entrance, errors
from serving.admission import RetryBudget
from serving.answers import failure
from serving.backends.base import BlockStream, hand
from serving.budgets import door
from serving.errors import BallastError, Kind, OwnError, UpstreamError
from serving.hedging import Hedger, Raced
from serving.idempotency import Answer
from serving.journal import JournalFull
from serving.logs import utc_ms
from serving.progress import Progress, Tail
from serving.records import (
    Burst,
    Call,
    Caller,
    Outcome,
    Refuse,
    Run,
    Surface,
    Wait,
)
from serving.rescuing import Rescuer
from serving.rollout.aside import Found, instead
from serving.routing import in_line, place
from serving.rules import stopped
from serving.stages import Client, Stages
from serving.tries import TIMER_S, Tries, opening, passing

# Looking a member up on its class costs 0.2 us in Python 3.11.
_TOKENIZE, _OK = Surface.TOKENIZE, Outcome.OK
_log = logging.getLogger(__name__)


class Pipeline:
    """Carries calls from placement to the last byte."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._fleet, self._admission, self._line = stages.fleet, stages.admission, stages.line
        self._gate = stages.gate
        self._journal, self._loop = stages.journal, stages.loop
        self._tries = Tries(stages)
        self._rescuer = Rescuer(stages, self._tries)
        self._hedger = Hedger(stages, self._tries, stages.rescue.hedge)
        self._retries = RetryBudget(stages.retry.budget_ratio, stages.retry.budget_min)
        self._keeper, self._cache = stages.budgets, stages.cache

    async def serve(
        self, call: Call, caller: Caller, client: Client, idempotency: str = "",
        keep: Callable[[Tail], Awaitable[None]] | None = None,
    ) -> Progress:  # fmt: skip
        """Answer one call; a client that leaves cancels this. Returns how it went. `keep` has a
        good answer before its end is on record: what is on record as answered is not lost."""
        progress = Progress(call, caller, idempotency)
        try:
            tail = await self._carry(progress, client)
            if self._cache is not None:
                tail = await self._cache.kept(progress, tail)
            if keep is not None:
                await keep(tail)
        except BallastError as error:
            tail = failure(progress, error)
        except asyncio.CancelledError:
            if client.is_closed:
                progress.ended(Outcome.DISCONNECTED, 499, "disconnected")
                raise  # nobody is left to answer
            restarting = OwnError("draining", "this gateway is stopping", retry_after_s=1.0)
            tail = failure(progress, restarting)
        except Exception:  # noqa: BLE001 - the pipeline's edge
            _log.exception("pipeline_fault", extra={"request_id": call.request_id})
            fault = OwnError("internal_error", "the gateway failed; this has been logged")
            tail = failure(progress, fault)
        finally:
            self._settle(progress)
        if self._stages.is_disk_sync:
            # Whoever leaves now has been served: the rows say so, and a retry must be told.
            with contextlib.suppress(asyncio.CancelledError):
                await self._synced()
        tail.send(client)
        return progress

    async def _synced(self) -> None:
        try:
            await self._journal.synced()
        except JournalFull:
            # The rows are written, only not yet proven on the disk; the answer need not be lost.
            _log.exception("journal_sync_failed")

    def refuse(self, call: Call, caller: Caller, error: BallastError, client: Client) -> None:
        """Answer a parsed call that cannot be served; it leaves a row like any other."""
        progress = Progress(call, caller)
        tail = failure(progress, error)
        self._settle(progress)
        tail.send(client)

    def replay(self, call: Call, caller: Caller, answer: Answer, client: Client) -> None:
        """Send an answer again; nothing is run and nothing billed."""
        stops = self._fleet.view.stops
        if stops is not None and (why := stopped(call, stops)):
            self.refuse(call, caller, OwnError("stopped", why, retry_after_s=30.0), client)
            return
        progress = Progress(call, caller)
        progress.reason = "replay"
        progress.ended(Outcome.OK, answer.status, "")
        self._settle(progress)
        if answer.is_stream:
            client.start(answer.head)
            client.end(answer.body)
        else:
            client.answer(answer.status, answer.body, answer.head)

    async def _carry(self, progress: Progress, client: Client) -> Tail:
        call, caller = progress.call, progress.caller
        if not self._journal.can_begin:
            raise JournalFull
        if caller.policy.subjects:
            entrance.let_in(progress, self._stages.allowances, self._loop.time())
        if self._gate is not None:
            await entrance.screen(progress, self._gate)
        if self._cache is not None and (known := await self._cache.find(progress)) is not None:
            return known
        self._retries.called(call.received_s)
        while True:
            now_s = self._loop.time()
            if self._keeper is not None and self._keeper.funds.is_any:
                door.bound(progress, self._keeper, self._fleet.view)
            call = progress.call
            view, tried = self._fleet.view, progress.tried
            placement = place(call, caller, view, now_s, tried)
            if call.route and (
                other := instead(call, caller, view, now_s, Found(placement, tried))
            ):
                self._pass_on(progress)
                progress.call = other
                continue
            if isinstance(placement, Run) and not progress.had_turn and self._line.is_behind(call):
                placement = in_line(call, caller, view, now_s, tried)
            if isinstance(placement, Run | Burst):
                if isinstance(placement, Burst):
                    self._pass_on(progress)
                try:
                    return await self._attempt(progress, placement, client)
                except UpstreamError as error:
                    self._give_up_or_retry(progress, error)
            elif isinstance(placement, Wait):
                if self._keeper is not None and await door.may_again(
                    progress, self._keeper, placement
                ):
                    continue
                await self._hold(progress, placement.until_s, now_s)
            elif isinstance(placement, Refuse):
                if self._keeper is None or not await door.may_again(
                    progress, self._keeper, placement
                ):
                    self._refused(progress, placement)
            else:
                assert_never(placement)

    async def _hold(self, progress: Progress, until_s: float, now_s: float) -> None:
        progress.had_turn = True
        call, latency_class = progress.call, progress.caller.policy.latency_class
        try:
            keeps = await self._line.hold(call, until_s, latency_class)
        finally:
            progress.queue_s += self._loop.time() - now_s
        if not keeps:  # it gave its place to a more urgent one: run or leave, but not wait
            progress.call = msgspec.structs.replace(progress.call, may_wait=False)

    def _refused(self, progress: Progress, placement: Refuse) -> NoReturn:
        self._pass_on(progress)
        progress.reason = placement.reason
        if progress.fault is not None:
            raise progress.fault
        if self._keeper is not None:
            placement = door.explained(progress, self._keeper, placement)
        raise OwnError(placement.code, placement.message, retry_after_s=placement.retry_after_s)

    def _pass_on(self, progress: Progress) -> None:
        """A call whose turn it was needs no engine after all: the next in line may."""
        if progress.had_turn:
            self._line.wake(progress.call.model)

    def _give_up_or_retry(self, progress: Progress, error: UpstreamError) -> None:
        """Raise `error` unless another target may be tried."""
        progress.fault = error
        attempt = progress.attempt
        assert attempt is not None
        # A third party's block of content goes to our own engine and guard, never to another.
        call = progress.call
        may_come_home = progress.is_api and (not call.pin or bool(call.batch))
        is_refusal = error.kind is Kind.CONTENT_FILTER and may_come_home
        if (
            progress.has_committed
            or (error.kind in errors.FINAL and not is_refusal)
            or progress.attempts >= self._stages.retry.attempts_max
            or self._loop.time() + TIMER_S >= progress.call.complete_by_s
        ):
            raise error
        if is_refusal:
            progress.refused_by = attempt.ticket.target.label.operator
            progress.call = msgspec.structs.replace(call, is_home_only=True, toward="", pin="")
        if error.kind is not Kind.FULL:
            if not self._retries.take():
                raise error
            progress.tried |= {progress.target}
        self._tries.write_ends(progress)

    async def _attempt(self, progress: Progress, placement: Run | Burst, client: Client) -> Tail:
        """One try on one target, and those that go on with its answer should it break off."""
        call, tries = progress.call, self._tries
        tries.begin(progress, placement, call)
        stream: BlockStream | None = None
        try:
            stream = await tries.open(progress, call)
            if self._hedger.is_on and call.stream:
                assert progress.attempt is not None
                patience_s = self._hedger.patience_s(progress.attempt.ticket)
                stream = Raced(stream, self._hedger, progress, patience_s)
            if call.stream and isinstance(placement, Run):
                stream = self._rescuer.followed(stream, progress)
            if self._gate is not None and progress.verdict is not None:
                assert progress.attempt is not None
                ticket = progress.attempt.ticket
                stream = self._gate.inspected(stream, call, progress.verdict, ticket)
            return await self._relay(progress, stream, client)
        except BaseException as error:
            tries.judge(progress, error, is_left=client.is_closed)
            raise
        finally:
            if stream is not None:
                stream.abort()
            tries.close(progress)

    async def _relay(self, progress: Progress, stream: BlockStream, client: Client) -> Tail:
        if not progress.call.stream:
            block = await stream.__anext__()
            progress.took(block)
            if not block.opens and progress.call.surface is not _TOKENIZE:
                raise UpstreamError(Kind.PROTOCOL, "the answer holds no choice")
            self._opened(progress)
            return Tail(200, block.data, progress.head(), is_stream=False)
        held = await opening(stream, progress.took)
        self._opened(progress)
        progress.has_committed = True
        client.start(progress.head())
        last = b"".join(block.data for block in held)
        if not held[-1].ends:
            client.write(last)
            last = b""
        hand(stream, passing(progress, client))
        async for block in stream:
            progress.took(block)
            if block.ends:
                last = block.data
                continue
            client.write(block.data)
            if client.is_paused:
                await client.writable()
        self._ok(progress)
        # The end marker leaves only now, when the end can be written down first.
        return Tail(200, last, b"", is_stream=True)

    def _opened(self, progress: Progress) -> None:
        """The commit point."""
        self._tries.opened(progress)
        if not progress.call.stream:
            self._ok(progress)

    def _ok(self, progress: Progress) -> None:
        assert progress.attempt is not None
        progress.attempt.outcome = _OK
        progress.ended(_OK, 200, "")

    def _settle(self, progress: Progress) -> None:
        """The one place where a call ends. Whatever fails here, the caller is still answered."""
        progress.last_s = self._loop.time()
        try:
            self._record(progress)
            if progress.lease is not None:
                progress.lease.settle(progress.usage)
            self._stages.observer.request(progress)
        except Exception:  # noqa: BLE001 - the pipeline's edge
            _log.exception("settle_fault", extra={"request_id": progress.call.request_id})

    def _record(self, progress: Progress) -> None:
        progress.rows.append(progress.request_row(utc_ms()))
        try:
            if progress.attempts:
                self._tries.write_ends(progress)
            else:
                # A refusal is no open work: it must not eat the reserve.
                self._journal.append(*progress.rows)
        except JournalFull:
            if progress.attempts:
                _log.exception("row_lost", extra={"request_id": progress.call.request_id})
