"""What was seen of each request, and of the gaps between its tokens. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from benchmarks.load.answers import Answer

BUCKET = 1.02
"""Ratio of a histogram's neighbours: percentiles are right to 2 %."""
LEAST_S = 1e-5
BUCKETS = 900
"""Up to LEAST_S * 1.02 ** 900: nine minutes."""
_SCALE = 1.0 / math.log(BUCKET)


class Seen(msgspec.Struct, gc=False, array_like=True):
    """One request. Times in seconds since the run's start; -1 = did not happen."""

    conversation: int
    turn: int
    kind: int
    due_s: float
    """When it had to be sent."""
    sent_s: float
    """When sending began."""
    prompt_planned: int
    """Tokens of its own message."""
    opened_planned: int = 0
    """Tokens of the shared document before it."""
    head_s: float = -1.0
    first_s: float = -1.0
    """The first token of any kind."""
    visible_s: float = -1.0
    done_s: float = -1.0
    """The end of the answer, or of waiting for it."""
    last_s: float = -1.0
    gap_s: float = 0.0
    """The longest silence between tokens."""
    events: int = 0
    status: int = 0
    error: str = ""
    """Kind of failure; empty = a whole answer."""
    words: str = ""
    """An example of what the failure said."""
    target: str = ""
    """`own` or `api`, and its name if the key may see it; empty where the server does not say."""
    reason: str = ""
    queue_ms: float = -1.0
    prompt_tokens: int = -1
    cached_tokens: int = 0
    completion_tokens: int = -1
    reasoning_tokens: int = 0
    output_planned: int = 0

    @property
    def is_good(self) -> bool:
        """Answered whole."""
        return not self.error

    @property
    def token_s(self) -> float:
        """Mean time per token after the first; -1 where there is none."""
        tokens = self.completion_tokens if self.completion_tokens > 0 else self.events
        if self.first_s < 0 or tokens < 2 or self.events < 2:
            return -1.0
        return float((self.last_s - self.first_s) / (tokens - 1))


class Gaps:
    """Silences between tokens, counted in buckets 2 % wide: bounded, however long the run."""

    def __init__(self, counts: Sequence[int] = ()) -> None:
        self.counts = list(counts) or [0] * BUCKETS

    def add(self, gap_s: float) -> None:
        """One silence."""
        place = int(math.log(gap_s / LEAST_S) * _SCALE) if gap_s > LEAST_S else 0
        self.counts[min(place, BUCKETS - 1)] += 1

    def merge(self, others: Iterable[Sequence[int]]) -> Gaps:
        """Sums."""
        for counts in others:
            self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        return self

    def quantile_s(self, share: float) -> float:
        """So many of the gaps are no longer; -1 where there are none."""
        total = sum(self.counts)
        if not total:
            return -1.0
        left = share * total
        for place, count in enumerate(self.counts):
            left -= count
            if left <= 1e-9 and count:
                return LEAST_S * math.pow(BUCKET, place + 0.5)
        return LEAST_S * math.pow(BUCKET, BUCKETS)


class Shard(msgspec.Struct):
    """What one process brings home."""

    rows: list[Seen]
    gaps: list[list[int]]
    """By kind."""
    cpu_share: float
    """Of one core, while it sent."""
    opened: int
    """Connections."""
    not_sent: int
    """Requests that were due and not sent, by a bound or by a stop."""
    stopped_s: float = -1.0
    """When it was told to stop early; -1 = it was not."""
    ended_s: float = 0.0
    ran_dry: bool = False
    """A closed loop used all it had before the time was over."""


def heads(seen: Seen, headers: Mapping[bytes, bytes]) -> None:
    """Take over what a Ballast says about its decision."""
    seen.target = headers.get(b"x-ballast-target", b"").decode("latin-1")
    seen.reason = headers.get(b"x-ballast-reason", b"").decode("latin-1")
    queue = headers.get(b"x-ballast-queue-ms", b"")
    seen.queue_ms = float(queue) if queue.isdigit() else -1.0


def answered(seen: Seen, answer: Answer, start_s: float) -> None:
    """Take over what an answer said and when; its clock said `start_s` when the run began."""
    if answer.first_s >= 0:
        seen.first_s, seen.last_s = answer.first_s - start_s, answer.last_s - start_s
    if answer.visible_s >= 0:
        seen.visible_s = answer.visible_s - start_s
    seen.events, seen.gap_s = answer.events, answer.gap_s
    seen.prompt_tokens, seen.cached_tokens = answer.prompt_tokens, answer.cached_tokens
    seen.completion_tokens = answer.completion_tokens
    seen.reasoning_tokens = answer.reasoning_tokens
