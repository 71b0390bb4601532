"""`ballast keys ...`: make, rotate and revoke keys; ask for one, approve it, fetch it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ballast.admin_client import Client, desk, keep, path_of
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
from ballast.admin_words import clean, done, echo, new_key, table, when
from ballast.messages import Said, named
from ballast.messages.chosen import spoken
from ballast.printing import print_json
from ballast.problem import ProblemError

TICKETS = "tickets"
"""Folder of the state folder: what fetches a key that was asked for here."""
keys = typer.Typer(help="API keys: who may call, for whom, and on which terms.")
Tenant = Annotated[str, typer.Option(help="Whose key it is.")]
Project = Annotated[str, typer.Option(help="Of the tenant.")]
Feature = Annotated[str, typer.Option(help="For the books.")]
Class = Annotated[str, typer.Option("--class", help="live, interactive, patient or batch.")]
Overflow = Annotated[
    str, typer.Option(help="May calls go to providers: allowed, never, own-keys, own-keys-first.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; repeat. Else all.")
]
Request = Annotated[str, typer.Argument(metavar="REQUEST", help="From `ballast keys requests`.")]


def _terms(feature: str, class_: str, overflow: str, models: list[str] | None) -> dict[str, Any]:
    said = {"feature": feature, "latency_class": class_, "overflow": overflow, "models": models}
    return {name: value for name, value in said.items() if value}


@keys.command("list")
def list_keys(
    tenant: Annotated[str, typer.Option(help="Only this tenant's.")] = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Keys and their terms, without their values, which nobody has."""
    found = desk(config, key_file).get("/directory")
    rows = [row for row in found["keys"] if tenant in ("", row["tenant"])]
    if as_json:
        print_json(rows)
        return
    standing, language = set(found["in_settings"]), spoken()
    columns = ("key", "tenant", "project", "class", "overflow", "models", "expires", "state",
               "stands in")  # fmt: skip
    table(
        columns,
        [
            (
                row["id"], row["tenant"], row["project"], row["latency_class"],
                row.get("overflow"), row.get("models", "all"), row.get("expires"),
                named("admin.state", "revoked", language) if row.get("is_revoked") else "",
                named("admin.state", "settings" if f"key:{row['id']}" in standing else "directory",
                      language),
            )
            for row in rows
        ],
    )  # fmt: skip
    waiting = sum(not row["approved_by"] for row in found["requests"])
    if waiting:
        echo(Said("admin.waiting", count=waiting))


@keys.command("create")
def create_key(
    key: str,
    tenant: Tenant,
    project: Project = "default",
    feature: Feature = "",
    class_: Class = "",
    overflow: Overflow = "",
    model: Models = None,
    exposure: Annotated[str, typer.Option(help="Decision headers: none, class or full.")] = "",
    forwarder: Annotated[
        bool, typer.Option("--forwarder", help="An upstream gateway that names its customers.")
    ] = False,
    canary: Annotated[
        bool, typer.Option("--canary", help="For measuring: it may name the target of a call.")
    ] = False,
    requests_per_min: RequestsPerMin = None,
    tokens_per_min: TokensPerMin = None,
    concurrent: Concurrent = None,
    plan: Plan = None,
    days: Days = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a tenant; its value is shown once."""
    body = {"id": key, "tenant": tenant, "project": project} | expiry(days)
    body |= _terms(feature, class_, overflow, model)
    body |= allowance({}, requests_per_min, tokens_per_min, concurrent, plan)
    body |= {"is_forwarder": True} if forwarder else {}
    body |= {"is_canary": True} if canary else {}
    body |= {"exposure": exposure} if exposure else {}
    client = desk(config, key_file)
    new_key(client, client.post("/keys", body, why=why), "made key", as_json=as_json)


@keys.command("rotate")
def rotate_key(
    key: str,
    grace_hours: Annotated[
        float, typer.Option(help="The old value stays good so long.", min=0, max=720)
    ] = 24.0,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new value, shown once. After a leak: --grace-hours 0."""
    client = desk(config, key_file)
    body = {"grace_s": round(grace_hours * 3600)}
    answer = client.post(f"/keys/{path_of(key, 'rotate')}", body, why=why)
    new_key(client, answer, "rotated key", as_json=as_json)


@keys.command("revoke")
def revoke_key(
    key: str,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a key and all its values, for ever."""
    answer = desk(config, key_file).post(f"/keys/{path_of(key, 'revoke')}", {}, why=why)
    done(answer, "revoked key", as_json=as_json)


@keys.command("request")
def request_key(
    key: str,
    why: Annotated[str, typer.Option(help="What it is for.")],
    tenant: Annotated[str, typer.Option(help="Left out: that of the API key in use.")] = "",
    project: Project = "default",
    feature: Feature = "",
    class_: Class = "",
    overflow: Overflow = "",
    model: Models = None,
    days: Days = None,
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a key. An administrator approves it; then fetch it here.

    --key-file may hold an API key: it asks for another of its tenant's.
    """
    client = desk(config, key_file)
    body = {"key": key, "tenant": tenant, "project": project, "why": why} | expiry(days)
    answer = client.post("/key-requests", body | _terms(feature, class_, overflow, model))
    keep(_ticket(client, answer["id"]), answer["ticket"])
    if as_json:
        print_json(answer)
        return
    echo(Said("admin.asked_for", key=clean(key), request=clean(answer["id"])))
    echo(Said("admin.then_fetch", request=clean(answer["id"])))


@keys.command("requests")
def list_requests(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Keys that were asked for: who approves what is waiting, and what waits to be fetched."""
    found = desk(config, key_file).get("/key-requests")["requests"]
    if as_json:
        print_json(found)
        return
    rows = [
        (r["id"], r["key"], f"{r['tenant']}:{r['project']}", r["by"], when(r["at_ms"]), r["why"],
         _state(r))
        for r in found
    ]  # fmt: skip
    table(("request", "key", "of", "by", "asked", "why", "state"), rows)


@keys.command("approve")
def approve_request(
    request: Request,
    is_shown: Annotated[
        bool, typer.Option("--show", help="Show the key here, instead of to the asker.")
    ] = False,
    refuse: Annotated[bool, typer.Option("--refuse", help="Take the request away.")] = False,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Approve a key that was asked for; the asker fetches it, once."""
    if refuse and is_shown:
        raise ProblemError(Said("admin.two_wishes"), Said("admin.leave_one"))
    client = desk(config, key_file)
    path = f"/key-requests/{path_of(request, 'refuse' if refuse else 'approve')}"
    answer = client.post(path, {} if refuse else {"show": is_shown}, why=why)
    if "key" in answer:
        new_key(client, answer, "approved request", as_json=as_json)
    else:
        done(answer, "refused request" if refuse else "approved request", as_json=as_json)


@keys.command("fetch")
def fetch_key(
    request: Request, config: Config = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Fetch a key that was asked for here and is approved; its value is shown once."""
    client = desk(config, key_file)
    file = _ticket(client, request)
    try:
        ticket = file.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise ProblemError(
            Said("admin.no_ticket", request=clean(request)), Said("admin.fetch_there")
        ) from None
    answer = client.post(f"/key-requests/{path_of(request, 'fetch')}", {"ticket": ticket})
    file.unlink(missing_ok=True)
    new_key(client, answer, "fetched the key of request", as_json=as_json)


def _state(request: dict[str, Any]) -> str:
    who = request["approved_by"]
    said = Said("admin.approved_by", who=who) if who else Said("admin.waits")
    return said.told(spoken())


def _ticket(client: Client, request: str) -> Path:
    """Where a request's ticket lies; its name holds nothing but letters and digits."""
    name = "".join(c for c in request if c.isalnum())
    return client.settings.state_dir.expanduser() / TICKETS / name
