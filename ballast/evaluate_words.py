"""An evaluation for people at a terminal: figures, questions in which the arms differ, votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from rich.text import Text

from ballast import books
from ballast.admin_words import table, when
from ballast.messages import Said, named, say
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from ballast.web import by_code
from serving.evaluation import verdict, votes
from serving.evaluation.intervals import Interval
from serving.evaluation.values import Evaluation
from serving.evaluation.verdict import CHECKS, Figures, Results

WHYS_MAX = 3


class More(NamedTuple):
    """What the database has beside the answers."""

    votes: votes.Tally
    paid: tuple[dict[str, int], dict[str, int]]
    """By arm and currency, micro-units."""


def tell(found: Evaluation, *, as_json: bool, more: More | None = None) -> None:
    """Print it."""
    figures = verdict.results(found)
    if as_json:
        body = {"id": found.id, "name": found.name, "created_ms": found.created_ms}
        told = {} if more is None else msgspec.to_builtins(more._asdict())
        print_json(body | {"results": msgspec.to_builtins(figures)} | told)
        return
    show(
        Text(
            say(
                "evaluate.title",
                id=found.id,
                name=found.name,
                questions=figures.questions,
                repeats=found.repeats,
                created_ms=when(found.created_ms),
            )
        )
    )
    table(("", *(one.name for one in figures.arms)), _rows(figures))
    for number, one in enumerate(figures.arms):
        for why, count in _silences(found, number):
            show(Text(say("evaluate.silent", name=one.name, count=count, why=silence(why))))
    show(say("evaluate.gain", gain=_span(figures.gain), agreement=_span(figures.agreement)))
    for key, ids in (("evaluate.gained", figures.gained), ("evaluate.lost", figures.lost)):
        names = ", ".join(ids[:20]) or say("admin.none")
        show(Text(f"{say(key)}{names}{' ...' if len(ids) > 20 else ''}"))
    if more is None:
        return
    money = [books.amounts(one) if one else say("evaluate.nothing") for one in more.paid]
    show(Text(say("evaluate.paid", money=money[0], money_2=money[1])))
    cast = more.votes
    if cast.votes:
        few = say("evaluate.few") if cast.is_few else ""
        show(
            say(
                "evaluate.votes",
                votes=cast.votes,
                voters=cast.voters,
                wins=cast.wins[0],
                wins_2=cast.wins[1],
                ties=cast.ties,
                neither=cast.neither,
                candidate=_span(cast.candidate),
                few=few,
            )
        )


def _silences(found: Evaluation, arm: int) -> list[tuple[str, int]]:
    """Why answers of an arm did not come, the most frequent first."""
    whys = (one.why for one in found.answers if one.arm == arm and not one.is_answered)
    return Counter(whys).most_common(WHYS_MAX)


def silence(why: str) -> str:
    """Why an answer did not come, as it was stored: an error's name, or `503 CODE: words`."""
    status, _, rest = why.partition(" ")
    code, colon, text = rest.partition(": ")
    if status.isdigit() and colon and isinstance(told := by_code(code, text), Said):
        return f"{status} {told.told(spoken())}"
    return named("evaluate.why", why, spoken())


def _rows(figures: Results) -> Iterator[list[str]]:
    def line(name: str, pick: Any) -> list[str]:
        return [name, *(pick(one) for one in figures.arms)]

    yield line(say("evaluate.answered"), lambda one: _span(one.answered))
    yield line(say("evaluate.passed"), lambda one: _span(one.passed))
    for check in CHECKS:
        if any(check in one.checks for one in figures.arms):
            told = named("evaluate.check", check, spoken())
            yield line(told, lambda one, check=check: _span(one.checks.get(check)))
    yield line(say("evaluate.tokens"), lambda one: _plain(one, "tokens"))
    yield line(say("evaluate.whole"), lambda one: _plain(one, "whole_ms"))


def _plain(one: Figures, name: str) -> str:
    value = getattr(one, name)
    return "-" if value is None else f"{value:,.0f}"


def _span(found: Interval | None) -> str:
    if found is None:
        return "-"
    return say(
        "evaluate.span",
        value=f"{found.value:.3f}",
        low=f"{found.low:.3f}",
        high=f"{found.high:.3f}",
    )
