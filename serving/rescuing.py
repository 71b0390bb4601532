"""Rescue: an answer that breaks off after the commit point goes on elsewhere.

At another engine of ours exactly, by token ids; where none can and the settings allow it, by its
text at a third party (0124). What the client has is never changed, repeated or skipped. It happens
below the guard, whose inspector sees one stream; each try has its ticket and its row like any
other. When it may is decided in `rescue.py`, where by `routing.place`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from serving import errors
from serving.backends.base import BlockStream, Resumable, Take, hand
from serving.budgets import door
from serving.carrying import TEXT_MAX, Carried, Heard, prefixed
from serving.errors import Kind, UpstreamError
from serving.progress import Progress
from serving.records import OWN, Block, Burst, Call, Resume, Run, Target, Wait
from serving.rescue import (
    going_on,
    grown,
    may_go_on,
    may_prefix,
    not_prefixing,
    shows_media,
)
from serving.routing import place
from serving.stages import Stages
from serving.tries import TIMER_S, Tries

EXACT, INEXACT = "rescue", "rescue:inexact"


class Continued:
    """A BlockStream that goes on elsewhere when its target breaks off."""

    __slots__ = ("_heard", "_progress", "_rescuer", "_stream", "_take")

    def __init__(
        self, stream: BlockStream, rescuer: Rescuer, progress: Progress, heard: Heard | None
    ) -> None:
        self._stream, self._rescuer, self._progress = stream, rescuer, progress
        self._heard = heard
        self._take: Take | None = None

    def hand(self, take: Take) -> None:
        """See `base.hand`."""
        self._take = take if self._heard is None else _told(take, self._heard)
        hand(self._stream, self._take)

    def __aiter__(self) -> Continued:
        return self

    async def __anext__(self) -> Block:
        try:
            block = await self._stream.__anext__()
        except UpstreamError as error:
            broken = Broken(error, self._stream, self._heard)
            broken.stream.abort()
            self._stream, block = await self._rescuer.go_on(self._progress, broken)
            if self._take is not None:
                hand(self._stream, self._take)
        if self._heard is not None:
            self._heard.take(block.data)
        return block

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._stream.abort()


def _told(take: Take, heard: Heard) -> Take:
    """`take`, and `heard` has what it takes."""

    def both(block: Block) -> bool:
        if not take(block):
            return False
        heard.take(block.data)
        return True

    return both


class Broken(NamedTuple):
    """A stream that broke off."""

    error: UpstreamError
    stream: BlockStream
    heard: Heard | None

    def resume(self) -> Resume | None:
        """Where another engine may go on with it."""
        return self.stream.resume() if isinstance(self.stream, Resumable) else None


class Rescuer:
    """Finds the next target and makes the try."""

    def __init__(self, stages: Stages, tries: Tries) -> None:
        self._stages, self._tries = stages, tries
        self._loop = stages.loop

    def followed(self, stream: BlockStream, progress: Progress) -> BlockStream:
        """An engine's stream, followed where a break of it could be gone on with; itself where
        neither the settings nor the call let anybody."""
        rescue, call = self._stages.rescue, progress.call
        heard = None
        if rescue.inexact and may_prefix(call, progress.caller, self._stages.fleet.view):
            heard = Heard()  # what was said, for a third party
        if heard is None and not (rescue.exact and may_go_on(call)):
            return stream
        return Continued(stream, self, progress, heard)

    async def go_on(self, progress: Progress, broken: Broken) -> tuple[BlockStream, Block]:
        """The stream that goes on and its first Block. Raises the failure where none can."""
        broke_s = self._loop.time()
        while True:
            if not self._may(progress, broken.error):
                raise broken.error
            resume = broken.resume()
            self._end(progress, broken.error, resume)
            found = await self._found(progress, resume, broken.heard)
            if found is None:
                raise broken.error
            stream = await self._begun(progress, found, broken.heard)
            try:
                block = await stream.__anext__()
            except UpstreamError as again:
                stream.abort()
                broken = broken._replace(error=again, stream=stream)
                continue
            except BaseException:
                stream.abort()
                raise
            self._tries.opened(progress)
            progress.rescues.append(self._loop.time() - broke_s)
            return stream, block

    def _may(self, progress: Progress, error: UpstreamError) -> bool:
        return (
            progress.has_committed
            and error.kind not in errors.FINAL
            and progress.attempts < self._stages.retry.attempts_max
            and self._loop.time() + TIMER_S < progress.call.complete_by_s
            and not shows_media(progress.call)
        )

    def _end(self, progress: Progress, error: UpstreamError, resume: Resume | None) -> None:
        """The broken try is over, and on record."""
        attempt = progress.attempt
        assert attempt is not None
        if resume is not None:
            attempt.events = max(0, len(resume.trail.ids) - attempt.known)
        self._tries.judge(progress, error)
        self._tries.close(progress)
        progress.fault = error
        if error.kind is not Kind.FULL:
            progress.tried |= {progress.target}
        self._tries.write_ends(progress)

    async def _found(
        self, progress: Progress, resume: Resume | None, heard: Heard | None
    ) -> tuple[Call, Run | Burst] | None:
        """The call as it goes on and where; exactly, else by its text."""
        if resume is not None and progress.call.pin in ("", OWN):
            found = await self._at_home(progress, resume)
            if found is not None:
                return found
        if heard is None or (resume is not None and resume.is_told):
            return None
        return await self._abroad(progress, heard)

    async def _at_home(self, progress: Progress, resume: Resume) -> tuple[Call, Run] | None:
        """Another engine of ours that every rule admits; waits for room for a while."""
        caller, fleet = progress.caller, self._stages.fleet
        call = going_on(progress.call, resume, self._loop.time())
        while True:
            placement = place(call, caller, fleet.view, self._loop.time(), progress.tried)
            if isinstance(placement, Wait):
                latency_class = caller.policy.latency_class
                if not await self._stages.line.hold(call, placement.until_s, latency_class):
                    call = msgspec.structs.replace(call, may_wait=False)
            elif not isinstance(placement, Run):
                return None
            elif sees_the_same(progress, placement.target):
                return call, msgspec.structs.replace(placement, reason=EXACT)
            else:
                progress.tried |= {placement.target.id}

    async def _abroad(self, progress: Progress, heard: Heard) -> tuple[Call, Burst] | None:
        """A third party with a prefix mode that every rule and budget admits, if the guard finds
        nothing to hide in what the answer has said."""
        text, stages, attempt = heard.text, self._stages, progress.attempt
        assert attempt is not None
        if not text or heard.has_thoughts or len(text) > TEXT_MAX:
            return None
        view, now_s = stages.fleet.view, self._loop.time()
        if stages.budgets is not None and stages.budgets.funds.is_any:
            door.bound(progress, stages.budgets, view)
        barred = not_prefixing(progress.call, view)
        call = grown(progress.call, attempt.known + attempt.events, now_s)
        placement = place(call, progress.caller, view, now_s, progress.tried | barred)
        if not isinstance(placement, Burst):
            return None
        call = prefixed(call, text, placement.target)
        if stages.gate is not None and progress.verdict is not None:
            verdict = await stages.gate.screen(call)
            is_bare = verdict.egress_fields == call.fields
            if verdict.is_blocked or not is_bare or verdict.sensitivity > progress.sensitivity:
                return None
        return call, msgspec.structs.replace(placement, reason=INEXACT)

    async def _begun(
        self, progress: Progress, found: tuple[Call, Run | Burst], heard: Heard | None
    ) -> BlockStream:
        """A try of its own, on record."""
        (call, placement), broken = found, progress.attempt
        assert broken is not None
        self._tries.begin(progress, placement, call)
        attempt = progress.attempt
        assert attempt is not None
        if isinstance(placement, Run) or heard is None:
            return await self._tries.open(progress, call)
        attempt.known, attempt.tells_whole = broken.known + broken.events, False
        return Carried(await self._tries.open(progress, call), heard.first, attempt.known)


def sees_the_same(progress: Progress, target: Target) -> bool:
    """Whether the guard shows this target what it showed the one before: one inspector reads both,
    and ids made from a prompt in clear must not go where the prompt goes masked."""
    verdict, attempt = progress.verdict, progress.attempt
    assert attempt is not None
    if verdict is None or verdict.fields == verdict.egress_fields:
        return True
    return attempt.ticket.is_egress is not target.label.on_premises
