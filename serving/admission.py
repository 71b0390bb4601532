"""Tickets: leave to make one attempt. The one place that counts what is under way.

Issued and released exactly once each; everything the live `TargetState` knows is written here.
Pure but for those counters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from models.api_pace import ApiPace
from models.capacity import SCALE_MAX, SCALE_MIN, Load
from models.pace import Pace
from serving.breaker import Breaker
from serving.choice import EXPECTED_TOKENS, owed_now, predict_api, scale_now
from serving.errors import Kind
from serving.lengths import Lengths
from serving.placement.margin import Margins
from serving.records import Burst, Call, Offering, Replica, Run, Surface, TargetState, Ticket, Usage

_TOKENIZE = Surface.TOKENIZE  # looking a member up on its class costs 0.2 us in Python 3.11
FULL_S = 0.25
"""A target that said it is full is asked again after this, unless it named a time itself."""
LENGTH_CHANGE = 0.02
"""A mean length that moved by less is not told to predictions."""
SCALE_WEIGHT = 0.05
"""Of one observation in `TargetState.scale`: it follows a change within some twenty answers."""


class Took(NamedTuple):
    """Seconds of an answer since its ticket was issued."""

    first_s: float
    """To first content; negative when none came."""
    whole_s: float


class Admission:
    """Issues and releases tickets for one process."""

    def __init__(self, margins: Margins | None = None) -> None:
        self._state: dict[str, TargetState] = {}
        self._breakers: dict[str, Breaker] = {}
        self._running: dict[str, int] = {}
        self.lengths = Lengths()
        """Of answers, as they are seen to be."""
        self.margins = Margins() if margins is None else margins
        """Learnt from first tokens; read by routing."""
        self.issued = 0
        self.released = 0

    @property
    def state(self) -> Mapping[str, TargetState]:
        """Live state by target id, read-only for everybody else."""
        return self._state

    def know(self, target_id: str) -> TargetState:
        """The state of a target, made at first sight."""
        state = self._state.get(target_id)
        if state is None:
            state = self._state[target_id] = TargetState()
            state.lengths = self.lengths
            self._breakers[target_id] = Breaker(state)
        return state

    def forget(self, keep: set[str]) -> None:
        """Drop idle targets that left the fleet."""
        for target_id in [t for t, s in self._state.items() if t not in keep and not s.unfinished]:
            del self._state[target_id], self._breakers[target_id]

    def running(self, model: str) -> int:
        """Tickets out for a model."""
        return self._running.get(model, 0)

    def issue(self, call: Call, placement: Run | Burst, attempt: int, now_s: float) -> Ticket:
        """A ticket for one attempt; the caller owes a `release` or a `revoke`."""
        target = placement.target
        state = self.know(target.id)
        expected = call.max_tokens
        if expected is None:
            expected = round(self.lengths.usual(call.model)) or EXPECTED_TOKENS
        if isinstance(placement, Run):
            profile, estimate = state.profile or placement.target.profile, placement.estimate
            if expected > profile.mean_output_tokens:
                expected = profile.mean_output_tokens
            total = state.load.queued_prefill_tokens + state.since_tokens
            state.computed = total - owed_now(state, profile, now_s)
            state.computed_at_s = now_s
        else:
            estimate = predict_api(call, placement.target, state, now_s)
        state.unfinished += 1
        state.since_calls += 1
        state.since_tokens += call.prompt_tokens
        self._running[call.model] = self._running.get(call.model, 0) + 1
        self.issued += 1
        ticket = Ticket(
            call.request_id, attempt, target, placement.reason, now_s, call.prompt_tokens,
            expected, estimate.first_token_s.p50, not target.label.on_premises, estimate,
        )  # fmt: skip
        if state.open_until_s:
            self._breakers[target.id].sent(ticket)
        return ticket

    def release(self, ticket: Ticket, call: Call) -> None:
        """Give a ticket back."""
        state = self._state[ticket.target.id]
        state.unfinished -= 1
        state.ended_calls += 1
        assert state.unfinished >= 0, "ticket released twice"
        self._running[call.model] -= 1
        if not self._running[call.model]:
            del self._running[call.model]
        self.released += 1

    def revoke(self, ticket: Ticket, call: Call) -> None:
        """Take back a ticket whose begin could not be written: it was never used."""
        state = self._state[ticket.target.id]
        state.since_calls = max(0, state.since_calls - 1)
        state.since_tokens = max(0, state.since_tokens - ticket.prompt_tokens)
        self.undecided(ticket, ticket.issued_s)
        self.release(ticket, call)
        state.ended_calls -= 1
        self.released -= 1
        self.issued -= 1

    def reported(self, target_id: str, load: Load, now_s: float, unseen_tokens: int = 0) -> None:
        """A target told its load: our sends since the last report are in it now, but for the
        prompt of a stream whose head the report came on. That head leaves before the engine takes
        the call in."""
        state = self.know(target_id)
        state.load, state.load_at_s = load, now_s
        state.since_calls, state.since_tokens = int(unseen_tokens > 0), unseen_tokens
        state.computed, state.computed_at_s, state.ended_calls = 0.0, now_s, 0

    def opened(
        self, ticket: Ticket, now_s: float, *, is_stream: bool, call: Call | None = None
    ) -> None:
        """First content came. A plain answer comes whole, so it teaches no time to first token."""
        target = ticket.target
        state = self._state[target.id]
        if is_stream:
            seen_s, known = now_s - ticket.issued_s, ticket.estimate
            if isinstance(target, Offering):
                if state.api is None:
                    state.api = ApiPace(target.first_token_s)
                state.api.opened(ticket.prompt_tokens, seen_s, now_s)
            elif known is not None and known.guess is not None:
                if state.pace is None:
                    state.pace = Pace()
                scale = scale_now(state, now_s)
                off = state.pace.opened(known.guess, seen_s, scale)
                scale *= math.exp(SCALE_WEIGHT * off)
                state.scale = min(max(scale, SCALE_MIN), SCALE_MAX)
                state.scale_at_s = now_s
                if call is not None:
                    left_s = call.first_token_by_s - ticket.issued_s
                    key = call.model, call.latency_class
                    self.margins.seen(key, known.first_token_s, left_s, seen_s, now_s)
        self._breakers[target.id].succeeded(ticket, now_s)

    def settled(self, ticket: Ticket, call: Call, usage: Usage, took: Took) -> None:
        """An answer came to its end: what it took and how long it was teaches the next."""
        tokens = usage.completion_tokens
        if usage.is_estimated or tokens <= 0 or call.surface is _TOKENIZE:
            return
        self.lengths.learn(call, tokens, max(0, usage.prompt_tokens - usage.cached_tokens))
        target = ticket.target
        state = self._state.get(target.id)
        if state is None:
            return
        if isinstance(target, Offering):
            if state.api is not None and call.stream:
                state.api.ended(tokens, took.first_s, took.whole_s)
            return
        known = ticket.estimate
        if state.pace is not None and known is not None and known.guess is not None:
            first_s = took.first_s if call.stream else 0.0
            state.pace.ended(known.guess, tokens, first_s, took.whole_s)
        self._profile(state, target, call.model)

    def _profile(self, state: TargetState, target: Replica, model: str) -> None:
        """Tell predictions the model's mean lengths, when they have moved."""
        output, prompt = round(self.lengths.usual(model)), round(self.lengths.usual_prompt(model))
        known = state.profile or target.profile
        if output and (
            abs(output - known.mean_output_tokens) > LENGTH_CHANGE * known.mean_output_tokens
            or abs(prompt - known.mean_prompt_tokens) > LENGTH_CHANGE * known.mean_prompt_tokens
        ):
            state.profile = replace(known, mean_output_tokens=output, mean_prompt_tokens=prompt)

    def failed(self, ticket: Ticket, kind: Kind, retry_after_s: float | None, now_s: float) -> None:
        """The attempt failed by the target's fault or refusal."""
        state = self._state[ticket.target.id]
        if kind is Kind.FULL:
            state.full_until_s = now_s + min(retry_after_s or FULL_S, 5.0)
            self._breakers[ticket.target.id].neither(ticket, now_s)
        else:
            self._breakers[ticket.target.id].failed(ticket, kind, now_s, retry_after_s)

    def shut(self, target_id: str, until_s: float) -> None:
        """Keep calls from a target until then, for a reason its own breaker cannot know."""
        self.know(target_id)
        self._breakers[target_id].shut(until_s)

    def is_shut(self, target_id: str, now_s: float) -> bool:
        """Whether a target passes for absent; one that was never asked does not."""
        breaker = self._breakers.get(target_id)
        return breaker is not None and breaker.is_shut(now_s)

    def undecided(self, ticket: Ticket, now_s: float) -> None:
        """The attempt ended without telling anything about the target."""
        self._breakers[ticket.target.id].neither(ticket, now_s)


class RetryBudget:
    """Retries as a share of calls over about a minute; ends retry storms."""

    def __init__(self, ratio: float, minimum: int) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self._calls = 0
        self._retries = 0
        self._since_s = 0.0

    def called(self, now_s: float) -> None:
        """Count a call."""
        if now_s - self._since_s > 60.0:
            self._calls //= 2
            # The minimum is granted anew each minute; what went beyond it fades with the calls.
            self._retries = max(0, self._retries - self._minimum) // 2
            self._since_s = now_s
        self._calls += 1

    def take(self) -> bool:
        """Spend one retry; False when the budget is used up."""
        if self._retries >= self._minimum + self._ratio * self._calls:
            return False
        self._retries += 1
        return True
