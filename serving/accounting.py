"""Money and rows from usage. Pure integer arithmetic; one rounding per attempt, half up."""

from __future__ import annotations

from models.tokens import UPPER
from serving.records import (
    Call,
    Caller,
    Charge,
    Offering,
    Outcome,
    Price,
    Surface,
    Target,
    Ticket,
    Usage,
)
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd
from serving.rules import effective_residency

_MTOK = 1_000_000
FREE = Price("", 0, 0, 0, "own GPU: the hour is paid, not the token", "")


def price_of(ticket: Ticket) -> Price:
    """The most the target charges; an owned GPU is paid by the hour, so its tokens are free."""
    target = ticket.target
    return target.price if isinstance(target, Offering) else FREE


def price_at(target: Target, at_ms: int, prompt_tokens: int) -> Price:
    """What the target charges for a prompt of that size at that time (UTC)."""
    if not isinstance(target, Offering):
        return FREE
    for rate in target.rates:
        if rate.when.holds(at_ms // 60_000, prompt_tokens):
            return rate.price
    return target.price


def billed(target: Target, prompt_tokens: int) -> int:
    """Prompt tokens that a target bills for so many. Whoever bills sound by time bills whole
    seconds and has a least; what is reserved, booked and compared is that."""
    hears = target.hearing if isinstance(target, Offering) else None
    if hears is None or hears.by != "time":
        return prompt_tokens
    return hears.billed(prompt_tokens)


def charge(price: Price, usage: Usage) -> Charge:
    """Money for `usage` at `price`, in micro-units, rounded half up once."""
    if not price.currency:
        return _NOTHING
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    total = (
        fresh * price.input_micro_per_mtok
        + usage.cached_tokens * price.cached_micro_per_mtok
        + usage.completion_tokens * price.output_micro_per_mtok
    )
    return Charge(price.currency, (total + _MTOK // 2) // _MTOK)


_NOTHING = Charge()


def estimated(prompt_tokens: int, events: int, surface: str = "") -> Usage:
    """Usage of an attempt whose target never told: a token an event, and of the prompt the mean,
    not the upper bound that limits use. Characters to be said aloud were counted, not guessed."""
    if surface == Surface.SPEECH:
        return Usage(prompt_tokens, 0, is_estimated=True)
    if surface in (Surface.TRANSCRIPTION, Surface.TRANSLATION):
        return Usage(prompt_tokens, events, is_estimated=True)  # measured, not guessed
    return Usage(int(prompt_tokens / UPPER), events, is_estimated=True)


def intent(
    call: Call, caller: Caller, ticket: Ticket, at_ms: int, sensitivity: int
) -> EgressIntent:
    """The record without which nothing leaves the premises."""
    target = ticket.target
    residency = effective_residency(call, caller)
    names = ",".join(sorted(residency.jurisdictions))
    rule = f"{residency.level.name.lower()}:{names}" if names else residency.level.name.lower()
    provider, model = target.label.operator, call.model
    if isinstance(target, Offering):
        provider, model = target.provider, target.upstream_model
    return EgressIntent(
        call.request_id, ticket.attempt, at_ms, caller.tenant, sensitivity, rule,
        target.label.jurisdiction, provider, model,
    )  # fmt: skip


def begin(call: Call, caller: Caller, ticket: Ticket, at_ms: int) -> AttemptBegin:
    """What replay needs to settle the attempt should this process die."""
    price = price_of(ticket)
    return AttemptBegin(
        call.request_id, ticket.attempt, at_ms, call.received_ms, caller.tenant, caller.project,
        caller.key_id, call.surface, call.model, call.latency_class, ticket.target.id,
        ticket.is_egress, ticket.reason, billed(ticket.target, ticket.prompt_tokens),
        ticket.completion_tokens,
        price.currency,
        price.input_micro_per_mtok, price.output_micro_per_mtok, caller.feature, caller.user,
        price.cached_micro_per_mtok, price.source, price.as_of, price.money_kind, call.batch,
        call.route, call.stream,
    )  # fmt: skip


def lost(row: AttemptBegin, ended_ms: int) -> tuple[AttemptEnd, RequestEnd]:
    """The rows of an attempt that was under way when its gateway died."""
    usage = estimated(row.prompt_tokens, row.completion_tokens, row.surface)
    cached = row.cached_micro_per_mtok
    price = Price(
        row.currency, row.input_micro_per_mtok, row.output_micro_per_mtok,
        row.input_micro_per_mtok if cached is None else cached, row.price_source, row.price_as_of,
    )  # fmt: skip
    outcome = Outcome.GATEWAY_LOST
    attempt = AttemptEnd(
        row.request_id, row.attempt, ended_ms, outcome, "gateway_lost", usage,
        charge(price, usage), -1, row.paid_by,
    )  # fmt: skip
    request = RequestEnd(
        row.request_id, row.received_ms, ended_ms, row.tenant, row.project, row.key_id,
        row.surface, row.model, row.latency_class, outcome, 0, "gateway_lost", row.reason,
        row.target, row.attempt, 0, -1, usage, "", row.feature, row.user,
        row.batch, route=row.route, is_stream=row.is_stream,
    )  # fmt: skip
    return attempt, request
