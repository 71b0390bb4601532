"""How many questions on shared documents one simulated engine answers in time, with and without its
prefix cache, on its stated time: `python -m benchmarks.prefixes qwen3-32b/fp8@1xh200-141`."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from math import log

from benchmarks.load import values
from models.capacity import Profile
from models.profiles import ProfileError, named
from serving.fakes.blocks import BLOCK_TOKENS
from serving.fakes.prefixes import BLOCK_BYTES, chain
from serving.fakes.scheduler import Scheduler, Sequence

ANSWERS, UNCOUNTED = 600, 100
"""Calls of one rate, and how many of them find an engine that has not filled up."""
SHARE = 0.95
RATES = 1.15
"""A rate tried is so many times the one before."""
RATE_MAX = 1000.0
"""No more is tried: here all calls come within a second, and an engine that serves those is asked
for nothing that takes time."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question."""

    at_s: float
    prompt: int
    output: int
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one rate came to."""

    rate: float
    in_time: float
    cached: float


def calls(kind: values.Kind, rate: float, seed: int) -> list[Call]:
    """Poisson arrivals; each asks about one of the documents, all alike."""
    assert kind.prefix is not None
    lots, now_s, out = random.Random(seed), 0.0, []
    documents = [
        chain(lots.randbytes(kind.prefix.tokens // BLOCK_TOKENS * BLOCK_BYTES))
        for _ in range(kind.prefix.documents)
    ]
    for _ in range(ANSWERS):
        now_s += lots.expovariate(rate)
        question, output = (_length(lots, one) for one in (kind.prompt, kind.output))
        document = lots.choice(documents)
        out.append(Call(now_s, kind.prefix.tokens + question, output, document))
    return out


def _length(lots: random.Random, given: values.Length) -> int:
    drawn = round(lots.lognormvariate(log(given.median), given.spread))
    return max(given.least, min(given.most, drawn))


def served(profile: Profile, kind: values.Kind, asked: Rows[Call], *, remembers: bool) -> Seen:
    """All of them, until the last has answered."""
    engine, turn, now_s = Scheduler(profile), 0, 0.0
    first_s: dict[int, float] = {}
    ended_s: dict[int, float] = {}
    while turn < len(asked) or engine.unfinished:
        while turn < len(asked) and asked[turn].at_s <= now_s:
            names = asked[turn].chain if remembers else None
            engine.add(Sequence(turn, asked[turn].prompt, chain=names))
            turn += 1
        step = engine.plan()
        if step is None:
            now_s = asked[turn].at_s
            continue
        now_s += step.duration_s
        for said in engine.commit(step):
            first_s.setdefault(said.key, now_s)
            if said.generated >= asked[said.key].output:
                engine.remove(said.key)
                ended_s[said.key] = now_s
    good = sum(
        first_s[key] - asked[key].at_s <= (kind.goal.first_token_ms or 1e9) / 1e3
        and (ended_s[key] - first_s[key]) / max(1, asked[key].output - 1)
        <= (kind.goal.token_ms or 1e9) / 1e3
        for key in range(UNCOUNTED, len(asked))
    )
    found = engine.counters
    cached = found.prefix_hits / max(1, found.prefix_queries)
    return Seen(len(asked) / asked[-1].at_s, good / (len(asked) - UNCOUNTED), cached)


def held(profile: Profile, kind: values.Kind, seed: int, *, remembers: bool) -> tuple[float, float]:
    """The highest rate tried of which `SHARE` was in time, and what was cached there; nothing if
    none was."""
    rate, best = 0.25, (0.0, 0.0)
    while rate <= RATE_MAX:
        seen = served(profile, kind, calls(kind, rate, seed), remembers=remembers)
        if seen.in_time < SHARE:
            break
        best, rate = (rate, seen.cached), rate * RATES
    return best


def main(argv: Rows[str] | None = None) -> int:
    """One line for each profile and seed."""
    parser = argparse.ArgumentParser(prog="benchmarks.prefixes", description=__doc__)
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--scenario", default="document-questions")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(argv)
    try:
        kind = values.load(given.scenario).kinds[0]
        profiles = {name: named(name) for name in given.profiles}
    except (values.ScenarioError, ProfileError) as error:
        parser.error(str(error))
    if kind.prefix is None:
        parser.error(f"{given.scenario}: its first kind shares no `prefix`")
    least = kind.prefix.tokens + kind.prompt.most + kind.output.most
    for name, profile in profiles.items():
        if profile.kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS <= least:
            parser.error(f"{name}: {least:,} tokens of one call do not fit in its memory")
    for name, profile in profiles.items():
        for seed in range(given.seeds):
            without, _ = held(profile, kind, seed, remembers=False)
            rate, cached = held(profile, kind, seed, remembers=True)
            print(
                f"{name}, {profile.kv_tokens:,} tokens, seed {seed}: {without:.2f}/s without,"
                f" {rate:.2f}/s with its cache, {cached:.0%} of prompt tokens cached"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
