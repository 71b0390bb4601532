"""`ballast ledger`: sums, retention, exports; `ballast erase`: one person's data."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ballast import acts, batch_cli, books, exporting, money_cli, uploading
from ballast.admin_flags import Config
from ballast.messages import Said, say
from ballast.problem import ProblemError
from ballast.running import settings_of
from serving.finance import rolling
from serving.finance.values import HOUR_MS
from serving.ledger.costs import begin_ms
from serving.review import store as review_store
from serving.review.base import ReviewsAway
from serving.settings import Settings

ledger = typer.Typer(help="The ledger's rows: sum up, trim, export.", no_args_is_help=True)
Day = Annotated[str, typer.Option(help="As 2026-11-25, in the books' time zone.")]


def _offset_ms(settings: Settings) -> int:
    return settings.ledger.utc_offset_hours * HOUR_MS


def _ms(flag: str, text: str, settings: Settings, default_ms: int) -> int:
    try:
        return begin_ms(date.fromisoformat(text), _offset_ms(settings)) if text else default_ms
    except ValueError:
        raise ProblemError(
            Said("books.no_date", flag=flag, text=f"{text!r}"), Said("books.write_date")
        ) from None


@ledger.command()
def rollup(since: Day, until: Day = "", config: Config = None) -> None:
    """Make the sums by hour, day and month anew from the rows."""
    settings = settings_of(config)
    now_ms = time.time_ns() // 1_000_000
    bounds = _ms("--since", since, settings, 0), _ms("--until", until, settings, now_ms)
    with books.finance(settings) as database:
        rolling.roll(database, *bounds, _offset_ms(settings))
    typer.echo(say("books.sums_anew"))


@ledger.command()
def trim(config: Config = None) -> None:
    """Delete rows older than `ledger.row_days` that are in the sums, and sums older than
    `ledger.rollup_months`. In PostgreSQL it needs the tables' owner."""
    settings = settings_of(config)
    kept = rolling.Kept(settings.ledger.row_days, settings.ledger.rollup_months)
    with books.finance(settings) as database:
        acts.record(settings, "ledger:rows", "ledger.trim", kept._asdict())
        gone = rolling.trim(database, time.time_ns() // 1_000_000, _offset_ms(settings), kept)
    typer.echo(say("books.deleted", requests=gone.requests, rollups=gone.rollups, burns=gone.burns))


@ledger.command()
def export(
    out: Annotated[str, typer.Argument(help="A file, or s3://bucket/key; .csv, .xlsx, .parquet.")],
    since: Day = "",
    until: Day = "",
    chinese: Annotated[bool, typer.Option(help="Headers in Chinese.")] = False,
    config: Config = None,
) -> None:
    """Write the attempts that ended in a period to a file or an object store."""
    settings = settings_of(config)
    now_ms = time.time_ns() // 1_000_000
    bounds = _ms("--since", since, settings, 0), _ms("--until", until, settings, now_ms)

    def write(file: Path) -> int:
        with books.finance(settings, is_to_read=True) as database:
            rows = exporting.attempts(database, *bounds)
            return exporting.write(file, rows, is_chinese=chinese)

    if out.startswith(uploading.SCHEME):
        with tempfile.TemporaryDirectory(prefix="ballast-export-") as folder:
            file = Path(folder) / out.rpartition("/")[2]
            count = write(file)
            uploading.upload(file, out, os.environ)
    else:
        count = write(Path(out))
    typer.echo(say("books.wrote", count=count, out=out))


def erase(
    tenant: Annotated[str, typer.Option(help="Whose end user it is.")],
    person: Annotated[str, typer.Option(help="The mark (HMAC) that the rows show.")],
    why: Annotated[str, typer.Option(help="Kept in the history.")] = "",
    config: Config = None,
) -> None:
    """Take a person's mark off all rows and remove their sampled conversations, and the files and
    batches made for them; money stays."""
    settings = settings_of(config)
    with books.finance(settings) as database:
        acts.record(settings, f"ledger:{tenant}:{person}", "ledger.erase", {}, why)
        rows = rolling.erase(database, tenant, person)
    try:
        reviews = review_store.opener(settings)()
        try:
            cases = reviews.erase(tenant, person)
        finally:
            reviews.close()
    except ReviewsAway as error:
        raise ProblemError(
            Said("books.half_erased", rows=rows, error=error), Said("books.run_again")
        ) from None
    files = batch_cli.erased(settings, tenant, person)
    typer.echo(say("books.erased", rows=rows, cases=cases, files=files))


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add `money`, `ledger`, `batches` and `erase`; `guard` turns problems into words."""
    for name, group in (("money", money_cli.money), ("ledger", ledger)):
        for info in group.registered_commands:
            if info.callback is not None:
                info.callback = guard(info.callback)
        app.add_typer(group, name=name)
    batch_cli.register(app, guard)
    app.command("erase")(guard(erase))
