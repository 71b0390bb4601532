"""Keeps of each call what its trace tells, beside whoever else is told. Stands in the pipeline only
where traces are on: off, no line of this runs."""

from __future__ import annotations

from collections.abc import Callable

from serving.progress import Progress
from serving.rows import AttemptEnd
from serving.stages import Settled
from serving.tracing.spans import is_fault
from serving.tracing.values import Ended, Try

ALIAS_CHARS_MAX = 200


class Traced:
    """See `pipeline.Settled`."""

    def __init__(
        self,
        inner: Settled,
        put: Callable[[Ended], None],
        clock: Callable[[], float],
        *,
        keep_failures: bool,
    ) -> None:
        self._inner = inner
        self._put = put
        self._clock = clock
        self._keeps_failures = keep_failures

    def attempt(self, progress: Progress, row: AttemptEnd) -> None:
        """One attempt ended."""
        self._inner.attempt(progress, row)
        context = progress.call.trace
        if context is None or not (context.is_sampled or self._keeps_failures):
            return
        attempt = progress.attempt
        assert attempt is not None
        ticket, before = attempt.ticket, progress.tries
        waited_s = progress.queue_s - sum(one.waited_s for one in before)
        progress.tries = (*before, Try(
            ticket.attempt, ticket.target, ticket.reason, ticket.issued_s, attempt.first_s,
            self._clock(), waited_s, ticket.predicted_first_s, ticket.is_egress, row.outcome,
            row.error, row.usage, row.charge,
        ))  # fmt: skip

    def request(self, progress: Progress) -> None:
        """One request ended."""
        self._inner.request(progress)
        call, caller, tries = progress.call, progress.caller, progress.tries
        context = call.trace
        if context is None:
            return
        if not (context.is_sampled or (self._keeps_failures and is_fault(progress.outcome))):
            return
        self._put(Ended(
            context, call.request_id, call.received_s, call.received_ms, progress.last_s,
            progress.first_s, progress.queue_s - sum(one.waited_s for one in tries),
            call.surface, call.model, call.alias[:ALIAS_CHARS_MAX], call.stream, call.max_tokens,
            call.n, caller.tenant, caller.project, caller.feature, call.latency_class,
            progress.outcome, progress.status, progress.code, progress.reason, call.batch,
            progress.usage, tries,
        ))  # fmt: skip
