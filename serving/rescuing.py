"""Rescue: an answer that breaks off after the commit point goes on at another engine of ours.

What the client has is never changed, repeated or skipped (0124). It happens below the guard, whose
inspector sees one stream; each try has its ticket and its row like any other. When it may is
decided in `rescue.py`, where by `routing.place`.
"""

from __future__ import annotations

import msgspec

from serving import errors
from serving.backends.base import BlockStream, Resumable
from serving.errors import Kind, UpstreamError
from serving.progress import Progress
from serving.records import OWN, Block, Call, Replica, Resume, Run, Wait
from serving.rescue import going_on, shows_media
from serving.routing import place
from serving.stages import Stages
from serving.tries import Tries

REASON = "rescue"


class Continued:
    """A BlockStream that goes on elsewhere when its target breaks off."""

    __slots__ = ("_progress", "_rescuer", "_stream")

    def __init__(self, stream: BlockStream, rescuer: Rescuer, progress: Progress) -> None:
        self._stream, self._rescuer, self._progress = stream, rescuer, progress

    def __aiter__(self) -> Continued:
        return self

    async def __anext__(self) -> Block:
        try:
            return await self._stream.__anext__()
        except UpstreamError as error:
            broken = self._stream
            broken.abort()
            self._stream, block = await self._rescuer.go_on(self._progress, error, broken)
            return block

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._stream.abort()


class Rescuer:
    """Finds the next target and makes the try."""

    def __init__(self, stages: Stages, tries: Tries) -> None:
        self._stages, self._tries = stages, tries
        self._loop = stages.loop

    async def go_on(
        self, progress: Progress, error: UpstreamError, broken: BlockStream
    ) -> tuple[BlockStream, Block]:
        """The stream that goes on and its first Block. Raises the failure where none can."""
        broke_s = self._loop.time()
        while True:
            resume = self._resume(progress, error, broken)
            if resume is None:
                raise error
            self._end(progress, error, resume)
            found = await self._place(progress, resume)
            if found is None:
                raise error
            call, placement = found
            self._tries.begin(progress, placement, call)
            stream = await self._tries.open(progress, call)
            try:
                block = await stream.__anext__()
            except UpstreamError as again:
                stream.abort()
                error, broken = again, stream
                continue
            except BaseException:
                stream.abort()
                raise
            self._opened(progress, broke_s)
            return stream, block

    def _resume(
        self, progress: Progress, error: UpstreamError, broken: BlockStream
    ) -> Resume | None:
        """Where to go on; None where the answer must end."""
        call = progress.call
        if (
            not progress.has_committed
            or error.kind in errors.FINAL
            or progress.attempts >= self._stages.retry.attempts_max
            or self._loop.time() >= call.complete_by_s
            or call.pin not in ("", OWN)
            or not isinstance(broken, Resumable)
            or shows_media(call)
        ):
            return None
        return broken.resume()

    def _end(self, progress: Progress, error: UpstreamError, resume: Resume) -> None:
        """The broken try is over, and on record."""
        attempt = progress.attempt
        assert attempt is not None
        attempt.events = max(0, len(resume.trail.ids) - attempt.known)
        self._tries.judge(progress, error)
        self._tries.close(progress)
        progress.fault = error
        if error.kind is not Kind.FULL:
            progress.tried |= {progress.target}
        self._tries.write_ends(progress)

    async def _place(self, progress: Progress, resume: Resume) -> tuple[Call, Run] | None:
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
            elif _sees_the_same(progress, placement.target):
                return call, msgspec.structs.replace(placement, reason=REASON)
            else:
                progress.tried |= {placement.target.id}

    def _opened(self, progress: Progress, broke_s: float) -> None:
        attempt, now_s = progress.attempt, self._loop.time()
        assert attempt is not None
        self._stages.admission.opened(attempt.ticket, now_s, is_stream=True)
        attempt.first_s = now_s - attempt.ticket.issued_s
        progress.rescues.append(now_s - broke_s)


def _sees_the_same(progress: Progress, target: Replica) -> bool:
    """Whether the guard shows this target what it showed the one before. Ids made from a prompt in
    clear must not go where the prompt goes masked."""
    verdict, attempt = progress.verdict, progress.attempt
    assert attempt is not None
    if verdict is None or verdict.fields == verdict.egress_fields:
        return True
    return attempt.ticket.is_egress is not target.label.on_premises
