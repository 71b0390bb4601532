"""Runs calls that carry an `Idempotency-Key`: once, and replays the answer after that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from serving.errors import CallerError, OwnError
from serving.idempotency import Answer, Idempotency, InFlight, Mismatch, Served
from serving.pipeline import Pipeline
from serving.records import Call, Caller, Outcome, Usage
from serving.stages import Client

RECORD_BYTES_MAX = 8 << 20


class Recorder:
    """A client that also keeps what it was sent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._answered: Answer | None = None

    @property
    def is_closed(self) -> bool:
        """See `Client`."""
        return self._client.is_closed

    @property
    def is_paused(self) -> bool:
        """See `Client`."""
        return self._client.is_paused

    async def writable(self) -> None:
        """See `Client`."""
        await self._client.writable()

    def answer_with(self, usage: Usage) -> Answer | Served:
        """What to keep of the answer."""
        if self._answered is None:
            return Served(usage)
        return msgspec.structs.replace(self._answered, usage=usage)

    def start(self, head: bytes) -> None:
        """See `Client`."""
        self._head = head
        self._client.start(head)

    def write(self, data: bytes) -> None:
        """See `Client`."""
        self._keep(data)
        self._client.write(data)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= RECORD_BYTES_MAX:
            self._parts.append(data)

    def end(self, data: bytes = b"") -> None:
        """See `Client`."""
        self._keep(data)
        if self._size <= RECORD_BYTES_MAX:
            self._answered = Answer(200, self._head, b"".join(self._parts), is_stream=True)
        self._client.end(data)

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        self._answered = Answer(status, head, body, is_stream=False)
        self._client.answer(status, body, head)


class Idempotent:
    """Puts the store before the pipeline."""

    def __init__(self, store: Idempotency, pipeline: Pipeline, clock: Callable[[], float]) -> None:
        self._store = store
        self._pipeline = pipeline
        self._clock = clock

    async def serve(self, call: Call, caller: Caller, client: Client, body_hash: str) -> None:
        """Run the call, or answer from what is known of its key."""
        key = _mark(caller, call.idempotency_key)
        found = self._store.begin(key, body_hash, self._clock())
        if isinstance(found, Answer):
            self._pipeline.replay(call, caller, found, client)
        elif found is not None:
            self._pipeline.refuse(call, caller, _refusal(found), client)
        else:
            await self._run(call, caller, client, (key, body_hash))

    async def _run(self, call: Call, caller: Caller, client: Client, keys: tuple[str, str]) -> None:
        key, body_hash = keys
        recorder = Recorder(client)
        answer: Answer | Served | None = None
        try:
            progress = await self._pipeline.serve(call, caller, recorder, f"{key}:{body_hash}")
            if progress.outcome is Outcome.OK:
                answer = recorder.answer_with(progress.usage)
        finally:
            if answer is None:
                self._store.abandon(key)
            else:
                self._store.finish(key, answer, self._clock())


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
