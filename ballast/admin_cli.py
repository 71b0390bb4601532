"""`ballast tenants|projects|switch|admins ...`: who may do what, over the admin API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import (
    AsJson,
    Concurrent,
    Config,
    Days,
    KeyFile,
    Plan,
    RequestsPerMin,
    TokensPerMin,
    Why,
    allowance,
    expiry,
)
from ballast.admin_words import clean, done, new_administrator, table, when
from ballast.messages import say
from ballast.printing import print_json

tenants = typer.Typer(help="Tenants: whose data may go where, and who is let in.")
switch = typer.Typer(help="Kill switches: stop everything new of a model, a tenant, a provider ...")
admins = typer.Typer(help="Administrators: people and services that may use these commands.")
Residency = Annotated[str, typer.Option(help="premises, mainland, named or anywhere.")]
Countries = Annotated[
    list[str] | None, typer.Option("--jurisdiction", help="With `named`: us, sg, ...; repeat.")
]
Scope = Annotated[
    str, typer.Argument(metavar="SCOPE", help="all, model, tenant, provider or jurisdiction.")
]
Target = Annotated[str, typer.Argument(metavar="[NAME]", help="What of it; none with `all`.")]


@tenants.command("list")
def list_tenants(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Tenants and their projects."""
    found = desk(config, key_file).get("/directory")
    if as_json:
        print_json({"tenants": found["tenants"], "projects": found["projects"]})
        return
    standing = set(found["in_settings"])
    rows = [
        (
            row["id"], row["residency"], row.get("jurisdictions"), row.get("allowance"),
            ", ".join(_project(p) for p in found["projects"] if p["tenant"] == row["id"]),
            "suspended" if row.get("is_suspended") else "",
            "settings" if f"tenant:{row['id']}" in standing else "directory",
        )
        for row in found["tenants"]
    ]  # fmt: skip
    table(("tenant", "residency", "where", "allowance", "projects", "state", "stands in"), rows)


def _project(row: dict[str, Any]) -> str:
    return row["name"] if row["environment"] == "prod" else f"{row['name']} ({row['environment']})"


@tenants.command("create")
def create_tenant(
    tenant: str,
    residency: Residency,
    jurisdiction: Countries = None,
    requests_per_min: RequestsPerMin = None,
    tokens_per_min: TokensPerMin = None,
    concurrent: Concurrent = None,
    plan: Plan = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a tenant. Its residency must be said; `forwarder/customer` makes a customer's row."""
    body = {"id": tenant, "residency": residency, "jurisdictions": jurisdiction or []}
    body |= allowance({}, requests_per_min, tokens_per_min, concurrent, plan)
    done(desk(config, key_file).post("/tenants", body, why=why), "made tenant", as_json=as_json)


@tenants.command("change")
def change_tenant(
    tenant: str,
    residency: Residency = "",
    jurisdiction: Countries = None,
    requests_per_min: RequestsPerMin = None,
    tokens_per_min: TokensPerMin = None,
    concurrent: Concurrent = None,
    plan: Plan = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change a residency or an allowance; what is left out stays as it is, 0 is no limit."""
    client = desk(config, key_file)
    rows = {row["id"]: row for row in client.get("/directory")["tenants"]}
    had = rows.get(tenant, {}).get("allowance") or {}
    body: dict[str, Any] = {"residency": residency} if residency else {}
    if jurisdiction or residency:
        body["jurisdictions"] = jurisdiction or []
    body |= allowance(had, requests_per_min, tokens_per_min, concurrent, plan)
    answer = client.patch(f"/tenants/{path_of(tenant)}", body, why=why)
    done(answer, "changed tenant", as_json=as_json)


@tenants.command("suspend")
def suspend_tenant(
    tenant: str,
    undo: Annotated[bool, typer.Option("--undo", help="Let it in again.")] = False,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Let none of a tenant's keys in any more."""
    body = {"is_suspended": not undo}
    answer = desk(config, key_file).patch(f"/tenants/{path_of(tenant)}", body, why=why)
    done(answer, "let in again tenant" if undo else "suspended tenant", as_json=as_json)


@tenants.command("remove")
def remove_tenant(
    tenant: str,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take away a suspended tenant that has no keys, projects and customers any more."""
    answer = desk(config, key_file).delete(f"/tenants/{path_of(tenant)}", why=why)
    done(answer, "removed tenant", as_json=as_json)


@switch.command("list")
def list_switches(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """What is stopped, since when, by whom and why."""
    found = desk(config, key_file).get("/directory")["switches"]
    if as_json:
        print_json(found)
        return
    rows = [(s["scope"], s["value"], when(s["at_ms"]), s["by"], s["why"]) for s in found]
    table(("scope", "name", "since", "by", "why"), rows)


@switch.command("throw")
def throw_switch(
    scope: Scope,
    why: Annotated[str, typer.Option(help="Kept in the history.")],
    name: Target = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Stop everything new of it, on every gateway within a second."""
    body = {"scope": scope, "value": name, "why": why}
    answer = desk(config, key_file).post("/switches", body)
    done(answer, "stopped", as_json=as_json)
    if not answer["is_known"]:
        what = say("desk.mind", scope=clean(scope), name=f"{clean(name)!r}")
        typer.echo(what, err=True)


@switch.command("back")
def take_back_switch(
    scope: Scope,
    name: Target = "",
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Let it flow again."""
    answer = desk(config, key_file).delete("/switches", scope=scope, value=name, why=why)
    done(answer, "let flow again", as_json=as_json)


@admins.command("list")
def list_administrators(
    config: Config = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Administrators by key. Those who come with a token stand in the identity provider."""
    found = desk(config, key_file).get("/directory")["administrators"]
    if as_json:
        print_json(found)
        return
    rows = [(a["id"], a["role"], a.get("tenants", "all"), a.get("expires")) for a in found]
    table(("administrator", "role", "tenants", "expires"), rows)


@admins.command("create")
def create_administrator(
    name: str,
    role: Annotated[
        str, typer.Option(help="viewer, operator, finance, auditor, reviewer or admin.")
    ],
    tenant: Annotated[
        list[str] | None, typer.Option(help="Only for this tenant; repeat. Else for all.")
    ] = None,
    days: Days = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an administrator; the key is shown once."""
    body: dict[str, Any] = {"id": name, "role": role} | expiry(days)
    if tenant:
        body["tenants"] = tenant
    client = desk(config, key_file)
    new_administrator(client, client.post("/administrators", body, why=why), as_json=as_json)


@admins.command("remove")
def remove_administrator(
    name: str,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take an administrator away; its key is unknown at once."""
    answer = desk(config, key_file).delete(f"/administrators/{path_of(name)}", why=why)
    done(answer, "removed administrator", as_json=as_json)
