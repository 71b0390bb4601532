"""`ballast keys change|remove`: another class, models, expiry, limits; or away with it."""

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
from ballast.admin_words import done
from ballast.keys_cli import keys
from ballast.messages import Said
from ballast.problem import ProblemError

Models = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model from now on; repeat.")
]


@keys.command("change")
def change_key(
    key: str,
    feature: Annotated[str | None, typer.Option(help="For the books.")] = None,
    class_: Annotated[
        str, typer.Option("--class", help="live, interactive, patient or batch.")
    ] = "",
    overflow: Annotated[str, typer.Option(help="allowed or never.")] = "",
    exposure: Annotated[str, typer.Option(help="Decision headers: none, class or full.")] = "",
    model: Models = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="No list any more.")] = False,
    days: Days = None,
    for_ever: Annotated[bool, typer.Option("--for-ever", help="No expiry any more.")] = False,
    requests_per_min: RequestsPerMin = None,
    tokens_per_min: TokensPerMin = None,
    concurrent: Concurrent = None,
    plan: Plan = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what a key may do; what is left out stays as it is. The history keeps both."""
    if (model and all_models) or (days is not None and for_ever):
        raise ProblemError(Said("desk.two_wishes"), Said("desk.leave_one"))
    said = {"latency_class": class_, "overflow": overflow, "exposure": exposure, "models": model}
    body: dict[str, Any] = {name: value for name, value in said.items() if value}
    body |= {"feature": feature} if feature is not None else {}
    body |= {"models": None} if all_models else {}
    body |= {"expires": None} if for_ever else expiry(days)
    client = desk(config, key_file)
    rows = {row["id"]: row for row in client.get("/directory")["keys"]}
    had = rows.get(key, {}).get("allowance") or {}
    body |= allowance(had, requests_per_min, tokens_per_min, concurrent, plan)
    if not body:
        raise ProblemError(Said("desk.nothing"), Said("desk.say_what"))
    answer = client.patch(f"/keys/{path_of(key)}", body, why=why)
    done(answer, "changed key", as_json=as_json)


@keys.command("remove")
def remove_key(
    key: str,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take away the row of a key that was revoked or has expired; it stays unknown."""
    answer = desk(config, key_file).delete(f"/keys/{path_of(key)}", why=why)
    done(answer, "removed key", as_json=as_json)
