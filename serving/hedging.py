"""Hedging: a second try beside one whose first token is late. The first of the two to say
something answers; the other is cancelled at once and its cost is on record like any try's.

Only before the first token, only for streams, only while the hour's money lasts, and never to a
target that waits in the same queue: not to an engine of ours with calls waiting when the late one
is ours, not to the same account when it is an API. Off unless the settings give it money.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

import msgspec

from serving import accounting
from serving.attempt import Attempt
from serving.backends.base import BlockStream, Resumable
from serving.budgets import door
from serving.errors import Kind, OwnError, UpstreamError
from serving.hedge_purse import Purse
from serving.progress import Progress
from serving.records import (
    Block,
    Burst,
    Call,
    Offering,
    Replica,
    Resume,
    Run,
    Target,
    Ticket,
    Usage,
)
from serving.rescue import grown
from serving.rescuing import sees_the_same
from serving.routing import place
from serving.settings_rescue import Hedge
from serving.stages import Stages
from serving.tries import Tries, opening

REASON, LOST = "hedge", "hedged"
_MICRO = 1_000_000


class Contender(NamedTuple):
    """One of the two."""

    stream: BlockStream
    attempt: Attempt
    task: asyncio.Task[list[Block]]


class Hedger:
    """Decides whether a try gets a second one beside it, and begins that."""

    def __init__(self, stages: Stages, tries: Tries, settings: Hedge) -> None:
        self.tries = tries
        self._stages, self._settings = stages, settings
        self._loop = stages.loop
        self.purse = Purse(int(settings.hour_max * _MICRO))
        self.is_on = settings.hour_max > 0

    def patience_s(self, ticket: Ticket) -> float:
        """How long the first token may take before a second try begins: what nine of ten keep to
        there, as learnt; of an API nobody has asked yet, as its row says."""
        known = ticket.estimate
        predicted_s = 0.0 if known is None else known.first_token_s.p90
        return max(self._settings.after_s, predicted_s)

    def in_time_s(self, patience_s: float, call: Call) -> float:
        """The same, but no more than half of what is left until the caller's own first token is
        due: what was learnt in a bad hour must not leave the second try without time."""
        left_s = call.first_token_by_s - self._loop.time()
        return max(self._settings.after_s, min(patience_s, left_s / 2))

    async def second(self, progress: Progress) -> tuple[BlockStream, int] | None:
        """A second try and the money reserved for both; None where there is to be none."""
        stages, first, call = self._stages, progress.attempt, progress.call
        assert first is not None
        if progress.attempts >= stages.retry.attempts_max or call.pin:
            return None
        view, now_s = stages.fleet.view, self._loop.time()
        if stages.budgets is not None and stages.budgets.funds.is_any:
            door.bound(progress, stages.budgets, view)
        call = msgspec.structs.replace(grown(progress.call, 0, now_s), may_wait=False)
        barred = progress.tried | {first.ticket.target.id} | self._queued(first.ticket.target)
        placement = place(call, progress.caller, view, now_s, barred)
        if not isinstance(placement, Run | Burst) or not sees_the_same(progress, placement.target):
            return None
        if _owner(first.ticket.target) != "" == _owner(placement.target):
            return None  # a tenant's own account that is slow does not make it our bill
        reserved = self._most(placement.target, first.ticket)
        if reserved is None or not self.purse.take(reserved, now_s):
            return None
        placement = msgspec.structs.replace(placement, reason=REASON)
        try:
            self.tries.begin(progress, placement, progress.call)
            return await self.tries.open(progress, progress.call), reserved
        except BaseException as error:
            # The first try goes on alone, or ends with the call.
            if progress.attempt is not first:
                self.tries.judge(progress, error)
                self.tries.close(progress)
                take(progress, first)
            self.purse.settle(reserved, 0)
            if isinstance(error, OwnError):
                return None
            raise

    def _queued(self, late: Target) -> set[str]:
        """Targets that share the late one's queue."""
        view, model = self._stages.fleet.view, late.model
        if isinstance(late, Offering):
            sold = view.theirs.get(late.owner, {}) if late.owner else view.offerings
            rows = sold.get(model, ())
            return {row.id for row in rows if row.account_id == late.account_id}
        replicas: tuple[Replica, ...] = view.replicas.get(model, ())
        states = ((replica.id, view.state.get(replica.id)) for replica in replicas)
        return {name for name, state in states if state is not None and state.load.waiting}

    def _most(self, target: Target, first: Ticket) -> int | None:
        """The most that one of the two may cost for nothing; None in another currency."""
        usage = Usage(first.prompt_tokens, first.completion_tokens)
        total = 0
        for one in (target, first.target):
            if isinstance(one, Offering):
                charge = accounting.charge(one.price, usage)
                if charge.currency not in ("", self._settings.currency):
                    return None
                total = max(total, charge.micro)
        return total


class Raced:
    """A BlockStream that may become another one before its first token."""

    def __init__(
        self, stream: BlockStream, hedger: Hedger, progress: Progress, patience_s: float
    ) -> None:
        self._stream, self._hedger, self._progress = stream, hedger, progress
        self._patience_s = hedger.in_time_s(patience_s, progress.call)
        self._ready: deque[Block] = deque()
        self._has_begun = False

    def __aiter__(self) -> Raced:
        return self

    async def __anext__(self) -> Block:
        if not self._has_begun:
            self._has_begun = True
            self._ready.extend(await self._race())
        if self._ready:
            return self._ready.popleft()
        return await self._stream.__anext__()

    def resume(self) -> Resume | None:
        """See `Resumable.resume`."""
        return self._stream.resume() if isinstance(self._stream, Resumable) else None

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._stream.abort()

    async def _race(self) -> list[Block]:
        progress = self._progress
        assert progress.attempt is not None
        first = _contender(self._stream, progress.attempt)
        try:
            await asyncio.wait({first.task}, timeout=self._patience_s)
            if first.task.done():
                return first.task.result()
            found = await self._hedger.second(progress)
        except BaseException:
            first.task.cancel()
            raise
        if found is None:
            return await first.task
        stream, reserved = found
        assert progress.attempt is not None
        second = _contender(stream, progress.attempt)
        try:
            winner = await self._winner(first, second)
            return winner.task.result()
        finally:
            # However it ends, one try is left open: the pipeline's.
            for one in (first, second):
                one.task.cancel()
                if one.attempt is progress.attempt:
                    self._stream = one.stream
                else:
                    self._drop(one, reserved)

    async def _winner(self, first: Contender, second: Contender) -> Contender:
        """The first to say something; one that fails leaves it to the other."""
        progress, open_ones = self._progress, [first, second]
        while True:
            tasks = {one.task for one in open_ones}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in [one for one in open_ones if one.task.done()]:
                error = one.task.exception()
                if error is None or len(open_ones) == 1:
                    take(progress, one.attempt)
                    return one
                open_ones.remove(one)
                progress.attempt = one.attempt
                if not isinstance(error, UpstreamError):
                    raise error
                self._hedger.tries.judge(progress, error)
                self._hedger.tries.close(progress)
                if error.kind is not Kind.FULL:
                    progress.tried |= {one.attempt.ticket.target.id}
                take(progress, open_ones[0].attempt)

    def _drop(self, one: Contender, reserved: int) -> None:
        """The loser: cancelled upstream, its ticket back, its cost on record."""
        one.stream.abort()
        self._hedger.tries.lost(self._progress, one.attempt, why=LOST)
        winner = self._progress.attempt
        assert winner is not None
        if winner.ticket.reason != REASON or not isinstance(winner.ticket.target, Offering):
            # Else it is the second try that is paid: at most what was reserved.
            self._hedger.purse.settle(reserved, one.attempt.cost_micro)


def _owner(target: Target) -> str:
    """The tenant whose account pays there; empty is us."""
    return target.owner if isinstance(target, Offering) else ""


def take(progress: Progress, attempt: Attempt) -> None:
    """This one is the call's try now."""
    progress.attempt = attempt
    progress.target, progress.reason = attempt.ticket.target.id, attempt.ticket.reason


def _contender(stream: BlockStream, attempt: Attempt) -> Contender:
    task = asyncio.ensure_future(opening(stream))
    # What a loser says comes too late to be heard.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return Contender(stream, attempt, task)
