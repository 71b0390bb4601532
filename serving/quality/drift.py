"""Has a target changed? Its latest answers against its first ones. Pure.

Validity and refusals are counts: Fisher's exact test, one-sided, says how likely a change as large
is by chance. Length and agreement are measures without a simple law at temperature 0 (a provider's
answers vary with its batches): there fixed margins decide, and the target's own baseline says how
much it agrees with itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from math import comb
from statistics import mean, median

from serving.quality.values import Drift, Run, Sign

BASELINE_RUNS, RECENT_RUNS = 5, 5
"""Of each prompt."""
CHANCE_MAX = 0.01
STEP_MIN = 0.15
"""A rate must have moved so far too: with many prompts small changes become certain."""
LENGTH_RATIO = 1.5
AGREEMENT_DROP = 0.2
RUNS_MIN = 6
"""Answered, on each side; before that nothing is said."""
_COMPARED_CHARS = 600


def drifts(runs: Sequence[Run]) -> list[Drift]:
    """What has changed of one model at one target, from its runs in order of time."""
    answered = [run for run in runs if run.is_answered]
    before = [run for run in answered if run.is_baseline]
    now = _latest([run for run in answered if not run.is_baseline])
    if min(len(before), len(now)) < RUNS_MIN:
        return []
    found = [*_rates(before, now), *_measures(before, now)]
    head = now[0]
    return [Drift(head.model, head.target, *one) for one in found]


def _latest(runs: Sequence[Run]) -> list[Run]:
    kept: dict[str, list[Run]] = {}
    for run in runs:
        kept.setdefault(run.prompt, []).append(run)
    return [run for some in kept.values() for run in some[-RECENT_RUNS:]]


def _rates(before: Sequence[Run], now: Sequence[Run]) -> Iterator[tuple[Sign, float, float, float]]:
    for sign, was, has in (
        (Sign.VALIDITY, [not r.is_valid for r in before], [not r.is_valid for r in now]),
        (Sign.REFUSALS, [r.is_refused for r in before], [r.is_refused for r in now]),
    ):
        chance = risen(sum(was), len(was), sum(has), len(has))
        first, last = mean(was), mean(has)
        if chance <= CHANCE_MAX and last - first >= STEP_MIN:
            is_share_good = sign is Sign.VALIDITY
            yield sign, *((1 - first, 1 - last) if is_share_good else (first, last)), chance


def risen(was: int, of_was: int, now: int, of_now: int) -> float:
    """Probability of `now` or more among `of_now` if both sides are one population (Fisher)."""
    total, marked = of_was + of_now, was + now
    whole = comb(total, of_now)
    most = min(marked, of_now)
    return sum(comb(marked, k) * comb(total - marked, of_now - k) for k in range(now, most + 1)) / (
        whole
    )


def _measures(
    before: Sequence[Run], now: Sequence[Run]
) -> Iterator[tuple[Sign, float, float, float]]:
    lengths = [(r.tokens or len(r.text)) for r in before], [(r.tokens or len(r.text)) for r in now]
    was, has = median(lengths[0]), median(lengths[1])
    if was > 0 and has > 0 and max(was / has, has / was) >= LENGTH_RATIO:
        yield Sign.LENGTH, float(was), float(has), 0.0
    same, other = _agreements(before, now)
    if same and other and mean(same) - mean(other) >= AGREEMENT_DROP:
        yield Sign.AGREEMENT, mean(same), mean(other), 0.0


def _agreements(before: Sequence[Run], now: Sequence[Run]) -> tuple[list[float], list[float]]:
    """How alike the baseline's answers to one prompt are, and the latest ones to those."""
    same: list[float] = []
    other: list[float] = []
    for prompt in {run.prompt for run in before}:
        firsts = [r.text for r in before if r.prompt == prompt]
        lasts = [r.text for r in now if r.prompt == prompt]
        same += [alike(a, b) for a, b in combinations(firsts, 2)]
        other += [alike(a, b) for a in firsts for b in lasts]
    return same, other


def alike(one: str, other: str) -> float:
    """0 to 1: the share of characters in matching blocks (Ratcliff-Obershelp)."""
    if one == other:
        return 1.0
    pair = one[:_COMPARED_CHARS], other[:_COMPARED_CHARS]
    return SequenceMatcher(None, *pair, autojunk=False).ratio()
