"""`ballast evidence show|write|check`: what is shown to a regulator, with its sources."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ballast import compliance_files, evidence, evidence_file, evidence_page, evidence_rules
from ballast.admin_flags import AsJson, Config
from ballast.evidence_values import Facts
from ballast.messages import Said, tell, text
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from ballast.problem import ProblemError, worded
from ballast.running import settings_of
from serving.audit.auditor import signer
from serving.errors import OwnError
from serving.settings import Settings

group = typer.Typer(help="Compliance evidence, each line with its source.", no_args_is_help=True)
Month = Annotated[str, typer.Option(help="As 2026-10; else the last that is over.")]
FactsFile = Annotated[
    Path | None, typer.Option("--facts", help="YAML with what only people know (docs/evidence.md).")
]
Questions = Annotated[
    Path | None, typer.Option(help="YAML with more questions: `refuse` and `allow`.")
]


def asked(settings: Settings, asking: evidence.Asking, now_s: float) -> Facts:
    """The facts of a month that has begun; without one the last that is over. Raises
    ProblemError."""
    if not asking.month:
        offset = timedelta(hours=settings.ledger.utc_offset_hours)
        today = datetime.fromtimestamp(now_s, UTC) + offset
        asking = asking._replace(month=f"{today.replace(day=1) - timedelta(days=1):%Y-%m}")
    since_ms, _ = evidence.bounds_of(asking.month, settings)
    if since_ms > now_s * 1e3:
        raise ProblemError(
            Said("evidence.later", month=asking.month), Said("evidence.earlier")
        )  # fmt: skip
    try:
        return evidence.gather(settings, asking)
    except OwnError as error:
        raise ProblemError(worded(error), Said("evidence.doctor")) from None


@group.command("show")
def show_(
    month: Month = "", facts: FactsFile = None, questions: Questions = None,
    config: Config = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what a report would say; writes nothing."""
    found = asked(settings_of(config), evidence.Asking(month, facts, questions), time.time())
    sections = evidence_rules.sections(found)
    if as_json:
        print_json(evidence_page.as_objects(sections))
    else:
        show(*evidence_page.tables(sections, spoken()))


@group.command()
def write(
    month: Month = "", facts: FactsFile = None, questions: Questions = None,
    again: Annotated[
        str | None, typer.Option(help="Why: a revision beside the one that is signed.")
    ] = None,
    config: Config = None,
) -> None:  # fmt: skip
    """Write a month's report in Chinese and English; one that is over is signed, and then kept."""
    settings, now_s = settings_of(config), time.time()
    found = asked(settings, evidence.Asking(month, facts, questions), now_s)
    made = evidence_file.write(settings, found, now_s, again)
    for path in made:
        typer.echo(str(path))
    if not any(path.name.endswith(".sig.json") for path in made):
        typer.echo(text("evidence.partial", spoken(), month=found.month), err=True)


@group.command()
def check(
    month: Annotated[str, typer.Argument(help="As 2026-10.")], config: Config = None
) -> None:  # fmt: skip
    """Hold a month's report, each revision, against its signature; ends with 1 if changed."""
    settings = settings_of(config)
    evidence.bounds_of(month, settings)
    latest = compliance_files.latest(settings, month)
    if not (latest or compliance_files.page(settings, month).exists()):
        raise ProblemError(
            Said("evidence.no_report", month=month), Said("evidence.write_one", month=month)
        )
    faults = compliance_files.faults(settings, month, signer(settings).public)
    if not (latest or faults):
        faults = [Said("evidence.partial", month=month)]
    for fault in faults:
        typer.echo(tell(fault, spoken()))
    if not faults:
        typer.echo(text("evidence.holds", spoken(), month=month, count=latest))
    raise typer.Exit(1 if faults else 0)


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the group; `guard` turns problems into words."""
    for info in group.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    app.add_typer(group, name="evidence")
