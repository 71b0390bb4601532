"""The public listener: OpenAI routes in, Calls out. Everything else is 404.

Refuses what can be refused from the bytes alone; a request that was parsed for a known caller goes
to the pipeline, also to be refused, because it must leave a row.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from serving import errors
from serving.api import hearing
from serving.api.batches import OWN_PATHS, BatchRoutes
from serving.api.calls import SURFACES, Calls, Given
from serving.api.capacity import CAPACITY, HEAD, Capacity
from serving.api.dialects import DIALECTS, Translated
from serving.api.files import FILES
from serving.api.sounding import Sounding
from serving.codecs import openai, speech
from serving.codecs.hearing import asked
from serving.errors import BallastError, CallerError
from serving.idempotent import Idempotent
from serving.metrics import Counter
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.records import Call, Caller, Surface
from serving.review.keeper import Reviews, Serve
from serving.rules import HEARD
from serving.settings import Limits
from serving.stages import Client
from serving.wire.server import Connection, Request, Server, Sink

# Looking a member up on its class costs 0.2 us in Python 3.11.
_CHAT, _SPEECH = Surface.CHAT, Surface.SPEECH
_ENDS = (b"/chat/completions", b"/completions", b"/embeddings", b"/rerank", b"/models")
_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """What the listener needs; built by the composition root."""

    pipeline: Pipeline
    idempotent: Idempotent
    calls: Calls
    identify: Callable[[bytes | None], Caller]
    on_behalf: Callable[[Caller, Mapping[bytes, bytes]], Caller]
    unparsed: Counter
    reviews: Reviews
    batches: BatchRoutes
    fills: Callable[[str, int], None]
    """Told of calls that ask for no engines; see `demand`."""
    capacity: Capacity


class Inference:
    """Routes requests of the public listener."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def __call__(self, request: Request, connection: Connection) -> None:
        """Answer, or hand over to the pipeline."""
        try:
            self._route(request, connection)
        except BallastError as error:
            self._refuse(request, connection, error)
        except Exception:  # noqa: BLE001 - the pipeline's edge
            _log.exception("listener_fault")
            fault = errors.OwnError("internal_error", "the gateway failed")
            self._refuse(request, connection, fault)

    def served(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> Server:
        """A server of these routes, which also asks them before a request is whole."""
        server = Server(self.__call__, limits, loop)  # bound: a call of `self` looks it up
        server.vet, server.owner, server.sink = self.vet, self.owner, self.sink
        server.on_refused = lambda code: self._terms.unparsed.add((code,))
        return server

    def vet(self, headers: Mapping[bytes, bytes]) -> BallastError | None:
        """Why a request with these headers is refused whatever its body says."""
        try:
            self._terms.identify(_credentials(headers))
            if not headers.get(b"content-type", b"").lower().startswith(hearing.FORM):
                _check_type(headers)  # a form is refused once its path is known
        except BallastError as error:
            return error
        return None

    def owner(self, headers: Mapping[bytes, bytes]) -> str:
        """The id of the key that sent these headers, which `vet` let pass."""
        return self._terms.identify(_credentials(headers)).key_id

    def _route(self, request: Request, connection: Connection) -> None:
        path = request.path.partition(b"?")[0]
        dialect = DIALECTS.get(path)
        surface = SURFACES.get(path) if dialect is None else _CHAT
        if surface is None:
            self._other(path, request, connection)
            return
        if request.method != b"POST":
            raise CallerError("method_not_allowed", "use POST on this path")
        terms = self._terms
        headers = request.headers
        caller = self._caller(headers)
        if surface in HEARD:
            connection.run(self._hear(surface, request, caller, connection))
            return
        _check_type(headers)
        client: Client = connection
        if surface is _SPEECH:
            parsed = openai.parse(surface, request.body)
            client = Sounding(connection, speech.kind(parsed.fields))
        elif dialect is None:
            parsed = openai.parse(surface, request.body)
        else:
            parsed = openai.parse(surface, dialect.to_chat(request.body))
            client = Translated(connection, dialect.writer(request.body))
        call, fault = terms.calls.read(Given(surface, parsed, headers, len(request.body)), caller)
        if fault is not None:
            terms.pipeline.refuse(call, caller, fault, client)
            return
        body_hash = ""
        if call.idempotency_key:
            body_hash = hashlib.sha256(path + b"\0" + request.body).hexdigest()[:32]
        self._run(call, (connection, client), self._serve(call, caller, body_hash))

    def _serve(self, call: Call, caller: Caller, body_hash: str) -> Serve:
        terms = self._terms
        serve: Serve = partial(terms.pipeline.serve, call, caller)
        if call.idempotency_key:
            serve = partial(terms.idempotent.serve, call, caller, body_hash=body_hash)
        return self._apart(call, serve) if caller.policy.is_load_test else serve

    async def _hear(
        self, surface: Surface, request: Request, caller: Caller, connection: Connection
    ) -> None:
        """Sound comes in a form, which is read as a task: the connection waits for no file."""
        terms = self._terms
        try:
            heard = await hearing.read(request)
            of = (surface, request.headers, len(request.body))
            call, fault = heard.call(terms.calls, caller, of)
        except BallastError as error:
            self._refuse(request, connection, error)
            return
        request.body = b""  # the file alone is kept
        client = hearing.Written(connection, asked(heard.parsed.fields))
        if fault is not None:
            terms.pipeline.refuse(call, caller, fault, client)
            return
        asked_for = hashlib.sha256(f"{surface}\0{heard.digest}".encode()).hexdigest()[:32]
        await self._serve(call, caller, asked_for)(client)

    def _apart(self, call: Call, serve: Serve) -> Serve:
        """The call, counted apart while it is under way: it asks for no engines."""

        async def apart(client: Client) -> Progress | None:
            self._terms.fills(call.model, 1)
            try:
                return await serve(client)
            finally:
                self._terms.fills(call.model, -1)

        return apart

    def sink(self, request: Request, transport: asyncio.Transport) -> Sink | None:
        """Where a body goes that is not kept in memory. Raises BallastError."""
        if request.path.partition(b"?")[0] != FILES or request.method != b"POST":
            return None
        return self._terms.batches.upload(request, self._caller(request.headers), transport)

    def _caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        caller = self._terms.identify(_credentials(headers))
        if caller.policy.is_forwarder:
            caller = self._terms.on_behalf(caller, headers)
        return caller

    def _run(self, call: Call, to: tuple[Connection, Client], serve: Serve) -> None:
        reviews, (connection, client) = self._terms.reviews, to
        if reviews.may_keep(call):
            connection.run(reviews.watched(call, client, serve))
        else:
            connection.run(serve(client))

    def _other(self, path: bytes, request: Request, connection: Connection) -> None:
        if path == b"/v1/models" or path.startswith(b"/v1/models/"):
            if request.method != b"GET":
                raise CallerError("method_not_allowed", "use GET on this path")
            terms = self._terms
            caller = terms.identify(_credentials(request.headers))
            name = path.removeprefix(b"/v1/models").strip(b"/").decode("latin-1")
            connection.answer(200, terms.calls.catalogue.render(name, caller))
        elif path == CAPACITY:
            if request.method != b"GET":
                raise CallerError("method_not_allowed", "use GET on this path")
            caller = self._caller(request.headers)
            body = self._terms.capacity.answer(request.path, request.headers, caller)
            connection.answer(200, body, HEAD)
        elif path.startswith(OWN_PATHS):
            self._terms.batches.route(request, self._caller(request.headers), connection)
        else:
            raise CallerError("not_found", _not_found(path))

    def _refuse(self, request: Request, connection: Connection, error: BallastError) -> None:
        self._terms.unparsed.add((error.code,))
        row = errors.TABLE[error.code]
        body = errors.body(error.code, error.message, error.param)
        dialect = DIALECTS.get(request.path.partition(b"?")[0])
        if dialect is not None:
            body = dialect.refusal(row.status, body)
        head = b"www-authenticate: Bearer\r\n" if row.status == 401 else b""
        connection.answer(row.status, body, head)


def _not_found(path: bytes) -> str:
    """What a client whose base URL is wrong should be given instead."""
    said = "no such path; the API is under /v1"
    if path.startswith(b"//"):
        return f"{said}: give the client the base URL without a slash at its end"
    if path.startswith(b"/v1/v1/"):
        return f"{said}: the client adds /v1 itself, so this address has /v1 twice; leave it out"
    if path.endswith(_ENDS):
        return f"{said}: give the client a base URL that ends in /v1, with no path after it"
    return said


def _credentials(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Who asks: a bearer's key, or one as Anthropic's clients send it."""
    given = headers.get(b"authorization")
    if given is None and (key := headers.get(b"x-api-key")) is not None:
        return b"Bearer " + key
    return given


def _check_type(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type")
    if kind is not None and kind != b"application/json":
        name, _, rest = kind.lower().partition(b";")
        charset = rest.strip().removeprefix(b"charset=").strip(b'"')
        if name.strip() != b"application/json" or charset not in (b"", b"utf-8", b"utf8"):
            message = "send the body as 'Content-Type: application/json' in UTF-8"
            raise CallerError("unsupported_media_type", message)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise CallerError("unsupported_media_type", "compressed request bodies are not accepted")
