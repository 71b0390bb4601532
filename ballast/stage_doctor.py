"""`ballast doctor`: of a stage (`--stage poc|beta|scale`, with what it lacks), of the stack that
runs, or of what would start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ballast import plan, running_doctor, staged
from ballast import up as stacking
from ballast.doctor import Finding, Level
from ballast.messages import Said
from serving.settings import load

SUBJECT = "stage"


def findings(
    name: str, config: Path | None, wish: plan.Wish
) -> Iterator[Finding]:  # fmt: skip
    """Of the stage, then of the machine with the stage's settings; without a name, of the stack
    that runs, else of what would start. Raises ProblemError, SettingsError."""
    if name:
        yield from _of_stage(name, config, wish)
    elif pid := running_doctor.pid_of(wish, config):
        yield from running_doctor.findings(pid)
    else:
        yield from stacking.findings(load(config), wish)


def _of_stage(name: str, config: Path | None, wish: plan.Wish) -> Iterator[Finding]:
    stage = staged.stage_of(name)
    found = staged.collect(staged.Wanted(stage, config, is_try=False), os.environ)
    about = Said("stage.is", stage=stage.value, about=Said(f"stage.about.{stage.value}"))
    yield Finding(SUBJECT, Level.OK, about)
    for lack in found.lacks:
        level = Level.STOP if lack.stops else Level.WARN
        yield Finding(SUBJECT, level, Said("stage.missing", what=lack.what), lack.remedy)
    if not found.lacks:
        yield Finding(SUBJECT, Level.OK, Said("stage.whole"), Said("stage.milestones"))
    has_engine = wish.has_engine and found.stage.has_engine
    yield from stacking.findings(found.settings, replace(wish, has_engine=has_engine))
