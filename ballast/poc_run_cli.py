"""`ballast poc run|effort`: the replay to both sides, and the template of the effort; and the
group as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ballast import poc as gathering
from ballast import poc_effort, poc_keys, poc_order, poc_page, poc_run
from ballast.admin_client import Client
from ballast.admin_flags import AsJson, Config, KeyFile
from ballast.budgets_cli import micro
from ballast.messages import Said, say, tell
from ballast.messages.chosen import spoken
from ballast.poc_cli import EffortFile, Exported, GpuHour, effort_of, poc
from ballast.poc_gates import gates, verdict
from ballast.printing import print_json, write_page
from ballast.running import settings_of


@poc.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder for both runs.", file_okay=False)],
    trace: Annotated[str, typer.Option(help="FILE[@FROM-UNTIL]; else the ledger.")] = "",
    days: Annotated[int, typer.Option(help="Of the ledger.", min=1, max=90)] = 7,
    model: Annotated[str, typer.Option(help="Else the first with an API behind it.")] = "",
    api: Annotated[str, typer.Option(help="PROVIDER/MODEL; else the model's first.")] = "",
    own_model: Annotated[str, typer.Option(help="Name of the own side; else the same.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose calls they are; else the first.")] = "",
    requests: Annotated[int, typer.Option(help="The latest so many.", min=1, max=20_000)] = 300,
    minutes: Annotated[float, typer.Option(help="At most.", min=0.1, max=1440)] = 10.0,
    spend_max: Annotated[str, typer.Option(help="At the API, in its currency.")] = "10",
    seed: Annotated[int, typer.Option(help="Of the texts.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Send it; else only told.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="The page; else poc.html in the folder.")
    ] = None,
    gpu_hour: GpuHour = 0.0,
    effort: EffortFile = None,
    exported: Exported = None,
    key_file: KeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Replay own traffic or a trace to an API and to own engines at once, then write the report.
    Tells what it would send and cost; --yes sends it."""
    settings = settings_of(config)
    wish = poc_order.Asked(out, trace, days, model, api, own_model, tenant, requests, minutes,
                           micro(spend_max), seed)  # fmt: skip
    order, told = poc_order.order(settings, wish)
    currency = order.price.currency
    spent = effort_of(effort, None, None, currency)
    for line in told:
        typer.echo(tell(line, spoken()), err=True)
    if not yes:
        typer.echo(say("poc.run.dry"), err=True)
        return
    poc_run.run(settings, Client(settings, key_file), order, _echo)
    sides = [poc_run.folder(order, side) for side in poc_keys.SIDES]
    asked = gathering.Wish(days, currency, spent, sides[0], sides[1], gpu_hour, exported)
    trial = gathering.gather(settings, asked, time.time())
    page = html or out / "poc.html"
    write_page(page, poc_page.made(trial, "en"))
    write_page(page.with_suffix(f".zh{page.suffix}"), poc_page.made(trial, "zh"))
    if as_json:
        found = gates(trial)
        print_json({"trial": trial, "gates": found, "verdict": verdict(found)})


def _echo(line: Said) -> None:
    typer.echo(tell(line, spoken()), err=True)


@poc.command()
def effort(
    file: Annotated[Path, typer.Argument(help="To be written; then fill it in.", dir_okay=False)],
) -> None:
    """Write the template of a statement of the migration's effort, for --effort."""
    poc_effort.write_template(file, spoken(), datetime.now(UTC).date())
    typer.echo(say("poc.template", path=file))


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the group; `guard` turns problems into words."""
    for info in poc.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    app.add_typer(poc, name="poc")
