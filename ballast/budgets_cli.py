"""`ballast budgets ...`: how much money may be spent on whom, and how far it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import AsJson, Config, KeyFile, Why
from ballast.admin_words import clean, done, table, when
from ballast.printing import print_json
from ballast.problem import ProblemError

MICRO = 1_000_000
budgets = typer.Typer(help="Budgets in money: limits by tenant, project, model, provider.")
Id = Annotated[str, typer.Argument(metavar="BUDGET", help="Its name.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="In the currency's units: 1500.50")]


def micro(text: str) -> int:
    """Units in words as integer micro-units. Raises ProblemError."""
    try:
        found = Decimal(text) * MICRO
        if found == found.to_integral_value() and found >= 0:
            return int(found)
    except (InvalidOperation, ValueError):
        pass
    raise ProblemError(f"{clean(text)} is no amount", "write it like 1500 or 1500.50")


def units(amount_micro: int, currency: str) -> str:
    """An amount for people."""
    return f"{Decimal(amount_micro) / MICRO:,.2f} {currency}"


def step(text: str) -> dict[str, Any]:
    """`0.8=smaller_model:NAME`, `0.9=local_only`, `0.9=queue_longer:30`, `1=refuse`."""
    share, _, what = text.partition("=")
    action, _, more = what.partition(":")
    found: dict[str, Any] = {"action": action}
    try:
        found["at_share"] = float(share)
        if action == "queue_longer":
            found["wait_s"] = float(more)
    except ValueError:
        remedy = "0.8=smaller_model:NAME, 0.9=local_only, 0.9=queue_longer:30 or 1=refuse"
        raise ProblemError(f"{clean(text)} is no step", remedy) from None
    return found | ({"model": more} if action == "smaller_model" else {})


@budgets.command("list")
def list_budgets(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Budgets, what is spent of them in the period under way, and thresholds passed."""
    found = desk(config, key_file).get("/budgets")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            b["id"], _holds_for(b), b["kind"], b["period"],
            units(b["effective_limit_micro"], b["currency"]),
            units(b["spent_micro"], b["currency"]),
            "-" if b["share"] is None else f"{b['share']:.0%}",
            ", ".join(f"{p} %" for p in b["passed"]), when(b["end_ms"]),
        )
        for b in found["budgets"]
    ]  # fmt: skip
    columns = ("budget", "for", "kind", "period", "limit", "spent", "share", "passed", "until")
    table(columns, rows)
    if found["store_away"]:
        typer.echo(f"only leased slices are spent now: {clean(found['store_away'])}", err=True)


def _holds_for(row: dict[str, Any]) -> str:
    names = ("tenant", "project", "model", "provider")
    return " ".join(f"{name}={row[name]}" for name in names if row.get(name)) or "all"


@budgets.command("set")
def set_budget(
    budget: Id,
    amount: Amount,
    tenant: Annotated[str, typer.Option(help="Whose calls; a forwarder's with customers.")] = "",
    project: Annotated[str, typer.Option(help="Of the tenant.")] = "",
    model: Annotated[str, typer.Option(help="Answered by this model.")] = "",
    provider: Annotated[str, typer.Option(help="Answered by this provider.")] = "",
    period: Annotated[str, typer.Option(help="hour, day or month.")] = "",
    time_zone: Annotated[str, typer.Option(help="Where it begins; Asia/Shanghai.")] = "",
    currency: Annotated[str, typer.Option(help="CNY or USD.")] = "",
    kind: Annotated[str, typer.Option(help="hard stops paid calls, soft only warns.")] = "",
    ladder: Annotated[
        list[str] | None,
        typer.Option(
            "--step", help="0.8=smaller_model:NAME, 0.9=local_only, 0.9=queue_longer:30, 1=refuse"
        ),
    ] = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a budget, or give one that is there another limit, kind or ladder."""
    scope = {"tenant": tenant, "project": project, "model": model, "provider": provider}
    terms = {"period": period, "time_zone": time_zone, "currency": currency, "kind": kind}
    body: dict[str, Any] = {n: v for n, v in (scope | terms).items() if v}
    if ladder:
        body["ladder"] = [step(text) for text in ladder]
    body |= {"id": budget, "limit_micro": micro(amount)}
    done(desk(config, key_file).put("/budgets", body, why=why), "set budget", as_json=as_json)


@budgets.command("raise")
def raise_budget(
    budget: Id,
    amount: Amount,
    hours: Annotated[float, typer.Option(help="For so long.", min=0.01, max=24 * 366)] = 24.0,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Allow so much more for a while."""
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    path = f"/budgets/{path_of(budget, 'raise')}"
    answer = desk(config, key_file).post(path, {"micro": micro(amount), "until": until}, why=why)
    done(answer, "raised budget", as_json=as_json)


@budgets.command("remove")
def remove_budget(
    budget: Id,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Count nothing in it any more."""
    answer = desk(config, key_file).delete(f"/budgets/{path_of(budget)}", why=why)
    done(answer, "removed budget", as_json=as_json)


@budgets.command("show")
def show_budget(
    budget: Id, config: Config = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """One budget with its ladder, raises, periods and alerts."""
    found = desk(config, key_file).get(f"/budgets/{path_of(budget)}")
    if as_json:
        print_json(found)
        return
    money, zone = found["currency"], clean(found["time_zone"])
    typer.echo(
        f"{clean(found['id'])}: {_holds_for(found)}, {found['kind']}, "
        f"{units(found['effective_limit_micro'], money)} a {found['period']} ({zone}), "
        f"made by {clean(found['created_by'])}"
    )
    typer.echo(
        f"spent {units(found['spent_micro'], money)}, leased {units(found['leased_micro'], money)},"
        f" presumed spent by gateways that died {units(found['presumed_micro'], money)}"
    )
    for one in found.get("ladder", ()):
        what = one.get("model") or (f"{one['wait_s']:g} s" if one.get("wait_s") else "")
        typer.echo(f"from {one['at_share']:.0%}: {one['action']} {clean(what) if what else ''}")
    for one in found.get("raises", ()):
        amount = units(one["micro"], money)
        typer.echo(f"raised by {amount} until {one['until']}: {clean(one['by'])}")
    periods = [(when(p["start_ms"]), units(p["spent_micro"], money)) for p in found["periods"]]
    table(("period from", "spent"), periods)
    alerts = [
        (when(a["at_ms"]), f"{a['threshold']} %", units(a["spent_micro"], money),
         units(a["limit_micro"], money))
        for a in found["alerts"]
    ]  # fmt: skip
    table(("passed at", "threshold", "spent", "of"), alerts)
