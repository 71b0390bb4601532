"""`ballast evaluate`: questions of one's own asked of two arms, checked, compared, gated."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ballast import books, chat, evaluate_words, evaluating, poc_keys, running
from ballast.admin_client import Client
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import table, when
from ballast.messages import Said, say, tell
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from ballast.problem import ProblemError, worded
from serving.evaluation import questions, store, verdict, votes
from serving.evaluation.values import Evaluation
from serving.evaluation.verdict import Thresholds
from serving.finance.base import Database
from serving.records import OWN
from serving.settings import Settings

evaluate = typer.Typer(
    help="Questions of your own, asked of two arms; a gate before a change.", no_args_is_help=True
)
Id = Annotated[str, typer.Argument(help="As `ballast evaluate list` shows it; else the newest.")]
FAILS = 2
"""Exit code of a gate that does not let pass; 1 is that nothing could be said."""


@evaluate.command()
def run(
    file: Annotated[Path, typer.Argument(help="Questions: YAML, or JSON lines (.jsonl).")],
    arm: Annotated[
        list[str],
        typer.Option(help="TARGET or MODEL@TARGET; twice: base, then candidate."),
    ],
    model: Annotated[str, typer.Option(help="Of an arm that names none; else the first.")] = "",
    repeats: Annotated[int, typer.Option(help="Times each is asked.", min=1, max=5)] = 1,
    at_once: Annotated[int, typer.Option(min=1, max=evaluating.AT_ONCE_MAX)] = 4,
    timeout_s: Annotated[float, typer.Option(help="For one answer.", min=1, max=600)] = 120.0,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            help="File with an API key that is a canary; else `canaries`' own; else one made for"
            " this run.",
        ),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose calls they are, with a key of this run.")] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Ask both arms every question through the running gateway, check the answers, keep them."""
    settings = running.settings_of(config)
    plan = evaluating.Plan(
        _questions(file), _arms(settings, arm, model), repeats, at_once, timeout_s
    )
    with _key(settings, key, tenant, plan) as value:
        answers = asyncio.run(evaluating.ask(running.base_url(settings), value, plan, _progress))
    typer.echo("", err=True)
    found = Evaluation(
        uuid.uuid4().hex[:12], file.name, questions.digest(plan.questions),
        time.time_ns() // 1_000_000, plan.arms, tuple(one.shown() for one in plan.questions),
        tuple(answers), repeats,
    )  # fmt: skip
    with _database(settings) as database:
        store.add(database, found)
    evaluate_words.tell(found, as_json=as_json)


@evaluate.command("list")
def list_(as_json: AsJson = False, config: Config = None) -> None:
    """What is kept, newest first."""
    with _database(running.settings_of(config)) as database:
        found = store.listed(database)
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        rows = [(one.id, when(one.created_ms), one.name, one.questions) for one in found]
        table(("id", "at", "set", "questions"), rows)


@evaluate.command("show")
def show_(evaluation: Id = "", as_json: AsJson = False, config: Config = None) -> None:
    """An evaluation's figures, the questions in which the arms differ, and the votes."""
    with _database(running.settings_of(config)) as database:
        found = _found(database, evaluation)
        more = evaluate_words.More(
            votes.tally(store.votes(database, found.id)), store.paid(database, found)
        )
    evaluate_words.tell(found, as_json=as_json, more=more)


@evaluate.command()
def remove(evaluation: str, config: Config = None) -> None:
    """Remove an evaluation with its votes."""
    with _database(running.settings_of(config)) as database:
        if not store.remove(database, evaluation):
            raise ProblemError(
                Said("evaluate.not_there", evaluation=f"{evaluation!r}"), "`ballast evaluate list`"
            )
    typer.echo(say("evaluate.removed", evaluation=evaluation))


@evaluate.command()
def gate(
    evaluation: Id = "",
    questions_min: Annotated[int, typer.Option(help="Fewer say nothing.", min=1)] = 20,
    passed_min: Annotated[
        float, typer.Option(help="Share of questions the candidate passes.", min=0, max=1)
    ] = 0.9,
    drop_max: Annotated[
        float, typer.Option(help="With 95 % it passes no more than this less.", min=0, max=1)
    ] = 0.1,
    answered_min: Annotated[float, typer.Option(min=0, max=1)] = 0.98,
    agreement_min: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    slower_max: Annotated[
        float | None, typer.Option(help="Median time, times the base's.", min=0)
    ] = None,
    between: Annotated[
        str, typer.Option(help="BASE,CANDIDATE: the newest of these two models.")
    ] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Whether the candidate may go on: exit code 0 yes, 2 no, 1 nothing could be said."""
    wanted = Thresholds(
        questions_min, passed_min, drop_max, answered_min, agreement_min, slower_max
    )
    with _database(running.settings_of(config)) as database:
        found = _found(database, evaluation, between)
    said = verdict.verdict(verdict.results(found), wanted)
    if as_json:
        print_json(msgspec.to_builtins(said, enc_hook=str) | {"id": found.id})
    else:
        show(*(Text(tell(line, spoken())) for line in said.reasons))
        key = "evaluate.pass" if said.is_pass else "evaluate.no_pass"
        show(f"{say(key)}: {found.arms[1].name} ({found.id})")
    raise typer.Exit(0 if said.is_pass else FAILS)


@contextmanager
def _key(settings: Settings, key: Path | None, tenant: str, plan: evaluating.Plan) -> Iterator[str]:
    path = key or settings.canaries.key_file
    if path is not None:
        yield chat.key_in(path)
        return
    calls = len(plan.questions) * plan.repeats * len(plan.arms)
    told = lambda said: typer.echo(str(said), err=True)  # noqa: E731
    client = Client(settings, None)
    with poc_keys.canary(client, tenant, calls * plan.timeout_s / plan.at_once, told) as value:
        yield value


def _questions(file: Path) -> tuple[questions.Question, ...]:
    try:
        return questions.parse(file.read_bytes(), is_lines=file.suffix == ".jsonl")
    except OSError as error:
        raise ProblemError(f"{file}: {error.strerror}", Said("evaluate.name_questions")) from None
    except questions.SetError as error:
        what = Said("evaluate.in_file", file=file, error=worded(error))
        raise ProblemError(what, Said("evaluate.shows_one")) from None


def _arms(settings: Settings, given: list[str], model: str) -> Any:
    known = {name for one in settings.models for name in (one.name, *one.aliases)}
    first = settings.models[0].name if settings.models else ""
    if len(given) != 2:
        raise ProblemError(Said("evaluate.arms", count=len(given)), Said("evaluate.arm_twice"))
    arms = tuple(evaluating.arm(text, model or first, known) for text in given)
    for one in arms:
        of = next(row for row in settings.models if one.model in (row.name, *row.aliases))
        there = (OWN, *of.offerings)
        if one.target and one.target not in there:
            said = Said("evaluate.no_target", text=one.name, model=of.name)
            raise ProblemError(said, Said("evaluate.targets", names=", ".join(there)))
    return arms


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    with books.finance(settings) as database:
        try:
            yield database
        except store.EvaluationError as error:
            raise ProblemError(worded(error), Said("evaluate.list_shows")) from None


def _found(database: Database, evaluation: str, between: str = "") -> Evaluation:
    if not evaluation:
        kept = store.listed(database)
        if between:
            kept = [one for one in kept if ",".join(one.models) == between]
        if not kept:
            what = Said("evaluate.none_between", models=between) if between else None
            raise ProblemError(what or Said("evaluate.none_kept"), Said("evaluate.run_makes"))
        evaluation = kept[0].id
    return store.get(database, evaluation)


def _progress(done: int, of: int) -> None:
    typer.echo(say("evaluate.answers", done=done, of=of), nl=False, err=True)
