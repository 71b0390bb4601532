"""How long an engine takes to become ready, learnt stage by stage. Pure.

Kept per model, GPU and state of the cache: a start is cold when its weights were fetched for it, or
when it is the first since they were; it then also fills the page cache and the compile cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Cache: TypeAlias = Literal["warm", "cold"]
Stage: TypeAlias = Literal["fetch", "start", "load", "compile", "warm_up", "probe"]
STAGES: tuple[Stage, ...] = ("fetch", "start", "load", "compile", "warm_up", "probe")
"""In their order: weights onto the disk; processes, imports and configuration; weights into
memory; torch.compile; profiling, KV cache and graphs; adapters and the smoke probe."""
LAST = 8
"""Starts that count: old ones were on another disk, image or network."""


class Row(msgspec.Struct, frozen=True):
    """One stage of one start."""

    model: str
    gpu: str
    """`2x NVIDIA H200`, or `cpu`; empty for the fetch, which needs none."""
    cache: Cache
    stage: Stage
    seconds: float
    at_ms: int
    """Unix time of its end."""


class Spread(NamedTuple):
    """Seconds, over so many `starts`."""

    median_s: float
    p90_s: float
    starts: int


class Expected(NamedTuple):
    """What a start is expected to take."""

    ready: Spread
    """All stages together; `p90_s` is the sum of the stages' and so errs on the long side;
    `starts` is the smallest of theirs."""
    stages: Mapping[Stage, Spread]


def expected(
    rows: Iterable[Row], model: str, gpu: str | None, cache: Cache, last: int = LAST
) -> Expected | None:
    """Learnt from the last starts; None before the first one.

    `gpu` None takes any. A cache state that was never seen borrows from the other one.
    """
    own = [r for r in rows if r.model == model and (gpu is None or r.gpu in ("", gpu))]
    stages: dict[Stage, Spread] = {}
    for stage in STAGES:
        seen = [r for r in own if r.stage == stage]
        alike = [r for r in seen if r.cache == cache]
        if stage == "fetch" and cache == "warm" and not alike:
            continue  # nothing is fetched then
        chosen = sorted(alike or seen, key=lambda r: r.at_ms)[-last:]
        if chosen:
            stages[stage] = spread([r.seconds for r in chosen])
    if not any(stage != "fetch" for stage in stages):
        return None
    every = stages.values()
    ready = Spread(
        sum(s.median_s for s in every), sum(s.p90_s for s in every), min(s.starts for s in every)
    )
    return Expected(ready, stages)


def upcoming(rows: Sequence[Row], model: str) -> Expected | None:
    """Of the start that comes next: on the GPU of the latest one, with the cache it will find."""
    last = max((r for r in rows if r.model == model and r.gpu), key=lambda r: r.at_ms, default=None)
    if last is None:
        return None
    return expected(rows, model, last.gpu, cache_state(rows, model, last.gpu))


def spread(seconds: Sequence[float]) -> Spread:
    """Median and 90th percentile (nearest rank) of at least one value."""
    ranked = sorted(seconds)
    return Spread(_rank(ranked, 0.5), _rank(ranked, 0.9), len(ranked))


def _rank(ranked: Sequence[float], share: float) -> float:
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def cache_state(rows: Iterable[Row], model: str, gpu: str) -> Cache:
    """The state a start finds that is about to happen."""
    fetched_ms = started_ms = -1
    for row in rows:
        if row.model == model and row.stage == "fetch" and row.cache == "cold":
            fetched_ms = max(fetched_ms, row.at_ms)
        elif row.model == model and row.stage == "load" and row.gpu == gpu:
            started_ms = max(started_ms, row.at_ms)
    return "warm" if started_ms >= 0 and fetched_ms <= started_ms else "cold"
