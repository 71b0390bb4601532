"""`ballast up --stage poc|beta|scale`: a stage's settings below the user's, and the stack started
with them. Says what the stage still lacks, makes its budget, may bring simulated providers."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ballast import acts, books, plan, stages
from ballast import up as stacking
from ballast.messages import Said, Words, words
from ballast.messages.chosen import spoken
from ballast.problem import ProblemError, worded
from ballast.simulated import KEY_VARIABLE
from ballast.stages import Keyed, Lack, Name, Stage
from models import provider
from serving.directory.base import DirectoryAway, VersionConflict
from serving.directory.budgets import set_budget
from serving.directory.changes import By
from serving.directory.store import opener
from serving.directory.values import build
from serving.settings import EXIT_CODE, Settings, load
from serving.settings_tree import from_environ, lay, read

SIMULATED_PORT = 9100
STOP_S = 3.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    stage: Name
    config: Path | None
    is_try: bool
    """Simulated providers stand in for real ones."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A stage as it would start."""

    stage: Stage
    settings: Settings
    lacks: list[Lack]
    parts: tuple[plan.Part, ...] = ()


def up(name: str, config: Path | None, wish: plan.Wish, *, is_try: bool) -> None:
    """Start a stage in the foreground. Raises ProblemError, SettingsError."""
    wanted = Wanted(stage_of(name), config, is_try)
    staged = collect(wanted, os.environ)
    say = words(spoken())
    stopping = [lack for lack in staged.lacks if lack.stops]
    if stopping:
        first = stopping[0]
        what = Said("stage.not_ready", stage=wanted.stage.value, what=first.what)
        raise ProblemError(what, first.remedy, exit_code=EXIT_CODE)
    aside = stacking.Aside(
        parts=staged.parts,
        notes=tuple(notes(wanted, staged, say)),
        before=lambda settings: make_budget(settings, staged.stage),
        stage=wanted.stage.value,
    )
    wish = replace(wish, has_engine=wish.has_engine and staged.stage.has_engine)
    stacking.up(staged.settings, wish, aside)


def stage_of(name: str) -> Name:
    """Raises ProblemError for a word that is no stage."""
    try:
        return Name(name.lower())
    except ValueError:
        what = Said("stage.unknown", name=name)
        raise ProblemError(what, Said("stage.known"), exit_code=EXIT_CODE) from None


def collect(wanted: Wanted, environ: Mapping[str, str]) -> Staged:
    """Settings of the stage with those of file and environment over them, and what it lacks."""
    stage = stages.load(wanted.stage)
    said: dict[str, Any] = {} if wanted.config is None else read(wanted.config)
    lay(said, from_environ(environ))
    parts: tuple[plan.Part, ...] = ()
    if wanted.is_try:
        said, parts = _simulated(said)
    own = said.get("providers_dir")
    rows = _rows(Path(str(own)).expanduser() if own else None)
    by_place = sorted(rows.values(), key=lambda row: (row.jurisdiction != stages.MAINLAND, row.id))
    keys = list(dict.fromkeys(row.api_key_env for row in by_place))
    set_keys = {name for name in keys if environ.get(name)}
    found = Keyed((), ()) if wanted.is_try else stages.keyed(rows, set_keys)
    tree = stages.layered(stage, said, rows, found)
    plain = {k: v for k, v in environ.items() if not k.startswith("BALLAST_")}
    settings = load(wanted.config, plain, tree)
    return Staged(stage, settings, stages.lacks(wanted.stage, settings, found, keys), parts)


def _rows(folder: Path | None) -> dict[str, provider.Provider]:
    try:
        return provider.load(provider.FOLDER, *([folder] if folder else []))
    except provider.ProviderFileError as error:
        raise ProblemError(worded(error), Said("problem.mend_file"), exit_code=EXIT_CODE) from None


def _simulated(said: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[plan.Part, ...]]:
    """Settings that point at simulated providers, and the process that plays them."""
    if said.get("providers_dir"):
        what = Said("stage.dir_taken")
        raise ProblemError(what, Said("stage.dir_remedy"), exit_code=EXIT_CODE)
    port, key = stacking.free_port(SIMULATED_PORT), secrets.token_hex(16)
    os.environ[KEY_VARIABLE] = key  # the gateway's part of the environment is taken from here
    rows = sorted(path.stem for path in stages.SIMULATED.glob("*.yaml"))
    access = [{"id": name, "base_url": f"http://127.0.0.1:{port}/v1"} for name in rows]
    tree = {**said, "providers_dir": str(stages.SIMULATED), "providers": access}
    argv = (sys.executable, "-m", "ballast.simulated", str(port))
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return tree, (plan.Part("provider", argv, STOP_S, False, environ),)


def notes(wanted: Wanted, staged: Staged, say: Words) -> Iterator[str]:
    """What is told once the gateway listens."""
    stage, settings = wanted.stage.value, staged.settings
    yield say("stage.is", stage=stage, about=say(f"stage.about.{stage}"))
    for model in settings.models:
        if model.offerings:
            yield say("stage.serves", model=model.name, offerings=model.offerings)
    for tenant in settings.tenants:
        yield say("stage.stays", tenant=tenant.id, residency=tenant.residency)
    if budget := staged.stage.budget:
        amount = books.amount(budget.currency, budget.limit_micro)
        period = say(f"stage.period.{budget.period}")
        yield say("stage.budget", id=budget.id, amount=amount, period=period)
    if wanted.is_try:
        yield say("stage.simulated")
    for lack in staged.lacks:
        yield say("stage.missing", what=lack.what)
        yield say("stage.to_get", remedy=lack.remedy)
    yield say("stage.next")


def make_budget(settings: Settings, stage: Stage) -> None:
    """Make the stage's budget unless one of its name is there. Raises ProblemError."""
    if stage.budget is None:
        return
    row = msgspec.to_builtins(stage.budget)
    by = By(acts.who(), time.time_ns() // 1_000_000, words(spoken())("stage.budget_why"))
    try:
        with closing(opener(settings)()) as store:
            for _ in range(acts.TRIES):
                head, documents = store.read()
                known = build(head.number, documents)
                if stage.budget.id in known.budgets:
                    return
                try:
                    store.commit(head, set_budget(known, row, by))
                except VersionConflict:
                    continue
                return
    except DirectoryAway as error:
        what = Said("problem.no_budget", error=error)
        raise ProblemError(what, "`ballast doctor`") from None
