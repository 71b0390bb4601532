"""The spans of a finished call, by OpenTelemetry's conventions for HTTP and generative AI. Pure.

    POST                     the request, as its caller saw it               server
      queue                  held before a target was free                   internal
      chat qwen3-8b          each try on a target, with the reason           client
        first token          until the target's first content
        completion           from there to its end

Usage, money and provider stand on the tries, whose sum is the bill; the request says what its
caller was told, under names of ours, so that no sum counts a token twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.records import Offering, Outcome, Surface
from serving.tracing.context import span_id
from serving.tracing.values import Ended, Span, Try

OPERATIONS = {
    Surface.CHAT: "chat",
    Surface.COMPLETIONS: "text_completion",
    Surface.EMBEDDINGS: "embeddings",
}
"""The conventions' names; other surfaces keep their own."""
WELL_KNOWN = {
    "azure": "azure.ai.openai", "bedrock": "aws.bedrock", "gemini": "gcp.gemini",
    "mistral": "mistral_ai", "vertex": "gcp.vertex_ai",
}  # fmt: skip
"""The conventions' names of providers that our rows call otherwise."""
OWN_PROVIDER = "vllm"
_FINE = frozenset({Outcome.OK, Outcome.DISCONNECTED})
"""A caller that leaves is no fault."""
FAULTS = frozenset(
    {Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.CUT, Outcome.INTERNAL, Outcome.GATEWAY_LOST}
)
WAIT_S_MIN = 1e-6
"""Less is what adding up floats leaves."""
Attributes = dict[str, str | bool | int | float]
Hosts = Mapping[str, tuple[str, int]]
"""Host and port of each provider."""


def spans_of(ended: Ended, hosts: Hosts) -> list[Span]:
    """The request first, then what hangs below it."""
    found = [_request(ended)]
    for one in ended.tries:
        if one.waited_s > WAIT_S_MIN:
            found.append(_queue(ended, one.attempt, one.issued_s - one.waited_s, one.issued_s))
        found += _try(ended, one, hosts)
    if ended.waited_s > WAIT_S_MIN:
        number = len(ended.tries) + 1
        found.append(_queue(ended, number, ended.ended_s - ended.waited_s, ended.ended_s))
    return found


def is_fault(outcome: str) -> bool:
    """Whether a request ended so by our or a target's fault."""
    return outcome in FAULTS


def operation(surface: str) -> str:
    """What the conventions call it."""
    return OPERATIONS.get(Surface(surface), surface)


def _ns(ended: Ended, at_s: float) -> int:
    return ended.received_ms * 1_000_000 + round((at_s - ended.received_s) * 1e9)


def _request(ended: Ended) -> Span:
    error = ended.code or ended.outcome
    is_error = ended.status >= 500 or is_fault(ended.outcome)
    told: Attributes = {
        "http.request.method": "POST",
        "http.response.status_code": ended.status,
        "gen_ai.operation.name": operation(ended.surface),
        "gen_ai.request.model": ended.alias,
        "gen_ai.request.stream": ended.is_stream,
        "ballast.request_id": ended.request_id,
        "ballast.model": ended.model,
        "ballast.tenant": ended.tenant,
        "ballast.project": ended.project,
        "ballast.class": ended.latency_class,
        "ballast.outcome": ended.outcome,
        "ballast.reason": ended.reason,
        "ballast.attempts": len(ended.tries),
        "ballast.told.input_tokens": ended.usage.prompt_tokens,
        "ballast.told.output_tokens": ended.usage.completion_tokens,
    }
    for name, value in (
        ("ballast.feature", ended.feature), ("ballast.batch", ended.batch),
        ("ballast.code", ended.code), ("error.type", error if is_error else ""),
    ):  # fmt: skip
        if value:
            told[name] = value
    if ended.first_s >= 0.0:
        told["ballast.first_token_s"] = round(ended.first_s, 6)
    own = span_id(ended.request_id, 0)
    return Span(
        "POST", "server", own, ended.context.parent_id, _ns(ended, ended.received_s),
        _ns(ended, ended.ended_s), told, error if is_error else "",
    )  # fmt: skip


def _queue(ended: Ended, attempt: int, start_s: float, end_s: float) -> Span:
    own, parent = span_id(ended.request_id, attempt, "queue"), span_id(ended.request_id, 0)
    return Span("queue", "internal", own, parent, _ns(ended, start_s), _ns(ended, end_s), {})


def _try(ended: Ended, one: Try, hosts: Hosts) -> list[Span]:
    own = span_id(ended.request_id, one.attempt)
    error = "" if one.outcome in _FINE else one.error or one.outcome
    told = _asked(ended, one, hosts) | _used(ended, one)
    if error:
        told["error.type"] = error
    name = f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}"
    start, end = _ns(ended, one.issued_s), _ns(ended, one.ended_s)
    parent = span_id(ended.request_id, 0)
    found = [Span(name, "client", own, parent, start, end, told, error)]
    if ended.is_stream and one.first_s >= 0.0:
        first = _ns(ended, one.issued_s + one.first_s)
        for part, start_ns, end_ns in (("first token", start, first), ("completion", first, end)):
            its = span_id(ended.request_id, one.attempt, part)
            found.append(Span(part, "internal", its, own, start_ns, max(start_ns, end_ns), {}))
    return found


def _asked(ended: Ended, one: Try, hosts: Hosts) -> Attributes:
    target = one.target
    if isinstance(target, Offering):
        model, tier = target.upstream_model, "api"
        provider = WELL_KNOWN.get(target.provider, target.provider)
        host, port = hosts.get(target.account_id, ("", 0))
    else:
        model, tier, provider = target.model, "own", OWN_PROVIDER
        host, port = target.host, target.port
    told: Attributes = {
        "gen_ai.operation.name": operation(ended.surface),
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": ended.is_stream,
        "ballast.attempt": one.attempt,
        "ballast.target": target.id,
        "ballast.tier": tier,
        "ballast.reason": one.reason,
        "ballast.is_egress": one.is_egress,
        "ballast.jurisdiction": target.label.jurisdiction,
        "ballast.outcome": one.outcome,
    }
    if host:
        told |= {"server.address": host, "server.port": port}
    if ended.max_tokens:
        told["gen_ai.request.max_tokens"] = ended.max_tokens
    if ended.n != 1:
        told["gen_ai.request.choice.count"] = ended.n
    if one.predicted_s > 0.0:
        told["ballast.predicted_first_token_s"] = round(one.predicted_s, 6)
    return told


def _used(ended: Ended, one: Try) -> Attributes:
    usage = one.usage
    told: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "ballast.usage_is_estimated": usage.is_estimated,
    }
    if usage.cached_tokens:
        told["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        told["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if one.charge.currency:
        told |= {"ballast.cost_micro": one.charge.micro, "ballast.currency": one.charge.currency}
    if ended.is_stream and one.first_s >= 0.0:
        told["gen_ai.response.time_to_first_chunk"] = round(one.first_s, 6)
    return told
