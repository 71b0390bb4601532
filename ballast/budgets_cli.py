"""`ballast budgets ...`: how much money may be spent on whom, and how far it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import AsJson, Config, KeyFile, Why
from ballast.admin_words import clean, done, table, when
from ballast.digits import exact
from ballast.messages import Said, named, say
from ballast.messages.chosen import spoken
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
    raise ProblemError(Said("budgets.no_amount", text=clean(text)), Said("budgets.write_amount"))


def units(amount_micro: int, currency: str) -> str:
    """An amount for people: exact, for a budget of a millionth must not look like none."""
    return f"{exact(amount_micro)} {currency}"


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
        remedy = Said("budgets.steps")
        raise ProblemError(Said("budgets.no_step", text=clean(text)), remedy) from None
    return found | ({"model": more} if action == "smaller_model" else {})


@budgets.command("list")
def list_budgets(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Budgets, what is spent of them in the period under way, and thresholds passed."""
    found = desk(config, key_file).get("/budgets")
    if as_json:
        print_json(found)
        return
    language = spoken()
    rows = [
        (
            b["id"], _holds_for(b), named("budgets.kind", b["kind"], language),
            named("budgets.period", b["period"], language),
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
        typer.echo(say("budgets.leased_only", store_away=clean(found["store_away"])), err=True)


def _holds_for(row: dict[str, Any]) -> str:
    names = ("tenant", "project", "model", "provider")
    return " ".join(f"{name}={row[name]}" for name in names if row.get(name)) or say("budgets.all")


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
        say(
            "budgets.told",
            id=clean(found["id"]),
            found=_holds_for(found),
            kind=named("budgets.kind", found["kind"], spoken()),
            effective_limit_micro=units(found["effective_limit_micro"], money),
            period=named("budgets.period", found["period"], spoken()),
            zone=zone,
            created_by=clean(found["created_by"]),
        )
    )
    typer.echo(
        say(
            "budgets.sums",
            spent_micro=units(found["spent_micro"], money),
            leased_micro=units(found["leased_micro"], money),
            presumed_micro=units(found["presumed_micro"], money),
        )
    )
    for one in found.get("ladder", ()):
        what = one.get("model") or (f"{one['wait_s']:g} s" if one.get("wait_s") else "")
        typer.echo(
            say(
                "budgets.from",
                at_share=f"{one['at_share']:.0%}",
                action=one["action"],
                value=clean(what) if what else "",
            )
        )
    for one in found.get("raises", ()):
        amount = units(one["micro"], money)
        typer.echo(say("budgets.raised", amount=amount, until=one["until"], by=clean(one["by"])))
    periods = [(when(p["start_ms"]), units(p["spent_micro"], money)) for p in found["periods"]]
    table(("period from", "spent"), periods)
    alerts = [
        (when(a["at_ms"]), f"{a['threshold']} %", units(a["spent_micro"], money),
         units(a["limit_micro"], money))
        for a in found["alerts"]
    ]  # fmt: skip
    table(("passed at", "threshold", "spent", "of"), alerts)
