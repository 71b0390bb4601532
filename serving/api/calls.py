"""Bodies into Calls, and what is refused whatever the fleet looks like. For requests as they come,
and for the lines of a batch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import NamedTuple
from zlib import crc32

import msgspec
import uuid_utils

from models.tokens import SAMPLE_BYTES, TokenRatio
from serving.api.hints import read as read_hints
from serving.api.models import Catalogue
from serving.codecs import openai
from serving.errors import CallerError
from serving.logs import utc_ms
from serving.placement.assign import assign
from serving.records import Call, Caller, FleetView, LatencyClass, Surface
from serving.settings import Deadlines, Model
from serving.tracing.context import Sampling

SURFACES = {
    b"/v1/chat/completions": Surface.CHAT,
    b"/v1/completions": Surface.COMPLETIONS,
    b"/tokenize": Surface.TOKENIZE,
    b"/v1/embeddings": Surface.EMBEDDINGS,
    b"/v1/rerank": Surface.RERANK,
    b"/v2/rerank": Surface.RERANK,  # Cohere's client, told a base URL without /v1
    b"/rerank": Surface.RERANK,  # as vLLM serves it too; RAGFlow's LocalAI asks there
    b"/v1/score": Surface.SCORE,
    b"/v1/audio/speech": Surface.SPEECH,
    b"/v1/audio/transcriptions": Surface.TRANSCRIPTION,
    b"/v1/audio/translations": Surface.TRANSLATION,
}
HOP_CHARS_MAX = 512
_UNKNOWN_MODEL = "unknown"
_OLD_FORM = (
    "'functions' is the old form, which our engines would pass over in silence: send 'tools' (in"
    " Dify: function calling type 'Tool Call')"
)


class Given(msgspec.Struct, frozen=True):
    """A body that was read, and what came with it."""

    surface: Surface
    parsed: openai.Parsed
    headers: Mapping[bytes, bytes]
    size: int
    """Bytes of the body."""


class Calls(NamedTuple):
    """What it takes to read them; built by the composition root."""

    catalogue: Catalogue
    classes: Mapping[LatencyClass, Deadlines]
    deployment_id: str
    ratios: Mapping[str, TokenRatio]
    clock: Callable[[], float]
    view: Callable[[], FleetView] = FleetView
    sampling: Sampling | None = None
    """None: traces are off."""

    def read(self, given: Given, caller: Caller) -> tuple[Call, CallerError | None]:
        """The call, and why it cannot be served at all; None when it can. Raises CallerError for
        hints that are wrong."""
        model = self.catalogue.find(given.parsed.model)
        call = self._call(given, caller, model)
        if model is not None:
            call = assign(call, caller, self.view(), given.headers, call.received_s)
            if call.model != model.name:
                model = self.catalogue.find(call.model)
        return call, self._fault(call, caller, model, given.parsed)

    def _call(self, given: Given, caller: Caller, model: Model | None) -> Call:
        parsed, headers = given.parsed, given.headers
        now_s = self.clock()
        hints = read_hints(headers, caller, self.classes)
        prompt = parsed.prompt
        sample = prompt[:SAMPLE_BYTES]
        session = hints.session or parsed.cache_key
        name = model.name if model is not None else _UNKNOWN_MODEL
        ratio, request_id, trace = self.ratios.get(name), uuid_utils.uuid7().hex, None
        upper = ratio.upper(sample, parsed.text_bytes) if ratio is not None else 0
        if self.sampling is not None:
            trace = self.sampling.context(request_id, headers, caller)
        return Call(
            request_id, given.surface, caller.tenant, name, parsed.model, parsed.fields,
            now_s, utc_ms(), now_s + min(hints.first_token_s, hints.complete_s),
            now_s + hints.complete_s, hints.latency_class,
            prompt, given.size,
            upper if parsed.counted is None else parsed.counted,
            parsed.max_tokens, parsed.stream, parsed.wants_usage,
            crc32(session.encode() if session else sample, crc32(caller.tenant.encode())),
            session, text(headers, b"x-ballast-hop"), text(headers, b"idempotency-key"),
            hints.residency, parsed.n,
            parsed.model if parsed.model in self.catalogue.adapters else "", hints.pin,
            trace=trace,
            notice=self.catalogue.notices.get(parsed.model, ""),
        )  # fmt: skip

    def _fault(
        self, call: Call, caller: Caller, model: Model | None, parsed: openai.Parsed
    ) -> CallerError | None:
        if len(call.hop) > HOP_CHARS_MAX:
            return CallerError("loop_detected", "this call has been through too many gateways")
        if call.hop and self.deployment_id in map(str.strip, call.hop.split(",")):
            message = "this call has been through this gateway before: break the loop upstream"
            return CallerError("loop_detected", message)
        unknown = self.unknown(parsed.model, caller)
        if model is None or unknown is not None:
            return unknown
        if call.surface not in model.surfaces and call.surface is not Surface.TOKENIZE:
            message = f"{model.name!r} serves {', '.join(model.surfaces)}, not {call.surface}"
            return CallerError("unsupported_surface", message, param="model")
        if _has_functions(parsed.fields) and not self._is_bought(model):
            return CallerError("invalid_value", _OLD_FORM, param="functions")
        certain = parsed.text_bytes // model.token_bytes_max
        if certain + (parsed.max_tokens or 0) > model.context_tokens:
            message = (
                f"the context of {model.name!r} is {model.context_tokens} tokens; this call needs "
                f"more (max_tokens {parsed.max_tokens or 0}, prompt at least {certain})"
            )
            return CallerError("context_length_exceeded", message, param="max_tokens")
        return None

    def _is_bought(self, model: Model) -> bool:
        """Whether third parties alone answer it; some still know what our engines do not."""
        has_engine = model.engine is not None or bool(self.view().replicas.get(model.name))
        return bool(model.offerings) and not has_engine

    def unknown(self, name: str, caller: Caller) -> CallerError | None:
        """Why a caller cannot call a model of this name; None when it can."""
        model = self.catalogue.find(name)
        if model is None:
            near = difflib.get_close_matches(name[:200], self.catalogue.names, 3)
            hint = (
                f"; did you mean {', '.join(near)}?" if near else "; GET /v1/models lists what is"
            )
            message = f"model {name[:200]!r} is not served here{hint}"
            return CallerError("model_not_found", message, param="model")
        if not self.catalogue.allows(name, model, caller):
            message = f"this key may not call {model.name!r}"
            return CallerError("model_not_allowed", message, param="model")
        return None


def _has_functions(fields: Mapping[str, bytes]) -> bool:
    return "functions" in fields and bytes(fields["functions"]).strip() not in (b"null", b"[]")


def text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """A header's value; empty when it is not there."""
    value = headers.get(name)
    return value.decode("latin-1") if value is not None else ""
