"""`ballast doctor --stage poc|beta|scale`: what a stage lacks, beside what would stop it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ballast import plan, staged
from ballast import up as stacking
from ballast.doctor import Finding, Level
from ballast.messages import Said

SUBJECT = "stage"


def findings(
    name: str, config: Path | None, wish: plan.Wish
) -> Iterator[Finding]:  # fmt: skip
    """Of the stage, then of the machine with the stage's settings. Raises ProblemError,
    SettingsError."""
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
