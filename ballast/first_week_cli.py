"""The commands of a first week: start by stages, milestones, a PoC's report, evidence."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ballast import evidence_cli, milestones, poc_run_cli, up_cli


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add them; `guard` turns problems into words."""
    for part in (up_cli, milestones, poc_run_cli, evidence_cli):
        part.register(app, guard)
