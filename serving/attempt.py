"""The try under way, and what it used. Mutable, one per try; does no I/O."""

from __future__ import annotations

import msgspec

from serving import accounting
from serving.errors import TABLE, BallastError, CallerError, Kind, UpstreamError
from serving.records import Call, Offering, Outcome, Surface, Ticket, Usage

NO_USAGE = Usage()
# Looking a member up on its class costs 0.2 us in Python 3.11.
_DISCONNECTED, _TOKENIZE = Outcome.DISCONNECTED, Surface.TOKENIZE


class Attempt:
    """The try under way."""

    __slots__ = (
        "cost_micro", "error", "events", "first_s", "is_api", "is_open", "known", "outcome",
        "predicted_s", "sent", "tells_whole", "ticket", "usage",
    )  # fmt: skip

    def __init__(self, ticket: Ticket, predicted_s: float, known: int = 0) -> None:
        self.ticket = ticket
        self.is_api = isinstance(ticket.target, Offering)
        """It went to a third party."""
        self.known = known
        """Tokens of the answer that another target had made."""
        self.tells_whole = True
        """Its target counts what was known to it as answer; a third party counts it as prompt."""
        self.cost_micro = 0
        """Once it is closed."""
        self.is_open = True
        """Not yet judged and closed."""
        self.predicted_s = predicted_s
        self.events = 0
        self.usage: Usage | None = None
        self.first_s = -1.0
        """Ticket to first content, seconds; -1 when none came."""
        self.outcome: Outcome = _DISCONNECTED
        self.error = ""
        self.sent = False
        """The target may have worked for us."""

    def counted(self, call: Call) -> tuple[Usage, Usage]:
        """What this try used, and what the answer has used so far: of a try that went on with an
        answer the target tells the answer's usage, and did less and read more itself."""
        whole = self.usage
        if whole is None:
            if not (self.events or self.sent) or call.surface is _TOKENIZE:
                return NO_USAGE, NO_USAGE
            # The first event is the role's, the last ones carry no text: close enough, flagged.
            ticket = self.ticket
            prompt_tokens = accounting.billed(ticket.target, ticket.prompt_tokens) - self.known
            events = self._guessed(call) + self.known
            whole = accounting.estimated(prompt_tokens, events, call.surface)
        elif not self.tells_whole:
            return whole, _moved(whole, -self.known)
        return _moved(whole, self.known), whole

    def _guessed(self, call: Call) -> int:
        """Completion tokens of an answer cut short: what came, or, of a plain answer that a third
        party was paid for, what was expected."""
        is_paid_blind = not call.stream and self.is_api
        return self.ticket.completion_tokens if is_paid_blind else self.events


def _moved(usage: Usage, tokens: int) -> Usage:
    """Usage with so many tokens of the completion counted as prompt."""
    if not tokens:
        return usage
    return msgspec.structs.replace(
        usage,
        prompt_tokens=max(0, usage.prompt_tokens + tokens),
        completion_tokens=max(0, usage.completion_tokens - tokens),
    )


def outcome_of(error: BallastError) -> Outcome:
    """The outcome label of a failure."""
    if isinstance(error, UpstreamError):
        if error.kind is Kind.FULL:
            return Outcome.FULL
        if error.kind is Kind.TIMEOUT:
            return Outcome.TIMEOUT
        return Outcome.CALLER_ERROR if TABLE[error.code].status == 400 else Outcome.UPSTREAM_ERROR
    if isinstance(error, CallerError):
        return Outcome.CALLER_ERROR
    if error.code == "upstream_timeout":
        return Outcome.TIMEOUT
    return Outcome.INTERNAL if error.code == "internal_error" else Outcome.REFUSED
