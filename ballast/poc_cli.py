"""`ballast poc report|export|check`: what a manager decides by, and the way out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ballast import books, leaving, leaving_check, poc_effort, poc_page
from ballast import poc as gathering
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import clean
from ballast.audit_cli import UNPROVEN, PublicKey, public_of
from ballast.messages import Said, tell, text
from ballast.messages.chosen import spoken
from ballast.poc_gates import gates, verdict
from ballast.poc_values import HOURS_OF_BASE_URL, Effort
from ballast.printing import print_json, write_page
from ballast.problem import ProblemError
from ballast.running import settings_of
from serving.audit.auditor import signer
from serving.settings import SettingsError

HOUR_COST = 300.0
"""600,000 yuan a year over 2,000 hours: the engineer of `ballast plan`; ASSUMED there too."""
ASSUMED, GIVEN = "ASSUMED: 600,000 CNY / 2,000 h", "--hour-cost"
GpuHour = Annotated[float, typer.Option(help="Rent of all GPUs of the local run, an hour.", min=0)]
EffortFile = Annotated[
    Path | None, typer.Option("--effort", help="What `poc effort` wrote, filled in.")
]
Exported = Annotated[
    Path | None, typer.Option("--export", help="Folder of `poc export`, checked anew.")
]
poc = typer.Typer(help="A PoC's report, and the export of all data.", no_args_is_help=True)


@poc.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.", file_okay=False)],
    config: Config = None,
) -> None:
    """Write all data of this deployment: every table, every file but secrets, and a manifest."""
    settings = settings_of(config)
    books.must_be_there(settings)
    made = leaving.export(settings, folder, time.time())
    rows = sum(table.rows for table in made.tables)
    typer.echo(text("leaving.done", spoken(), tables=len(made.tables), rows=f"{rows:,}",
                    files=len(made.files), folder=folder))  # fmt: skip
    secrets = tuple(sorted(name for name, why in made.left_out.items() if why == "secret"))
    typer.echo(text("leaving.left", spoken(), count=len(made.left_out), secrets=secrets or ("-",)))


@poc.command()
def check(
    folder: Annotated[Path, typer.Argument(help="What `export` wrote.", file_okay=False)],
    public_key: PublicKey = "",
    config: Config = None,
) -> None:
    """Check an export's signature, and count and hash it; ends with 1 if anything is missing or
    changed, with 2 if there is no key to check the signature by."""
    leaving_check.read(folder)
    public = public_of(public_key) or _own_key(config)
    faults = leaving_check.check(folder, public)
    for fault in faults:
        typer.echo(clean(tell(fault, spoken())))
    if not faults:
        typer.echo(text("leaving.whole" if public else "leaving.unsigned", spoken()))
    raise typer.Exit(1 if faults else 0 if public else UNPROVEN)


def _own_key(config: Path | None) -> bytes | None:
    """This deployment's; None on a machine that has none, as where an export is carried to."""
    try:
        return signer(settings_of(config)).public
    except SettingsError:
        return None


@poc.command()
def report(
    html: Annotated[Path, typer.Option(help="The page; in Chinese beside it as NAME.zh.html.")],
    days: Annotated[int, typer.Option(help="Of own traffic.", min=1, max=90)] = 30,
    currency: Annotated[str, typer.Option(help="CNY or USD.")] = "CNY",
    api_run: Annotated[
        Path | None, typer.Option(help="Instead of own traffic: a run of `ballast bench run`.")
    ] = None,
    local_run: Annotated[Path | None, typer.Option(help="The same load on own engines.")] = None,
    gpu_hour: GpuHour = 0.0,
    effort: EffortFile = None,
    hours: Annotated[
        float | None, typer.Option(help="Instead of --effort: hours of work it takes.", min=0)
    ] = None,
    hour_cost: Annotated[
        float | None, typer.Option(help="Of one of these hours; else 300 CNY.", min=0)
    ] = None,
    exported: Exported = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Set API and own engines side by side: one page that stands alone, in two languages."""
    now_s = time.time()
    told = effort_of(effort, hours, hour_cost, currency)
    wish = gathering.Wish(days, currency, told, api_run, local_run, gpu_hour, exported)
    trial = gathering.gather(settings_of(config), wish, now_s)
    write_page(html, poc_page.made(trial, "en"))
    write_page(html.with_suffix(f".zh{html.suffix}"), poc_page.made(trial, "zh"))
    if as_json:
        found = gates(trial)
        print_json({"trial": trial, "gates": found, "verdict": verdict(found)})


def effort_of(
    file: Path | None, hours: float | None, hour_cost: float | None, currency: str
) -> Effort:  # fmt: skip
    """As stated in a file, else as typed, else as assumed. Raises ProblemError."""
    if file is not None:
        if hours is not None or hour_cost is not None:
            raise ProblemError(Said("poc.two_efforts"), Said("poc.one_effort"))
        return poc_effort.read(file, currency)
    is_assumed = hours is None
    worked = HOURS_OF_BASE_URL if hours is None else hours
    if hour_cost is not None:
        return Effort(worked, hour_cost, GIVEN, is_assumed=is_assumed)
    yuan = gathering.of_yuan(HOUR_COST, currency, time.time())
    return Effort(worked, yuan, ASSUMED, is_assumed=is_assumed)
