"""`ballast poc report|export|check`: what a manager decides by, and the way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ballast import leaving
from ballast.admin_flags import Config
from ballast.messages import text
from ballast.messages.chosen import spoken
from ballast.running import settings_of

poc = typer.Typer(help="A PoC's report, and the export of all data.", no_args_is_help=True)


@poc.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.", file_okay=False)],
    config: Config = None,
) -> None:
    """Write all data of this deployment: every table, every file but secrets, and a manifest."""
    made = leaving.export(settings_of(config), folder, time.time())
    rows = sum(table.rows for table in made.tables)
    typer.echo(text("leaving.done", spoken(), tables=len(made.tables), rows=f"{rows:,}",
                    files=len(made.files), folder=folder))  # fmt: skip
    secrets = tuple(sorted(name for name, why in made.left_out.items() if why == "secret"))
    typer.echo(text("leaving.left", spoken(), count=len(made.left_out), secrets=secrets or ("-",)))


@poc.command()
def check(
    folder: Annotated[Path, typer.Argument(help="What `export` wrote.", file_okay=False)],
) -> None:
    """Count and hash an export against its manifest; ends with 1 if anything is missing."""
    faults = leaving.check(folder)
    for fault in faults:
        typer.echo(fault)
    if not faults:
        typer.echo(text("leaving.whole", spoken()))
    raise typer.Exit(1 if faults else 0)


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the group; `guard` turns problems into words."""
    for info in poc.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    app.add_typer(poc, name="poc")
