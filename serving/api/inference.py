"""The public listener: OpenAI routes in, Calls out. Everything else is 404.

Refuses what can be refused from the bytes alone; a request that was parsed for a known caller goes
to the pipeline, also to be refused, because it must leave a row.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple
from zlib import crc32

import uuid_utils

from models.tokens import SAMPLE_BYTES, TokenRatio
from serving import errors
from serving.api.dialects import DIALECTS, Translated
from serving.api.hints import read as read_hints
from serving.api.models import Catalogue
from serving.codecs import openai
from serving.errors import BallastError, CallerError
from serving.idempotent import Idempotent
from serving.logs import utc_ms
from serving.metrics import Counter
from serving.pipeline import Pipeline
from serving.placement.assign import assign
from serving.records import Call, Caller, FleetView, LatencyClass, Surface
from serving.review.keeper import Reviews, Serve
from serving.settings import Deadlines, Model
from serving.stages import Client
from serving.wire.server import Connection, Request

_SURFACES = {
    b"/v1/chat/completions": Surface.CHAT,
    b"/v1/completions": Surface.COMPLETIONS,
    b"/tokenize": Surface.TOKENIZE,
    b"/v1/embeddings": Surface.EMBEDDINGS,
    b"/v1/rerank": Surface.RERANK,
    b"/v1/score": Surface.SCORE,
}
_LATER = (b"/v1/capacity", b"/v1/files", b"/v1/batches", b"/v1/audio")
_UNKNOWN_MODEL = "unknown"
HOP_CHARS_MAX = 512
_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """What the listener needs; built by the composition root."""

    pipeline: Pipeline
    idempotent: Idempotent
    catalogue: Catalogue
    identify: Callable[[bytes | None], Caller]
    on_behalf: Callable[[Caller, Mapping[bytes, bytes]], Caller]
    classes: Mapping[LatencyClass, Deadlines]
    deployment_id: str
    unparsed: Counter
    ratios: Mapping[str, TokenRatio]
    clock: Callable[[], float]
    reviews: Reviews
    view: Callable[[], FleetView] = FleetView


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

    def vet(self, headers: Mapping[bytes, bytes]) -> BallastError | None:
        """Why a request with these headers is refused whatever its body says."""
        try:
            self._terms.identify(_credentials(headers))
            _check_type(headers)
        except BallastError as error:
            return error
        return None

    def owner(self, headers: Mapping[bytes, bytes]) -> str:
        """The id of the key that sent these headers, which `vet` let pass."""
        return self._terms.identify(headers.get(b"authorization")).key_id

    def _route(self, request: Request, connection: Connection) -> None:
        path, _, _ = request.path.partition(b"?")
        dialect = DIALECTS.get(path)
        surface = _SURFACES.get(path) if dialect is None else Surface.CHAT
        if surface is None:
            self._other(path, request, connection)
            return
        if request.method != b"POST":
            raise CallerError("method_not_allowed", "use POST on this path")
        terms = self._terms
        headers = request.headers
        caller = terms.identify(_credentials(headers))
        if caller.policy.is_forwarder:
            caller = terms.on_behalf(caller, headers)
        _check_type(headers)
        client: Client = connection
        if dialect is None:
            parsed = openai.parse(surface, request.body)
        else:
            parsed = openai.parse(surface, dialect.to_chat(request.body))
            client = Translated(connection, dialect.writer(request.body))
        model = terms.catalogue.find(parsed.model)
        call = self._call(surface, parsed, caller, (request, model))
        if model is not None:
            call = assign(call, caller, terms.view(), request.headers, call.received_s)
            if call.model != model.name:
                model = terms.catalogue.find(call.model)
        fault = self._fault(call, caller, model, parsed)
        if fault is not None:
            terms.pipeline.refuse(call, caller, fault, client)
        elif call.idempotency_key:
            body_hash = hashlib.sha256(path + b"\0" + request.body).hexdigest()[:32]
            self._run(
                call, (connection, client),
                lambda c: terms.idempotent.serve(call, caller, c, body_hash),
            )  # fmt: skip
        else:
            self._run(call, (connection, client), lambda c: terms.pipeline.serve(call, caller, c))

    def _run(self, call: Call, to: tuple[Connection, Client], serve: Serve) -> None:
        reviews, (connection, client) = self._terms.reviews, to
        if reviews.may_keep(call):
            connection.run(reviews.watched(call, client, serve))
        else:
            connection.run(serve(client))

    def _call(
        self, surface: Surface, parsed: openai.Parsed, caller: Caller,
        source: tuple[Request, Model | None],
    ) -> Call:  # fmt: skip
        request, model = source
        headers, terms = request.headers, self._terms
        now_s = terms.clock()
        hints = read_hints(headers, caller, terms.classes)
        prompt = parsed.prompt
        sample = prompt[:SAMPLE_BYTES]
        session = hints.session or parsed.cache_key
        name = model.name if model is not None else _UNKNOWN_MODEL
        ratio = terms.ratios.get(name)
        return Call(
            uuid_utils.uuid7().hex, surface, caller.tenant, name, parsed.model, parsed.fields,
            now_s, utc_ms(), now_s + min(hints.first_token_s, hints.complete_s),
            now_s + hints.complete_s, hints.latency_class,
            prompt, len(request.body),
            ratio.upper(sample, parsed.text_bytes) if ratio is not None else 0,
            parsed.max_tokens, parsed.stream, parsed.wants_usage,
            crc32(session.encode() if session else sample, crc32(caller.tenant.encode())),
            session, _text(headers, b"x-ballast-hop"), _text(headers, b"idempotency-key"),
            hints.residency, parsed.n,
            parsed.model if parsed.model in terms.catalogue.adapters else "", hints.pin,
        )  # fmt: skip

    def _fault(
        self, call: Call, caller: Caller, model: Model | None, parsed: openai.Parsed
    ) -> CallerError | None:
        """Why a call cannot be served whatever the fleet looks like; None when it can."""
        if len(call.hop) > HOP_CHARS_MAX:
            return CallerError("loop_detected", "this call has been through too many gateways")
        if call.hop and self._terms.deployment_id in map(str.strip, call.hop.split(",")):
            message = "this call has been through this gateway before: break the loop upstream"
            return CallerError("loop_detected", message)
        if model is None:
            near = difflib.get_close_matches(parsed.model[:200], self._terms.catalogue.names, 3)
            hint = (
                f"; did you mean {', '.join(near)}?" if near else "; GET /v1/models lists what is"
            )
            message = f"model {parsed.model[:200]!r} is not served here{hint}"
            return CallerError("model_not_found", message, param="model")
        if not self._terms.catalogue.allows(parsed.model, model, caller):
            message = f"this key may not call {model.name!r}"
            return CallerError("model_not_allowed", message, param="model")
        if call.surface not in model.surfaces and call.surface is not Surface.TOKENIZE:
            message = f"{model.name!r} serves {', '.join(model.surfaces)}, not {call.surface}"
            return CallerError("unsupported_surface", message, param="model")
        certain = parsed.text_bytes // model.token_bytes_max
        if certain + (parsed.max_tokens or 0) > model.context_tokens:
            message = (
                f"the context of {model.name!r} is {model.context_tokens} tokens; this call needs "
                f"more (max_tokens {parsed.max_tokens or 0}, prompt at least {certain})"
            )
            return CallerError("context_length_exceeded", message, param="max_tokens")
        return None

    def _other(self, path: bytes, request: Request, connection: Connection) -> None:
        if path == b"/v1/models" or path.startswith(b"/v1/models/"):
            if request.method != b"GET":
                raise CallerError("method_not_allowed", "use GET on this path")
            terms = self._terms
            caller = terms.identify(_credentials(request.headers))
            name = path.removeprefix(b"/v1/models").strip(b"/").decode("latin-1")
            connection.answer(200, terms.catalogue.render(name, caller))
        elif path.startswith(_LATER):
            names = "chat, completions, responses, messages, embeddings, rerank, score, models"
            message = f"this surface is not served yet; {names} are"
            raise CallerError("unsupported_surface", message)
        else:
            raise CallerError("not_found", "no such path; the API is under /v1")

    def _refuse(self, request: Request, connection: Connection, error: BallastError) -> None:
        self._terms.unparsed.add((error.code,))
        row = errors.TABLE[error.code]
        body = errors.body(error.code, error.message, error.param)
        dialect = DIALECTS.get(request.path.partition(b"?")[0])
        if dialect is not None:
            body = dialect.refusal(row.status, body)
        head = b"www-authenticate: Bearer\r\n" if row.status == 401 else b""
        connection.answer(row.status, body, head)


def _credentials(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Who asks: a bearer's key, or one as Anthropic's clients send it."""
    given = headers.get(b"authorization")
    if given is None and (key := headers.get(b"x-api-key")) is not None:
        return b"Bearer " + key
    return given


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    value = headers.get(name)
    return value.decode("latin-1") if value is not None else ""


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
