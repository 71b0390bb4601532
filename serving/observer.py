"""Told of every ended attempt and request: counts, logs and learns. Never decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from models.capacity import Quantiles
from models.tokens import TokenRatio
from serving.admission import Admission, Took
from serving.demand import Demand
from serving.guard.screening import Verdict
from serving.logs import RequestLog
from serving.metrics import Metrics
from serving.placement.tally import Tally
from serving.progress import Progress
from serving.records import Offering, Outcome, Surface
from serving.rows import AttemptEnd
from serving.slo import kept
from serving.tries import CONTENT_FILTER

LEARN_EACH = 8
"""One in so many counts is learnt from: enough for an average, and cheap."""
_REFUSED = (Outcome.REFUSED, Outcome.FULL)
_CHAT, _OK = Surface.CHAT, Outcome.OK
_FIRST, _WHOLE = "first_token", "request"


def _nobody() -> None:
    """Who is told where nobody asked."""


class Line(msgspec.Struct, frozen=True):
    """The decision and how it ended, as logged. Ids and numbers only."""

    event: str
    at_ms: int
    request_id: str
    tenant: str
    project: str
    feature: str
    key_id: str
    surface: str
    model: str
    alias: str
    latency_class: str
    outcome: str
    status: int
    code: str
    target: str
    reason: str
    attempts: int
    tried: tuple[str, ...]
    queue_ms: int
    predicted_ms: int
    first_token_ms: int
    total_ms: int
    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    shadow: str = ""
    """What the shadow policy of its name would have done."""


class _Series:
    """The label tuples of one model and tier, made once."""

    __slots__ = ("cached", "completion", "key", "prompt")

    def __init__(self, model: str, tier: str) -> None:
        self.key = (model, tier)
        self.prompt = (model, tier, "prompt")
        self.cached = (model, tier, "cached")
        self.completion = (model, tier, "completion")


class Observer:
    """See `pipeline.Settled`."""

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        ratios: Mapping[str, TokenRatio],
        demand: Demand,
        admission: Admission,
    ) -> None:
        self._metrics = metrics
        self._admission = admission
        self.demand = demand
        self._log = log
        self._ratios = ratios
        self._series = {
            (m, is_api): _Series(m, "api" if is_api else "own")
            for m in ratios
            for is_api in (True, False)
        }
        self._turn = 0
        self.refusals: dict[str, Callable[[], None]] = {}
        """By request: who is told at once that a third party refused its content."""
        self.tally: Tally | None = None
        """What ceilings count; None where there are none."""

    def attempt(self, progress: Progress, row: AttemptEnd) -> None:
        """One attempt ended."""
        metrics, attempt, model = self._metrics, progress.attempt, progress.call.model
        assert attempt is not None
        ticket = attempt.ticket
        series = self._series[model, attempt.is_api]
        key, usage = series.key, row.usage
        metrics.attempts.add((*key, row.outcome))
        if progress.call.batch and row.error == CONTENT_FILTER and attempt.is_api:
            self.refusals.get(row.request_id, _nobody)()
        if attempt.first_s >= 0.0 and progress.call.stream:
            metrics.first_token.observe(key, attempt.first_s)
            known = ticket.estimate
            if known is not None:
                metrics.predicted.observe(key, known.first_token_s.p50)
                self._compare(series, _FIRST, known.first_token_s, attempt.first_s)
        metrics.tokens.add(series.prompt, usage.prompt_tokens)
        metrics.tokens.add(series.completion, usage.completion_tokens)
        if usage.cached_tokens:
            metrics.tokens.add(series.cached, usage.cached_tokens)
        # A tenant's own account is no part of what ceilings bound, nor of the mean they expect.
        is_theirs = isinstance(ticket.target, Offering) and ticket.target.owner != ""
        if self.tally is not None and not is_theirs:
            micro = None
            if isinstance(ticket.target, Offering):
                micro = round(row.charge.micro * ticket.target.exchange)
            tokens = usage.prompt_tokens + usage.completion_tokens
            self.tally.ended(model, tokens, micro, row.ended_ms)
        if isinstance(ticket.target, Offering):
            labels = (model, ticket.target.provider, row.charge.currency)
            if not is_theirs:
                metrics.money.add(labels, row.charge.micro)
        else:
            is_filler = progress.call.batch and progress.call.pin  # filled what was idle
            if not is_filler and not progress.caller.policy.is_load_test:
                self.demand.served(model, usage)
            if usage.prompt_tokens and not (usage.is_estimated or attempt.known):
                self._learn(progress, usage.prompt_tokens)

    def _compare(self, series: _Series, what: str, said: Quantiles, seen_s: float) -> None:
        """How true a prediction was."""
        metrics = self._metrics
        ratio = metrics.first_ratio if what is _FIRST else metrics.whole_ratio
        if said.p50 > 0.0:
            ratio.observe(series.key, seen_s / said.p50)
        if seen_s > said.p90:
            metrics.beyond.add((*series.key, what))

    def _learn(self, progress: Progress, tokens: int) -> None:
        self._turn = (self._turn + 1) % LEARN_EACH
        if self._turn == 0 and progress.call.surface is _CHAT:
            prompt = progress.call.prompt
            if prompt.find(b"data:") >= 0:
                return  # a picture's bytes say nothing about text
            self._ratios[progress.call.model].learn(prompt, len(prompt), tokens)

    def request(self, progress: Progress) -> None:
        """One request ended."""
        metrics, call = self._metrics, progress.call
        model, surface = call.model, call.surface
        metrics.requests.add((model, surface, call.latency_class, progress.outcome))
        result = kept(progress)
        if result is not None:
            metrics.slo.add((model, call.latency_class, result))
        reason = progress.burst_reason
        if reason and (not call.pin or call.batch):
            metrics.overflow.add((model, reason))
        if progress.outcome in _REFUSED:
            metrics.refused.add((model, progress.code))
        if progress.rescues:
            metrics.rescues.add((model, progress.outcome), len(progress.rescues))
            for gap_s in progress.rescues:
                metrics.rescue_s.observe((model,), gap_s)
        if progress.refused_by:
            metrics.homecomings.add((model, progress.refused_by, progress.outcome))
        self.demand.request(progress)
        if progress.verdict is not None:
            self._found(progress.verdict)
        if progress.queue_s:
            metrics.queue_wait.observe((model,), progress.queue_s)
        attempt = progress.attempt
        total_s = progress.last_s - call.received_s
        if attempt is not None:
            series = self._series[model, attempt.is_api]
            metrics.whole.observe(series.key, total_s)
            tokens = progress.usage.completion_tokens
            if progress.outcome is _OK:
                took = Took(attempt.first_s, progress.last_s - attempt.ticket.issued_s)
                self._admission.settled(attempt.ticket, call, progress.usage, took)
                known = attempt.ticket.estimate
                if known is not None and tokens and not progress.usage.is_estimated:
                    self._compare(series, _WHOLE, known.complete_s, took.whole_s)
            if call.stream and tokens > 1 and progress.first_s >= 0.0:
                metrics.inter_token.observe(series.key, (total_s - progress.first_s) / (tokens - 1))
        self._log.write(self._line(progress, total_s))

    def _found(self, verdict: Verdict) -> None:
        """What the guard found, by stage; kinds are the operator's categories and our own."""
        counter = self._metrics.findings
        for finding, count in verdict.findings.items():
            counter.add(("input", finding.kind, finding.action.name.lower()), count)
        for findings in verdict.answers:
            for finding, count in findings.items():
                counter.add(("answer", finding.kind, finding.action.name.lower()), count)

    def _line(self, progress: Progress, total_s: float) -> Line:
        call, caller, attempt = progress.call, progress.caller, progress.attempt
        first_s, usage = progress.first_s, progress.usage
        return Line(
            "request", call.received_ms, call.request_id, caller.tenant, caller.project,
            caller.feature, caller.key_id, call.surface, call.model, call.alias[:200],
            call.latency_class,
            progress.outcome, progress.status, progress.code, progress.target, progress.reason,
            progress.attempts, tuple(progress.tried), round(progress.queue_s * 1e3),
            round(attempt.predicted_s * 1e3) if attempt is not None else 0,
            round(first_s * 1e3) if first_s >= 0.0 else -1, round(total_s * 1e3),
            usage.prompt_tokens, usage.completion_tokens, usage.is_estimated, progress.shadow,
        )  # fmt: skip
