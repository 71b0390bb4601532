"""Rows to figures: percentiles, goodput, errors, money, and whether the run may be believed. Pure.

Times count from when a request was due, so that a sender that is late cannot flatter its target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from benchmarks.load.invalid import Why, whys
from benchmarks.load.pace import pace
from benchmarks.load.percentiles import Second, Spread, course, since, spread, spread_of_gaps
from benchmarks.load.seen import Gaps, Seen, Shard
from benchmarks.load.values import Goal, Kind, Price, Scenario
from benchmarks.load.wording import Language

EXAMPLE = 200
OK = 200


class Fault(msgspec.Struct, frozen=True):
    """One kind of failure."""

    kind: str
    count: int
    example: str


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind of requests, or of all."""

    name: str
    sent: int
    good: int
    failed: int
    unfinished: int
    """Under way when the run ended."""
    kept: int
    """Good and within the goal."""
    goodput: float
    """kept / sent: a request that failed kept no goal."""
    kept_per_s: float
    per_s: float
    """Whole answers that ended within the counted time."""
    first_ms: Spread
    """To the first token of any kind."""
    visible_ms: Spread
    """To the first one that the reader sees."""
    gap_ms: Spread
    """Between tokens as they arrive."""
    token_ms: Spread
    """Mean time per token of a request."""
    complete_ms: Spread
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    tokens_per_s: float
    """Of completions, as they came within the counted time."""
    mean_prompt: float
    mean_completion: float
    api_share: float
    """Of the answers whose target is told: by an API. -1 = nothing is told."""
    prompt_off: float
    """Median of what the server counted above what was sent as messages: the chat template. Only
    of first turns."""
    cost: float
    feature: str = ""
    cached_goal: float = 0.0
    """Share of prompt tokens that should come from the cache; 0 = no goal."""

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens of whole answers."""
        return self.cached_tokens / max(1, self.prompt_tokens)


class Machine(msgspec.Struct, frozen=True):
    """The sender itself."""

    processes: int
    cpu_share: float
    """Of one core, the busiest process."""
    late_ms: Spread
    late_max_ms: float
    connections: int
    not_sent: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of a run."""

    seconds: float
    """Counted: without the warm-up and the drain."""
    is_partial: bool
    reasons: list[str]
    """Why the run is invalid; empty = it is valid."""
    whys: list[Why] = []
    """The same by code and numbers; of a run written before this field there are none."""
    total: Figures
    kinds: list[Figures]
    faults: list[Fault]
    machine: Machine
    course: list[Second]
    currency: str = ""

    @property
    def is_valid(self) -> bool:
        """May be believed."""
        return not self.reasons

    def told(self, language: Language) -> list[str]:
        """Why it is invalid, in that language as far as it is known by code."""
        return [why.told(language) for why in self.whys] or self.reasons


def is_kept(seen: Seen, goal: Goal) -> bool:
    """Whether a request was answered within its goal."""
    if not seen.is_good:
        return False
    checks = (
        (
            goal.first_token_ms,
            (seen.visible_s if seen.visible_s >= 0 else seen.done_s) - seen.due_s,
        ),
        (goal.token_ms, seen.token_s),
        (goal.complete_ms, seen.done_s - seen.due_s),
    )
    return all(limit is None or value * 1e3 <= limit for limit, value in checks)


def summary(scenario: Scenario, shards: Sequence[Shard]) -> Summary:
    """Of the processes of a run."""
    rows = sorted((r for s in shards for r in s.rows), key=lambda r: r.due_s)
    stopped = [s.stopped_s for s in shards if s.stopped_s >= 0]
    end_s = min([scenario.duration_s, *stopped])
    counted = [r for r in rows if r.due_s >= scenario.warmup_s]
    seconds = max(1e-3, end_s - scenario.warmup_s)
    gaps = [Gaps().merge(s.gaps[k] for s in shards) for k in range(len(scenario.kinds))]
    every = Gaps().merge(g.counts for g in gaps)
    kinds = [
        _figures(kind, [r for r in rows if r.kind == k], (scenario, seconds, gaps[k]))
        for k, kind in enumerate(scenario.kinds)
    ]
    total = _total(rows, kinds, (scenario, seconds, every))
    machine = _machine(rows, shards)
    found = whys(machine, total.sent, total.good, any(s.ran_dry for s in shards))
    return Summary(
        seconds=round(seconds, 3), is_partial=bool(stopped),
        reasons=[why.told("en") for why in found], whys=found,
        total=total, kinds=kinds, faults=faults(counted), machine=machine,
        course=course(rows, end_s), currency=scenario.price.currency if scenario.price else "",
    )  # fmt: skip


def faults(rows: Sequence[Seen]) -> list[Fault]:
    """Failures by kind, most first."""
    counts = Counter(r.error for r in rows if r.error)
    words = {r.error: r.words for r in reversed(rows) if r.error}
    return [Fault(kind, n, words[kind][:EXAMPLE]) for kind, n in counts.most_common()]


def cost(rows: Sequence[Seen], price: Price | None) -> float:
    """Of what the server says was used, at the price given."""
    if price is None:
        return 0.0
    cached = price.input_per_mtok if price.cached_per_mtok is None else price.cached_per_mtok
    total = 0.0
    for row in rows:
        fresh = max(0, row.prompt_tokens) - row.cached_tokens
        total += fresh * price.input_per_mtok + row.cached_tokens * cached
        total += max(0, row.completion_tokens) * price.output_per_mtok
    return total / 1e6


def _total(
    rows: Sequence[Seen], kinds: Sequence[Figures], how: tuple[Scenario, float, Gaps]
) -> Figures:
    first = how[0].kinds[0]
    whole = _figures(msgspec.structs.replace(first, name="all", feature="", prefix=None), rows, how)
    kept = sum(k.kept for k in kinds)
    return msgspec.structs.replace(
        whole, kept=kept, goodput=kept / max(1, whole.sent), kept_per_s=kept / how[1]
    )


def _figures(kind: Kind, rows: Sequence[Seen], how: tuple[Scenario, float, Gaps]) -> Figures:
    scenario, seconds, gaps = how
    came = pace(rows, scenario.warmup_s, scenario.warmup_s + seconds)
    rows = [r for r in rows if r.due_s >= scenario.warmup_s]
    good = [r for r in rows if r.is_good]
    kept = sum(is_kept(r, kind.goal) for r in good)
    prompt, completion = (sum(max(0, get(r)) for r in good) for get in (_prompt, _completion))
    # A refusal may name the target that was tried last: nothing came from there.
    told = [r.target for r in rows if r.status == OK and r.target and r.target != "none"]
    off = [r.prompt_tokens - r.prompt_planned - r.opened_planned for r in good
           if r.turn == 0 and r.prompt_tokens >= 0]  # fmt: skip
    return Figures(
        name=kind.name, feature=kind.feature, sent=len(rows), good=len(good),
        cached_goal=kind.prefix.cached_share if kind.prefix is not None else 0.0,
        failed=sum(1 for r in rows if r.error and r.error != "unfinished"),
        unfinished=sum(r.error == "unfinished" for r in rows),
        kept=kept, goodput=kept / max(1, len(rows)), kept_per_s=kept / seconds,
        per_s=came.answers,
        first_ms=spread([since(r, r.first_s) for r in good]),
        visible_ms=spread([since(r, r.visible_s) for r in good]),
        gap_ms=spread_of_gaps(gaps), token_ms=spread([r.token_s for r in good]),
        complete_ms=spread([since(r, r.done_s) for r in good]),
        prompt_tokens=prompt, completion_tokens=completion,
        cached_tokens=sum(r.cached_tokens for r in good),
        reasoning_tokens=sum(r.reasoning_tokens for r in good),
        tokens_per_s=came.tokens, mean_prompt=prompt / max(1, len(good)),
        mean_completion=completion / max(1, len(good)),
        api_share=sum(t.startswith("api") for t in told) / len(told) if told else -1.0,
        prompt_off=float(np.median(off)) if off else 0.0, cost=cost(rows, scenario.price),
    )  # fmt: skip


_prompt: Callable[[Seen], int] = lambda row: row.prompt_tokens  # noqa: E731
_completion: Callable[[Seen], int] = lambda row: row.completion_tokens  # noqa: E731


def _machine(rows: Sequence[Seen], shards: Sequence[Shard]) -> Machine:
    late = [max(0.0, r.sent_s - r.due_s) for r in rows]
    return Machine(
        processes=len(shards), cpu_share=max((s.cpu_share for s in shards), default=0.0),
        late_ms=spread(late), late_max_ms=round(max(late, default=0.0) * 1e3, 3),
        connections=sum(s.opened for s in shards), not_sent=sum(s.not_sent for s in shards),
    )  # fmt: skip
