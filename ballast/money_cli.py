"""`ballast money`: what finance tells the books, and what the books say of a month."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml

from ballast import acts, books, messages
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import clean, table
from ballast.digits import rounded
from ballast.messages import Said, say
from ballast.messages.chosen import spoken
from ballast.printing import print_json
from ballast.problem import ProblemError
from ballast.running import settings_of
from models.worded import joined
from serving.finance import entries, invoices, months, told
from serving.finance.grants import lapsing, period
from serving.finance.listing import KIND, listed
from serving.finance.reconcile import Line, reconciled
from serving.finance.settling import settle, used
from serving.finance.values import HOUR_MS, Closing, Grant, InvoiceLine
from serving.settings import Settings

money = typer.Typer(
    help="Grants, rentals, monthly costs, invoices, month close.", no_args_is_help=True
)
Month = Annotated[str, typer.Argument(help="As 2026-11, in the books' time zone.")]
Why = Annotated[str, typer.Option(help="Kept with the entry.")]
FILE_BYTES_MAX = 4 << 20
_KINDS = {name: kind for kind, name in KIND.items()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _offset_ms(settings: Settings) -> int:
    return settings.ledger.utc_offset_hours * HOUR_MS


def _bytes(file: Path, bytes_max: int) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(bytes_max + 1)
    except OSError as error:
        raise ProblemError(
            Said("money.cannot_read", file=file, strerror=error.strerror), Said("money.name_file")
        ) from None
    if len(data) > bytes_max:
        raise ProblemError(
            Said("money.too_large", file=file, bytes_max=bytes_max >> 20), Said("money.cut_it")
        )
    return data


@money.command()
def tell(
    file: Annotated[Path, typer.Argument(help="YAML; docs/ledger.md shows one.")],
    config: Config = None,
) -> None:
    """Book grants, rentals and monthly costs. An id that is there already is replaced."""
    settings = settings_of(config)
    try:
        said = yaml.safe_load(_bytes(file, FILE_BYTES_MAX))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProblemError(f"{file}: {error}", Said("money.write_yaml")) from None
    with books.finance(settings) as database:
        found = told.entries(said, (acts.who(), _now_ms()), _offset_ms(settings))
        acts.record(settings, "finance:books", "finance.tell", acts.ids([e.id for e in found]))
        for entry in found:
            entries.write(database, entry, _offset_ms(settings))
        settle(database, _now_ms(), _offset_ms(settings))
    typer.echo(
        say(
            "money.booked",
            count=len(found),
            names=", ".join(clean(entry.id) for entry in found[:20]),
        )
    )


@money.command()
def drop(
    kind: Annotated[str, typer.Argument(help="grant, rental or cost.")],
    id_: Annotated[str, typer.Argument(metavar="ID")],
    config: Config = None,
) -> None:
    """Take an entry back, unless its month is closed."""
    if kind not in ("grant", "rental", "cost"):
        raise ProblemError(Said("money.no_kind", kind=f"{kind!r}"), Said("money.three"))
    settings = settings_of(config)
    with books.finance(settings) as database:
        acts.record(settings, f"finance:{id_}", "finance.drop", {"kind": kind})
        entries.drop(database, _KINDS[kind], id_, _offset_ms(settings))
        settle(database, _now_ms(), _offset_ms(settings))
    typer.echo(say("money.dropped", kind=kind, id=clean(id_)))


@money.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(_KINDS)}.")],
    config: Config = None,
) -> None:
    """Entries of one kind, as JSON."""
    if kind not in _KINDS:
        raise ProblemError(
            Said("money.no_kind", kind=f"{kind!r}"), Said("money.one_of", names=", ".join(_KINDS))
        )
    with books.finance(settings_of(config), is_to_read=True) as database:
        print_json(listed(database, _KINDS[kind]))


@money.command()
def grants(config: Config = None, as_json: AsJson = False) -> None:
    """What is left of each grant, and which lapse within 45, 15 and 3 days."""
    settings = settings_of(config)
    now_ms, offset_ms = _now_ms(), _offset_ms(settings)
    with books.finance(settings, is_to_read=True) as database:
        have, counted = listed(database, Grant), used(database)
    alerts = {lapse.grant.id: lapse for lapse in lapsing(have, counted, now_ms, offset_ms)}
    rows: list[dict[str, Any]] = []
    for one in have:
        gone = counted.get((one.id, period(one, now_ms, offset_ms)), 0)
        alert = alerts.get(one.id)
        rows.append(
            {
                "id": one.id, "kind": one.kind, "provider": one.provider, "model": one.model,
                "unit": one.currency or one.unit, "amount": one.amount, "used": gone,
                "left": None if one.amount is None else max(0, one.amount - gone),
                "lapses": months.day_of(one.end_ms, offset_ms),
                "alert_days": alert.threshold if alert else None,
            }
        )  # fmt: skip
    if as_json:
        print_json(rows)
        return
    columns = ("id", "kind", "provider", "model", "unit", "amount", "used", "left", "lapses", "!")
    table(columns, [(*list(row.values())[:5], *_amounts(row), row["lapses"], _alert(row))
                    for row in rows])  # fmt: skip


def _amounts(row: dict[str, Any]) -> list[str]:
    is_tokens = row["unit"] == "tokens"
    return [
        "-" if row[name] is None else f"{row[name]:,}" if is_tokens else rounded(row[name] / 1e6)
        for name in ("amount", "used", "left")
    ]


def _alert(row: dict[str, Any]) -> str:
    days = row["alert_days"]
    return "" if days is None else say("money.lapses", days=days)


@money.command()
def invoice(
    file: Annotated[Path, typer.Argument(help="CSV; docs/ledger.md names its columns.")],
    why: Why = "",
    config: Config = None,
) -> None:
    """Import a vendor's invoice; it replaces that vendor's of the same month."""
    settings = settings_of(config)
    data = _bytes(file, invoices.BYTES_MAX)
    with books.finance(settings) as database:
        lines = [
            msgspec.structs.replace(line, by=acts.who(), at_ms=_now_ms(), why=why)
            for line in invoices.read(data)
        ]
        details = {"lines": len(lines), "sha256": hashlib.sha256(data).hexdigest()}
        acts.record(settings, "finance:invoices", "finance.invoice", details, why)
        stored, replaced = entries.import_invoice(database, lines, _offset_ms(settings))
    typer.echo(say("money.imported", stored=stored, replaced=replaced))


@money.command()
def reconcile(month: Month, config: Config = None, as_json: AsJson = False) -> None:
    """Ledger, credits and invoices of a month side by side, with what explains differences."""
    settings = settings_of(config)
    with books.finance(settings) as database:
        settle(database, _now_ms(), _offset_ms(settings))
        held = entries.sums(database, month, _offset_ms(settings))
        lines = reconciled(held, listed(database, InvoiceLine, month, month))
    if as_json:
        print_json(lines)
        return
    columns = ("provider", "model", "", "ledger", "granted", "expected", "invoice", "difference",
               "why")  # fmt: skip
    table(columns, [_row(line) for line in lines])


def _row(line: Line) -> tuple[str, ...]:
    amounts = (line.ledger_micro, line.burnt_micro, line.expected_micro, line.invoice_micro)
    return (
        line.provider, line.model, line.currency, *(rounded(micro / 1e6) for micro in amounts),
        f"{line.difference_micro / 1e6:+,.2f}", messages.tell(joined(line.explanations), spoken())
        or say("money.agrees"),
    )  # fmt: skip


@money.command()
def close(month: Month, why: Why = "", config: Config = None) -> None:
    """Close a month: it takes no more changes. Possible from two days after its end."""
    settings = settings_of(config)
    now_ms, offset_ms = _now_ms(), _offset_ms(settings)
    with books.finance(settings) as database:
        settle(database, now_ms, offset_ms)
        sums = tuple(entries.sums(database, month, offset_ms))
        closing = Closing(id=month, sums=sums, by=acts.who(), at_ms=now_ms, why=why)
        acts.record(settings, f"finance:{month}", "finance.close", {}, why)
        entries.close(database, closing, now_ms, offset_ms)
    typer.echo(say("money.closed", month=month, count=len(sums)))


@money.command()
def correct(
    month: Month,
    into: Annotated[str, typer.Option(help="The open month; else the present one.")] = "",
    config: Config = None,
) -> None:
    """Book what came to a closed month since, as lines of an open one."""
    settings = settings_of(config)
    now_ms, offset_ms = _now_ms(), _offset_ms(settings)
    with books.finance(settings) as database:
        told_ = (acts.who(), now_ms, months.month(into or months.of(now_ms, offset_ms)))
        acts.record(settings, f"finance:{month}", "finance.correct", {"into": told_[2]})
        found = entries.correct(database, month, told_, offset_ms)
    for one in found:
        amount = f"{one.currency} {one.micro / 1e6:+,.6f}"
        typer.echo(f"{one.month}: {clean(one.provider)}/{clean(one.model)} {amount}")
    typer.echo(say("money.corrections", count=len(found)))


@money.command("settle")
def settle_(config: Config = None) -> None:
    """Decide what paid each attempt; the controller does so each minute."""
    settings = settings_of(config)
    with books.finance(settings) as database:
        typer.echo(say("money.settled", database=settle(database, _now_ms(), _offset_ms(settings))))
