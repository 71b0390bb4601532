"""How far one call has come. Mutable, owned by the pipeline, never shared between calls.

Turns what happened into rows and headers; decides nothing and does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving import accounting
from serving.allowances import Lease
from serving.attempt import NO_USAGE, Attempt, outcome_of
from serving.errors import Kind, UpstreamError
from serving.guard.screening import Verdict
from serving.json_found import Kept
from serving.limits.standing import Standing, headers
from serving.placement.assign import part_of
from serving.placement.fitness import weights
from serving.records import (
    Block,
    Burst,
    Call,
    Caller,
    Charge,
    Exposure,
    Outcome,
    Run,
    Sensitivity,
    Ticket,
)
from serving.rows import AttemptEnd, Record, RequestEnd

if TYPE_CHECKING:
    from serving.budgets.funds import Funding
    from serving.cache.keeper import Plan
    from serving.stages import Client
    from serving.tracing.values import Try

_MAY_HAVE_WORKED = frozenset({Kind.TIMEOUT, Kind.CUT})
_NOTHING = Charge()
# Looking a member up on its class costs 0.2 us in Python 3.11.
_NONE, _CLASS = Exposure.NONE, Exposure.CLASS
_OK, _INTERNAL = Outcome.OK, Outcome.INTERNAL
_ORDINARY = Sensitivity.INTERNAL


class Tail(msgspec.Struct, frozen=True):
    """What is sent last, once everything is written down."""

    status: int
    body: bytes
    head: bytes
    is_stream: bool

    def send(self, client: Client) -> None:
        """Send it."""
        if self.is_stream:
            client.end(self.body)
        else:
            client.answer(self.status, self.body, self.head)


class Progress:
    """One call on its way."""

    __slots__ = (
        "attempt", "attempts", "cache", "call", "caller", "code", "fault", "finish", "first_s",
        "funding", "had_turn", "has_committed", "idempotency", "kept", "last_s", "lease",
        "outcome", "queue_s",
        "reason", "refused_by", "rescues", "rows", "saved", "sensitivity", "shadow", "standing",
        "status", "target", "tried", "tries", "usage", "verdict",
    )  # fmt: skip

    def __init__(self, call: Call, caller: Caller, idempotency: str = "") -> None:
        self.call = call
        self.verdict: Verdict | None = None
        """What the guard said of the input; None when nobody reads it."""
        self.caller = caller
        self.idempotency = idempotency
        # Who speaks can be told by the voice.
        self.sensitivity = _ORDINARY if call.sound is None else Sensitivity.PERSONAL
        self.tried: frozenset[str] = frozenset()
        self.attempts = 0
        self.attempt: Attempt | None = None
        self.fault: UpstreamError | None = None
        self.has_committed = False
        self.lease: Lease | None = None
        """Taken from allowances."""
        self.standing: Standing | None = None
        self.funding: Funding | None = None
        """The budgets it touches; None is none."""
        self.had_turn = False
        """Has been in the queue: need not stand in line again."""
        self.queue_s = 0.0
        self.first_s = -1.0
        self.last_s = 0.0
        self.usage = NO_USAGE
        self.reason = ""
        self.target = ""
        self.shadow = ""  # what its route's shadow policy would have done
        self.rescues: list[float] = []
        """Seconds from each break after the commit point to the next block from elsewhere."""
        self.refused_by = ""
        """The provider whose refusal of the content brought the call home."""
        self.outcome: Outcome = _INTERNAL
        self.status = 0
        self.code = ""
        self.cache: Plan | None = None
        self.saved = _NOTHING
        """What the cache did not have computed again."""
        self.tries: tuple[Try, ...] = ()
        """For its trace."""
        self.rows: list[Record] = []
        """Written with the next journal frame."""
        self.finish = ""
        """The answer's last finish reason."""
        self.kept = Kept.where_asked(call)

    def begin(self, ticket: Ticket, placement: Run | Burst, known: int = 0) -> None:
        """An attempt is on record."""
        predicted = placement.estimate.first_token_s.p50 if isinstance(placement, Run) else 0.0
        self.attempts += 1
        self.shadow = placement.shadow
        self.attempt = Attempt(ticket, predicted, known)
        self.reason, self.target = ticket.reason, ticket.target.id
        if not self.has_committed:
            self.finish = ""
            if self.kept is not None:
                self.kept.clear()

    def took(self, block: Block) -> None:
        """A block came."""
        attempt = self.attempt
        assert attempt is not None
        attempt.events += block.events
        if block.usage is not None:
            attempt.usage = block.usage
        if block.finish is not None:
            self.finish = block.finish
        if self.kept is not None:
            self.kept.took(block.data)

    def opened(self, now_s: float) -> None:
        """The first content of a try came."""
        assert self.attempt is not None
        self.attempt.first_s = now_s - self.attempt.ticket.issued_s
        if not self.has_committed:
            self.first_s = now_s - self.call.received_s

    @property
    def is_api(self) -> bool:
        """Whether the latest attempt went to a third party."""
        return self.attempt is not None and self.attempt.is_api

    @property
    def burst_reason(self) -> str:
        """Why the latest attempt, at the end the one that answered, went to a third party; empty
        when it did not."""
        attempt = self.attempt
        return attempt.ticket.reason if attempt is not None and attempt.is_api else ""

    def sent(self) -> None:
        """Bytes go out now."""
        assert self.attempt is not None
        self.attempt.sent = True

    def broke(self, outcome: Outcome) -> None:
        """The attempt ended by no fault of its target."""
        assert self.attempt is not None
        self.attempt.outcome = outcome

    def failed(self, error: UpstreamError) -> None:
        """The attempt failed."""
        assert self.attempt is not None
        self.attempt.outcome = outcome_of(error)
        self.attempt.error = error.kind
        self.attempt.usage = error.usage or self.attempt.usage
        self.attempt.sent = error.sent and error.kind in _MAY_HAVE_WORKED

    def close(self, ended_ms: int) -> AttemptEnd:
        """The attempt's row, queued for the next frame."""
        attempt = self.attempt
        assert attempt is not None
        usage, self.usage = attempt.counted(self.call)
        target, at_ms = attempt.ticket.target, self.call.received_ms
        price = accounting.price_at(target, at_ms, usage.prompt_tokens)
        row = AttemptEnd(
            self.call.request_id, attempt.ticket.attempt, ended_ms, attempt.outcome, attempt.error,
            usage, accounting.charge(price, usage),
            -1 if attempt.first_s < 0 else round(attempt.first_s * 1e3), price.money_kind,
        )  # fmt: skip
        self.rows.append(row)
        attempt.is_open, attempt.cost_micro = False, row.charge.micro
        return row

    def ended(self, outcome: Outcome, status: int, code: str) -> None:
        """How the call ended."""
        self.outcome, self.status, self.code = outcome, status, code

    def request_row(self, ended_ms: int) -> RequestEnd:
        """The request's row."""
        call, caller = self.call, self.caller
        part = part_of(call, caller) if call.route.startswith("split:") else -1
        found = self.kept.verdict() if self.kept is not None and self.outcome is _OK else ""
        return RequestEnd(
            call.request_id, call.received_ms, ended_ms, caller.tenant, caller.project,
            caller.key_id, call.surface, call.model, call.latency_class, self.outcome, self.status,
            self.code, self.reason, self.target, self.attempts, round(self.queue_s * 1e3),
            -1 if self.first_s < 0 else round(self.first_s * 1e3), self.usage,
            self.idempotency if self.outcome is _OK else "", caller.feature, caller.user,
            call.batch, self.saved, call.alias, call.route, part, self.finish, found, call.stream,
        )  # fmt: skip

    def head(self) -> bytes:
        """Header lines that explain the decision, as much as the key may see."""
        call = self.call
        line = f"x-request-id: {call.request_id}\r\n{call.notice}"
        if self.standing is not None:
            line += headers(self.standing)
        exposure = self.caller.policy.exposure
        if exposure is _NONE:
            return line.encode()
        attempt = self.attempt
        where = whose = "none"
        if attempt is not None:
            where, whose = "api" if attempt.is_api else "own", weights(attempt.ticket.target)
        if exposure is _CLASS:
            reason = self.reason.partition(":")[0]
            line += f"x-ballast-target: {where}\r\nx-ballast-reason: {reason}\r\n"
            return f"{line}x-ballast-weights: {whose}\r\n".encode()
        place = f"{where};{self.target}" if attempt is not None else where
        queue_ms = round(self.queue_s * 1e3)
        return (
            f"{line}x-ballast-target: {place}\r\nx-ballast-reason: {self.reason}\r\n"
            f"x-ballast-queue-ms: {queue_ms}\r\nx-ballast-model: {call.model}\r\n"
            f"x-ballast-weights: {whose}\r\n"
        ).encode()
