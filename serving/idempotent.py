"""Runs calls that carry an `Idempotency-Key`: once, and replays the answer after that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from serving.errors import CallerError, OwnError
from serving.idempotency import Answer, Idempotency, InFlight, Mismatch, Served
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.recording import Recorder
from serving.records import Call, Caller, Outcome, Usage
from serving.stages import Client

RECORD_BYTES_MAX = 8 << 20


class Idempotent:
    """Puts the store before the pipeline."""

    def __init__(self, store: Idempotency, pipeline: Pipeline, clock: Callable[[], float]) -> None:
        self._store = store
        self._pipeline = pipeline
        self._clock = clock

    async def serve(
        self, call: Call, caller: Caller, client: Client, body_hash: str
    ) -> Progress | None:
        """Run the call, or answer from what is known of its key. How it went, if it ran."""
        key = _mark(caller, call.idempotency_key)
        found = self._store.begin(key, body_hash, self._clock())
        if isinstance(found, Answer):
            self._pipeline.replay(call, caller, found, client)
        elif found is not None:
            self._pipeline.refuse(call, caller, _refusal(found), client)
        else:
            return await self._run(call, caller, client, (key, body_hash))
        return None

    async def _run(
        self, call: Call, caller: Caller, client: Client, keys: tuple[str, str]
    ) -> Progress:
        key, body_hash = keys
        recorder = Recorder(client, RECORD_BYTES_MAX)
        answer: Answer | Served | None = None
        try:
            progress = await self._pipeline.serve(call, caller, recorder, f"{key}:{body_hash}")
            if progress.outcome is Outcome.OK:
                answer = _kept(recorder, progress.usage)
        finally:
            if answer is None:
                self._store.abandon(key)
            else:
                self._store.finish(key, answer, self._clock())
        return progress


def _kept(recorder: Recorder, usage: Usage) -> Answer | Served:
    """What to keep of an answer."""
    if recorder.answered is None:
        return Served(usage)
    return msgspec.structs.replace(recorder.answered, usage=usage)


def _mark(caller: Caller, key: str) -> str:
    """Callers never share a key; a forwarder's customers share its API key and are told apart by
    their tenant."""
    text = f"{caller.key_id}\0{caller.tenant}\0{key}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _refusal(found: Served | InFlight | Mismatch) -> CallerError | OwnError:
    if isinstance(found, InFlight):
        message = "a call with this Idempotency-Key is still running"
        return CallerError("idempotency_in_flight", message, retry_after_s=2.0)
    if isinstance(found, Mismatch):
        message = "this Idempotency-Key was used with another body"
        return CallerError("idempotency_mismatch", message)
    usage = msgspec.to_builtins(found.usage)
    return CallerError(
        "already_served", f"this call was answered before and its answer is not kept; usage {usage}"
    )
