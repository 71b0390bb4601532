"""One line of a batch through the ordinary pipeline: same parsing, limits, guard, placement, books.

Its answer is stored before its end is on record: after a crash a line that the books call answered
has its answer, and is not run again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from serving import errors
from serving.api.calls import SURFACES, Calls, Given
from serving.api.dialects import DIALECTS, Dialect, Translated
from serving.batch import envelope
from serving.batch.planning import Judged, judged
from serving.batch.values import Batch, Ended, Line, State
from serving.codecs import openai
from serving.errors import CallerError
from serving.pipeline import Pipeline
from serving.progress import Progress, Tail
from serving.records import OWN, Call, Caller, LatencyClass, Surface
from serving.review.keeper import Reviews
from serving.rules import BOUGHT
from serving.stages import Client

Keep = Callable[[Ended], Awaitable[bool]]
_RETRY = re.compile(rb"(?:^|\r\n)retry-after: (\d{1,6})\r\n", re.IGNORECASE)
HEADERS = (b"x-ballast-residency", b"x-ballast-hop")
"""What a batch's caller said for all its lines; kept with the batch."""

_NOT_IN_BATCHES = BOUGHT | {Surface.TOKENIZE}
"""Sound is no line of JSON."""


def surface_of(endpoint: str) -> tuple[Surface, Dialect | None] | None:
    """What a batch's endpoint is; None for one that takes no batches."""
    path = endpoint.encode("latin-1", "replace")
    dialect = DIALECTS.get(path)
    surface = SURFACES.get(path) if dialect is None else Surface.CHAT
    return None if surface is None or surface in _NOT_IN_BATCHES else (surface, dialect)


ENDPOINTS = tuple(
    path.decode() for path in (*SURFACES, *DIALECTS) if surface_of(path.decode()) is not None
)


class Collected:
    """Implements `Client`: keeps a plain answer."""

    is_closed = is_paused = False

    def __init__(self) -> None:
        self.status, self.body, self.head = 0, b"", b""

    def start(self, head: bytes) -> None:  # noqa: ARG002 - protocol
        """See `Client`; no line is a stream."""
        raise AssertionError("a line of a batch is no stream")

    def write(self, data: bytes) -> None:  # noqa: ARG002 - protocol
        """See `Client`."""
        raise AssertionError("a line of a batch is no stream")

    async def writable(self) -> None:
        """See `Client`."""

    def end(self, data: bytes = b"") -> None:  # noqa: ARG002 - protocol
        """See `Client`."""
        raise AssertionError("a line of a batch is no stream")

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`. May be told twice: before and after the end is on record."""
        self.status, self.body, self.head = status, body, head


class Run(NamedTuple):
    """One run of one line."""

    batch: Batch
    line: Line
    caller: Caller
    pin: str
    left_s: float
    """Until the batch's window ends."""
    is_home_only: bool = False
    """A third party refused its content in an earlier run."""


class Lines:
    """Runs them. `tries_max` is of a line that fails by others' fault."""

    def __init__(
        self, pipeline: Pipeline, calls: Calls, reviews: Reviews, tries_max: int,
        refusals: dict[str, Callable[[], None]],
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._refusals = refusals
        self._calls = calls
        self._reviews = reviews
        self._tries_max = tries_max

    async def run(self, run: Run, keep: Keep, refused: Callable[[], None]) -> Judged:
        """Run it, and `keep` how it ended unless it is to be run again. `refused` is called as soon
        as a third party refuses the content: what comes after may take hours."""
        request_id = envelope.request_id(run.batch, run.line.number, run.line.run)
        self._refusals[request_id] = refused
        try:
            return await self._run(run, keep, request_id)
        finally:
            del self._refusals[request_id]

    async def _run(self, run: Run, keep: Keep, request_id: str) -> Judged:
        client = Collected()

        def ended(state: State) -> Ended:
            answer = client.status, client.body
            data = envelope.answered(run.line.custom_id, request_id, *answer)
            return Ended(run.line.number, state, data)

        async def kept(tail: Tail) -> None:
            tail.send(_shown(run, client))
            await keep(ended(State.DONE))

        outcome, code, is_refused = "", "", run.is_home_only
        caller = _patient(run.caller)
        try:
            call, fault = self._read(run, caller, request_id)
        except CallerError as error:
            row = errors.TABLE[error.code]
            client.answer(row.status, errors.body(error.code, error.message, error.param))
            code = error.code
        else:
            shown = _shown(run, client)
            if fault is not None:
                self._pipeline.refuse(call, caller, fault, shown)
                code = fault.code
            else:
                progress = await self._serve(call, caller, shown, kept)
                outcome, code = progress.outcome, progress.code
                is_refused = is_refused or progress.refused_by != ""
        found = judged(outcome, code, run.line.run, (_retry_s(client.head), self._tries_max))
        if found.state is State.FAILED and run.pin not in ("", OWN) and not is_refused:
            return Judged(
                State.WAITING
            )  # at a batch price nothing else is final: it is run at home
        if found.state is State.FAILED:
            await keep(ended(State.FAILED))
        return found._replace(is_home_only=is_refused)

    async def _serve(
        self, call: Call, caller: Caller, client: Client, kept: Callable[[Tail], Awaitable[None]]
    ) -> Progress:
        if not self._reviews.may_keep(call):
            return await self._pipeline.serve(call, caller, client, keep=kept)
        found: list[Progress] = []

        async def serve(watched: Client) -> Progress:
            found.append(await self._pipeline.serve(call, caller, watched, keep=kept))
            return found[0]

        await self._reviews.watched(call, client, serve)
        return found[0]

    def _read(self, run: Run, caller: Caller, request_id: str) -> tuple[Call, CallerError | None]:
        found = surface_of(run.batch.endpoint)
        assert found is not None, "checked when the batch was made"
        surface, dialect = found
        body = run.line.data
        parsed = openai.parse(surface, body if dialect is None else dialect.to_chat(body))
        if parsed.stream:
            raise CallerError("invalid_value", "a batch has no streams", param="stream")
        headers = {name.encode(): v.encode("latin-1") for name, v in run.batch.headers.items()}
        sent = {name: headers[name] for name in HEADERS if name in headers}
        call, fault = self._calls.read(Given(surface, parsed, sent, len(body)), caller)
        until_s = call.received_s + max(1.0, run.left_s)
        call = msgspec.structs.replace(
            call, request_id=request_id, batch=run.batch.id, pin=run.pin,
            is_home_only=run.is_home_only,
            first_token_by_s=min(call.first_token_by_s, until_s),
            complete_by_s=min(call.complete_by_s, until_s),
        )  # fmt: skip
        return call, fault


def _patient(caller: Caller) -> Caller:
    """With the class of a batch, whatever its key's."""
    policy = msgspec.structs.replace(caller.policy, latency_class=LatencyClass.BATCH)
    return msgspec.structs.replace(caller, policy=policy)


def _shown(run: Run, client: Collected) -> Client:
    """The client, told everything in its endpoint's dialect."""
    found = surface_of(run.batch.endpoint)
    dialect = None if found is None else found[1]
    return client if dialect is None else Translated(client, dialect.writer(run.line.data))


def _retry_s(head: bytes) -> float | None:
    found = _RETRY.search(head)
    return None if found is None else float(found[1])
