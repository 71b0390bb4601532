"""`ballast limits`: what keys, projects and tenants may ask for, and how much of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ballast.admin_client import desk
from ballast.admin_flags import AsJson, Config, KeyFile
from ballast.admin_words import clean, table
from ballast.messages import say
from ballast.printing import print_json

limits = typer.Typer(help="Limits, and how much of them is left.", invoke_without_command=True)


def read(
    context: typer.Context,
    subject: Annotated[
        str, typer.Option(help="Only this one: key:NAME, project:TENANT:NAME, tenant:NAME.")
    ] = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show limits and what is left, as far as the gateway that is asked knows."""
    if context.invoked_subcommand is not None:
        return
    found = desk(config, key_file).get("/limits", subject=subject)
    if as_json:
        print_json(found)
        return
    table(("who", "limit", "of", "used", "left", "full again in"), _rows(found["subjects"]))
    if found["left_out"]:
        typer.echo(say("desk.left_out", left_out=found["left_out"]))
    for what, why in found["away"].items():
        typer.echo(say("desk.own_share", what=clean(what), why=clean(why)), err=True)


def _rows(subjects: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for one in subjects:
        for use in one["limits"]:
            used = use["limit"] - use["left"]
            full = _length(use["full_s"]) if used else ""
            yield (
                one["subject"],
                use["what"],
                f"{use['limit']:,}",
                f"{used:,}",
                f"{use['left']:,}",
                full,
            )


def _length(seconds: float) -> str:
    """A length of time, in the unit that fits."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
