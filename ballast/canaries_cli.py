"""`ballast canaries`: whether models and providers still answer as they once did."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from ballast import running
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import clean, table, when
from ballast.messages import Said, say
from ballast.printing import print_json
from ballast.problem import ProblemError
from serving.quality.base import Found, QualityAway, QualityStore
from serving.quality.store import opener
from serving.quality.values import Drift

canaries = typer.Typer(
    help="Fixed prompts, asked of every target: what has changed.", no_args_is_help=True
)
Model = Annotated[str, typer.Argument(help="Our name of the model.")]
Place = Annotated[str, typer.Argument(help="`own`, or an offering as in the settings.")]


@canaries.command("list")
def list_(config: Config = None, as_json: AsJson = False) -> None:
    """What was last found of each model at each target."""
    store = _store(config)
    found = _asked(store)
    if as_json:
        print_json([msgspec.to_builtins(one) for one in found])
        return
    columns = ("model", "target", "at", "drift", "before", "now", "chance")
    rows = []
    for one in found:
        head = (one.model, one.target, when(one.at_ms))
        rows += [(*head, *_told(drift)) for drift in one.drifts] or [(*head, "none", "", "", "")]
    table(columns, rows)


@canaries.command()
def show(model: Model, target: Place, config: Config = None, as_json: AsJson = False) -> None:
    """The latest answers of a target, newest first."""
    store = _store(config)
    try:
        runs = store.runs(model, target)[-50:][::-1]
    except QualityAway as error:
        raise _away(error) from None
    if as_json:
        print_json([msgspec.to_builtins(run) for run in runs])
        return
    table(
        ("at", "prompt", "valid", "tokens", "why not", "text"),
        [
            (when(r.at_ms), r.prompt, "yes" if r.is_valid else "no", r.tokens, r.why, r.text[:60])
            for r in runs
        ],
    )


@canaries.command()
def rebase(model: Model, target: Place, config: Config = None) -> None:
    """Forget a target's baseline after a change that was wanted: its next answers are the new
    one."""
    store = _store(config)
    try:
        count = store.rebase(model, target)
    except QualityAway as error:
        raise _away(error) from None
    typer.echo(say("canary.forgot", count=count, model=clean(model), target=clean(target)))


def _store(config: Config) -> QualityStore:
    try:
        return opener(running.settings_of(config))()
    except QualityAway as error:
        raise _away(error) from None


def _asked(store: QualityStore) -> list[Found]:
    try:
        return store.found()
    except QualityAway as error:
        raise _away(error) from None


def _away(error: QualityAway) -> ProblemError:
    return ProblemError(error.message, Said("canary.see_ledger"))


def _told(drift: Drift) -> tuple[str, str, str, str]:
    chance = f"{drift.chance:.2g}" if drift.chance else "-"
    return drift.sign, f"{drift.before:.2f}", f"{drift.now:.2f}", chance
