"""The records of one transaction by the write they need, cut to what a store can hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.records import Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

LOST = str(Outcome.GATEWAY_LOST.value)
"""Supposed by recovery; what a gateway told itself beats it."""
_INT_MAX = (1 << 63) - 1
_USUAL_BITS = 30


class Sorted(NamedTuple):
    """The records of a slice by the write they need."""

    intents: list[EgressIntent]
    whole: list[tuple[AttemptBegin, AttemptEnd]]
    """Begun and ended within the slice: most of the traffic, one write instead of two."""
    begins: list[AttemptBegin]
    started: list[str]
    """Requests without their row so far; one that got it within the slice was never pending."""
    ends: list[AttemptEnd]
    requests: list[RequestEnd]


def sort(records: Sequence[Record]) -> Sorted:
    """One look at each record; a begin may come after its end."""
    begins: dict[tuple[str, int], AttemptBegin] = {}
    ended: list[AttemptEnd] = []
    requests: list[RequestEnd] = []
    intents: list[EgressIntent] = []
    for record in records:
        kind = type(record)
        if kind is AttemptBegin:
            begins[record.request_id, record.attempt] = record  # type: ignore[union-attr, assignment]
        elif kind is AttemptEnd:
            ended.append(record)  # type: ignore[arg-type]
        elif kind is RequestEnd:
            requests.append(record)  # type: ignore[arg-type]
        else:
            intents.append(record)  # type: ignore[arg-type]
    settled = {request.request_id for request in requests}
    started = sorted({request_id for request_id, _ in begins} - settled)
    whole, ends = [], []
    for end in ended:
        begin = None
        if end.outcome != LOST:
            begin = begins.pop((end.request_id, end.attempt), None)
        if begin is None:
            ends.append(end)
        else:
            whole.append((begin, end))
    return Sorted(intents, whole, list(begins.values()), started, ends, requests)


def intents_of(records: Sequence[Record]) -> list[EgressIntent]:
    """The intents, in their order."""
    return [record for record in records if type(record) is EgressIntent]


def storable(usage: Usage) -> Usage:
    """The same usage unless a count fits no column: a target may report any number of tokens, and
    a row that a store refuses would block all."""
    # One look at all four: no bit beyond the usual ones, no sign.
    counts = usage.prompt_tokens | usage.completion_tokens | usage.cached_tokens
    if (counts | usage.reasoning_tokens) >> _USUAL_BITS == 0:
        return usage
    return Usage(
        clamped(usage.prompt_tokens), clamped(usage.completion_tokens),
        clamped(usage.cached_tokens), clamped(usage.reasoning_tokens), usage.is_estimated,
    )  # fmt: skip


def clamped(number: int) -> int:
    """The nearest that a column holds."""
    return number if -_INT_MAX <= number <= _INT_MAX else max(-_INT_MAX, min(number, _INT_MAX))
