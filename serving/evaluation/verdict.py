"""What an evaluation says, and whether the candidate may go on. Pure.

`verdict(results, thresholds)` is for whoever gates a change: a rollout asks it, so does
`ballast evaluate gate`. Both arms answered the same questions, so they are compared in pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean as average
from statistics import median

import msgspec

from models.worded import Worded
from serving.evaluation import intervals
from serving.evaluation.intervals import Interval
from serving.evaluation.values import ARMS, Answer, Evaluation
from serving.quality import drift

QUESTIONS = Worded("evaluation.questions", "questions")
ANSWERED = Worded("evaluation.answered", "answered")
PASSED = Worded("evaluation.passed", "passed")
GAIN = Worded("evaluation.gain", "gain, lower end")
AGREEMENT = Worded("evaluation.agreement", "agreement")
SLOWER = Worded("evaluation.slower", "times the base's time")
CHECKS = ("refusal", "tool", "json", "schema", "contains", "length")


class Figures(msgspec.Struct, frozen=True):
    """What one arm did."""

    name: str
    answered: Interval | None
    """Share of answers that came."""
    passed: Interval | None
    """Share of questions passed: each of its answers came, with nothing wrong."""
    checks: dict[str, Interval]
    """By check that was made, the share of answers with nothing wrong."""
    tokens: float | None
    """Of an answer, on average."""
    whole_ms: float | None
    """Median until the whole answer was there."""


class Results(msgspec.Struct, frozen=True):
    """An evaluation in figures."""

    questions: int
    arms: tuple[Figures, Figures]
    """Base, candidate."""
    gain: Interval | None
    """Share of questions the candidate passes beyond the base."""
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    """Questions that only the candidate, or only the base passes."""
    agreement: Interval | None
    """How alike both answer, 0..1, on average over questions; None where it was not asked."""


class Thresholds(msgspec.Struct, frozen=True):
    """What the candidate must keep to. None: not asked."""

    questions_min: int = 20
    passed_min: float | None = 0.9
    """Its share of questions passed."""
    drop_max: float | None = 0.1
    """The gain's interval must lie above minus this: not worse, with 95 %."""
    answered_min: float | None = 0.98
    agreement_min: float | None = None
    slower_max: float | None = None
    """Its median time, as a multiple of the base's."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether it may go on; every threshold asked has its line."""

    is_pass: bool
    reasons: tuple[str, ...]


def results(found: Evaluation, *, is_compared: bool = True) -> Results:
    """The figures. To compare texts takes about 20 ms a question: nothing for a gateway's
    process."""
    by_arm = [[one for one in found.answers if one.arm == arm] for arm in range(ARMS)]
    ids = [question.id for question in found.questions]
    passed = [_passed(ids, answers) for answers in by_arm]
    base, candidate = passed
    both = sum(base[one] and candidate[one] for one in ids)
    lost = tuple(one for one in ids if base[one] and not candidate[one])
    gained = tuple(one for one in ids if candidate[one] and not base[one])
    neither = len(ids) - both - len(lost) - len(gained)
    first, second = (
        _figures(arm.name, answers, list(own.values()))
        for arm, answers, own in zip(found.arms, by_arm, passed, strict=True)
    )
    alike = _agreements(*by_arm) if is_compared else ()
    return Results(
        len(ids), (first, second), intervals.paired(both, len(gained), len(lost), neither),
        gained, lost, intervals.mean([(one, 1.0) for one in alike]),
    )  # fmt: skip


def _passed(ids: Sequence[str], answers: Sequence[Answer]) -> dict[str, bool]:
    said: dict[str, list[bool]] = defaultdict(list)
    for one in answers:
        said[one.question].append(one.is_passed)
    return {one: bool(said[one]) and all(said[one]) for one in ids}


def _figures(name: str, answers: Sequence[Answer], passed: Sequence[bool]) -> Figures:
    came = [one for one in answers if one.is_answered]
    checks = {}
    for check in CHECKS:
        made = [not one.faults[check] for one in came if check in one.faults]
        if (share := intervals.wilson(sum(made), len(made))) is not None:
            checks[check] = share
    told = [one.tokens for one in came if one.tokens]
    return Figures(
        name, intervals.wilson(len(came), len(answers)),
        intervals.wilson(sum(passed), len(passed)), checks,
        average(told) if told else None,
        float(median(one.whole_ms for one in came)) if came else None,
    )  # fmt: skip


def _agreements(base: Sequence[Answer], candidate: Sequence[Answer]) -> Iterator[float]:
    """Of each question that both answered, between their first answers."""
    first: dict[str, str] = {}
    for one in base:
        if one.is_answered:
            first.setdefault(one.question, one.text)
    seen: set[str] = set()
    for one in candidate:
        if one.is_answered and one.question in first and one.question not in seen:
            seen.add(one.question)
            yield drift.alike(first[one.question], one.text)


def verdict(found: Results, wanted: Thresholds) -> Verdict:
    """Whether the candidate keeps to the thresholds; what cannot be told does not pass."""
    base, candidate = found.arms
    lines = [_line(QUESTIONS, found.questions, wanted.questions_min, is_least=True)]
    if wanted.answered_min is not None:
        lines.append(_line(ANSWERED, _value(candidate.answered), wanted.answered_min))
    if wanted.passed_min is not None:
        lines.append(_line(PASSED, _value(candidate.passed), wanted.passed_min))
    if wanted.drop_max is not None:
        low = None if found.gain is None else found.gain.low
        lines.append(_line(GAIN, low, -wanted.drop_max))
    if wanted.agreement_min is not None:
        lines.append(_line(AGREEMENT, _value(found.agreement), wanted.agreement_min))
    if wanted.slower_max is not None:
        slower = None
        if base.whole_ms and candidate.whole_ms is not None:
            slower = candidate.whole_ms / base.whole_ms
        lines.append(_line(SLOWER, slower, wanted.slower_max, is_least=False))
    return Verdict(all(is_kept for is_kept, _ in lines), tuple(text for _, text in lines))


def _value(found: Interval | None) -> float | None:
    return None if found is None else found.value


def _line(
    what: str, value: float | None, bound: float, *, is_least: bool = True
) -> tuple[bool, str]:
    least, most = "at least {bound}", "at most {bound}"
    asked = (
        Worded("evaluation.at_least", least, bound=f"{bound:g}") if is_least
        else Worded("evaluation.at_most", most, bound=f"{bound:g}")
    )  # fmt: skip
    if value is None:
        template = "FAILS {what}: not known, asked {asked}"
        return False, Worded("evaluation.not_known", template, what=what, asked=asked)
    shown = f"{value:.4g}"
    if value >= bound if is_least else value <= bound:
        template = "keeps {what}: {value}, asked {asked}"
        return True, Worded("evaluation.keeps", template, what=what, value=shown, asked=asked)
    template = "FAILS {what}: {value}, asked {asked}"
    return False, Worded("evaluation.fails", template, what=what, value=shown, asked=asked)
