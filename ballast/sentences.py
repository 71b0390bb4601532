"""One request in sentences: what was asked, decided, tried and paid. Pure: rows in, text out.

What is not in the tables below is shown as it stands in the row, so that a reason of a newer
gateway is odd to read and never lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ballast.books import amount, amounts, charges
from serving.ledger.base import Attempt
from serving.records import Usage

Told = list[tuple[str, str]]
"""Heading, sentences."""

OUTCOMES = {
    "ok": "was answered",
    "refused": "was refused",
    "full": "was refused, every engine being full",
    "caller_error": "was refused as wrong in itself",
    "upstream_error": "failed: no target could answer it",
    "timeout": "was not answered in time",
    "disconnected": "was left by its client before its end",
    "cut": "broke off after it had begun, and the client was told",
    "internal": "failed by a fault of the gateway",
    "gateway_lost": "was under way when its gateway died; its usage is an estimate",
}
REASONS = {
    "local": "it had room and was predicted to be in time",
    "local:tight": "it had room and would most likely be in time,"
    " and nothing faster could be bought",
    "overflow:predicted_wait": "our engines were predicted to be too late for its deadline",
    "overflow:full": "all engines of ours were full",
    "overflow:no_replica": "no engine of ours could be used at that moment",
    "overflow:retry": "what was tried before it had failed",
    "overflow:pressure": "our engines had been under pressure for a while, and it was among the"
    " calls that are cheap to move",
    "latency:sooner": "it was worth the money to be answered sooner",
    "thinking": "its model cannot be kept from thinking, which is too slow for the class live",
    "rescue": "the answer had broken off elsewhere and went on here, word for word",
    "rescue:inexact": "the answer had broken off at our engine and went on from its text",
    "hedge": "the first token was late elsewhere, so it was asked beside",
    "predicted_wait": "the predicted wait was longer than its deadline",
    "full": "every engine was full and none was expected to be free in time",
    "loading": "the engine was loading and expected too late",
    "residency": "its tenant's residency admits no target of this model",
    "no_target": "no target was left to ask",
}
CODES = {
    "model_not_found": "there is no such model here",
    "model_not_allowed": "its key may not call this model",
    "context_length_exceeded": "prompt and answer cannot fit into the model's context",
    "header_not_allowed": "its key may not send one of its headers",
    "loop_detected": "it had been through this deployment before",
    "journal_full": "there was no room left to record it",
    "queue_full": "the queue was full",
    "queue_timeout": "nothing became free while it was held",
    "draining": "the gateway was stopping",
    "upstream_timeout": "its deadline passed",
    "content_filter": "the provider blocked its content",
    "upstream_refused": "the provider found it wrong",
}
ERRORS = {
    "connect": "no connection to it",
    "timeout": "it did not answer in time",
    "full": "it was full",
    "rate_limit": "it limits our rate",
    "overloaded": "it was overloaded",
    "server_error": "it failed itself",
    "account_dead": "our account there is out of money or closed",
    "key_dead": "it does not accept our key",
    "target_dead": "it no longer has this model",
    "quota_window": "our quota there was used up",
    "content_filter": "it blocked the content",
    "context_too_long": "the prompt was too long for it",
    "bad_request": "it found the request wrong",
    "cut": "it broke off",
    "hedged": "another try beside it answered first",
    "protocol": "what it sent is no answer",
    "gateway_lost": "the gateway died meanwhile",
}
WAYS = {"split": "its side of the split", "rule": "the rule"}
NOT_BOOKED = "not in the ledger yet; ask again in some seconds"


def sentences(line: Mapping[str, Any], attempts: Sequence[Attempt], *, is_booked: bool) -> Told:
    """The story of a request: `line` holds its decision's fields, `attempts` its tries so far."""
    told = [
        ("request", _ending(line)),
        ("asked", _asked(line)),
        ("placed", _placed(line, attempts)),
    ]
    if waited := _waited(line):
        told.append(("waited", waited))
    told += _tries(attempts)
    return [*told, ("cost", _cost(line, attempts, is_booked=is_booked))]


def under_way(request_id: str, attempts: Sequence[Attempt]) -> Told:
    """A request that has begun and not ended."""
    text = f"{request_id} is under way, or its gateway died and has not restarted."
    return [("request", text), *_tries(attempts)]


def _tries(attempts: Sequence[Attempt]) -> Told:
    return [(f"try {a.attempt}", " ".join(_tried(a, len(attempts)))) for a in attempts]


def _ending(line: Mapping[str, Any]) -> str:
    how = OUTCOMES.get(line["outcome"], line["outcome"])
    status = f" (HTTP {line['status']})" if line["status"] else ""
    if line.get("reason") == "replay":
        how = "was answered with the answer of an earlier call that had the same Idempotency-Key"
    return f"{line['request_id']} {how}{status}."


def _asked(line: Mapping[str, Any]) -> str:
    alias = line.get("alias") or line["model"]
    name = alias if alias == line["model"] else f"{alias}, here {line['model']}"
    within = f"project {line['project']}"
    if line.get("feature"):
        within += f", feature {line['feature']}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line["received_ms"] / 1000))
    return (
        f"Key {line['key_id']} of tenant {line['tenant']} ({within}) called "
        f"{line['surface']} with the model {name} at {when} UTC, in class {line['latency_class']}."
    )


def _placed(line: Mapping[str, Any], attempts: Sequence[Attempt]) -> str:
    reason, code = line["reason"], line["code"]
    why = _why(reason)
    if reason == "replay":
        return "It was sent nowhere: nothing was run and nothing billed."
    if not line["attempts"]:
        because = CODES.get(code) or why or code
        return f"It was sent nowhere, because {because} ({_marks(code, reason)})."
    last = attempts[-1] if attempts else None
    text = f"It went to {_target(line['target'], last)}, because {why} ({reason})."
    if line["outcome"] == "refused":
        text = f"After the tries below it was given up: {CODES.get(code) or why}"
        text += f" ({_marks(code, reason)})."
    return text


def _why(reason: str) -> str:
    """A reason in words; one that begins with a rule or a split's side tells that first."""
    way, _, rest = reason.partition("/")
    kind, _, name = way.partition(":")
    if kind not in WAYS:
        return REASONS.get(reason, reason)
    if not rest:
        return f"{WAYS[kind]} {name!r} sends it there"
    return f"{WAYS[kind]} is {name!r}, and {REASONS.get(rest, rest)}"


def _marks(code: str, reason: str) -> str:
    return ", ".join(dict.fromkeys(filter(None, (code, reason))))


def _target(target: str, attempt: Attempt | None) -> str:
    if attempt is not None and attempt.intent is not None:
        intent = attempt.intent
        return f"{target}, an API in {intent.jurisdiction}"
    if attempt is not None and attempt.begin is not None and not attempt.begin.is_egress:
        return f"{target}, an engine of ours"
    return target


def _waited(line: Mapping[str, Any]) -> str:
    parts = []
    if line["queue_ms"]:
        parts.append(f"It was held {_span(line['queue_ms'])} until a target was expected or free.")
    elif line["attempts"]:
        parts.append("It was not held.")
    if line["first_token_ms"] >= 0:
        text = f"The first content came {_span(line['first_token_ms'])} after the call"
        if line.get("predicted_ms"):
            text += f" (predicted for the engine: {_span(line['predicted_ms'])})"
        parts.append(text + ".")
    if line["attempts"]:
        parts.append(f"All was over after {_span(line['total_ms'])}.")
    return " ".join(parts)


def _tried(attempt: Attempt, count: int) -> Iterator[str]:
    begin, end, intent = attempt.begin, attempt.end, attempt.intent
    if begin is not None and count > 1:  # of one alone target and reason have been told already
        why = _why(begin.reason)
        yield f"To {_target(begin.target, attempt)}, because {why} ({begin.reason})."
    if intent is not None:
        yield (
            f"The tenant's residency ({intent.rule}) allows {intent.jurisdiction}; the intent to"
            f" send to {intent.provider} was on the disk before the first byte left."
        )
    if end is None:
        yield "It has not ended."
        return
    how = "It answered" if end.outcome == "ok" else f"It ended as {end.outcome}"
    because = f": {ERRORS.get(end.error, end.error)} ({end.error})" if end.error else ""
    first = f", first content after {_span(end.first_token_ms)}" if end.first_token_ms >= 0 else ""
    yield f"{how}{because}{first}."
    yield f"{_usage(end.usage)}, {_price(attempt)}."


def _usage(usage: Usage) -> str:
    if not (usage.prompt_tokens or usage.completion_tokens):
        return "No tokens"
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    thought = f" ({usage.reasoning_tokens} reasoning)" if usage.reasoning_tokens else ""
    text = f"{usage.prompt_tokens} prompt{cached} + {usage.completion_tokens} completion tokens"
    return text + thought + (", estimated" if usage.is_estimated else "")


def _price(attempt: Attempt) -> str:
    begin, end = attempt.begin, attempt.end
    assert end is not None
    if not end.charge.currency:
        return "no charge" if begin is None or begin.is_egress else "no charge: paid by the hour"
    text = amount(end.charge.currency, end.charge.micro)
    if end.charge.micro and begin is not None:
        text += (
            f" at {amount(begin.currency, begin.input_micro_per_mtok)} per million prompt and"
            f" {amount(begin.currency, begin.output_micro_per_mtok)} per million completion tokens"
        )
    return text


def _cost(line: Mapping[str, Any], attempts: Sequence[Attempt], *, is_booked: bool) -> str:
    tokens = f"{line['prompt_tokens']} + {line['completion_tokens']} tokens"
    if not line["attempts"]:
        return "Nothing."
    if not is_booked:
        return f"{tokens}; the money is {NOT_BOOKED}."
    charged = charges(attempts)
    if not charged and any(a.begin is not None and a.begin.is_egress for a in attempts):
        return f"{tokens}; no charge."
    text = amounts(charged)
    return f"{text[0].upper()}{text[1:]} for {tokens}."


def _span(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"
