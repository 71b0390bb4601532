"""`ballast projects ...`: a tenant's features and environments, and what they may ask for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import (
    AsJson,
    Concurrent,
    Config,
    KeyFile,
    Plan,
    RequestsPerMin,
    TokensPerMin,
    Why,
    allowance,
)
from ballast.admin_words import done

projects = typer.Typer(help="Projects: a tenant's features and environments.")


@projects.command("create")
def create_project(
    tenant: str,
    name: str,
    environment: Annotated[str, typer.Option(help="prod, dev or test.")] = "prod",
    owner: Annotated[str, typer.Option(help="Who answers for it, in words.")] = "",
    requests_per_min: RequestsPerMin = None,
    tokens_per_min: TokensPerMin = None,
    concurrent: Concurrent = None,
    plan: Plan = None,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a project of a tenant."""
    body: dict[str, Any] = {"tenant": tenant, "name": name}
    body |= {"environment": environment, "owner": owner}
    body |= allowance({}, requests_per_min, tokens_per_min, concurrent, plan)
    done(desk(config, key_file).post("/projects", body, why=why), "made project", as_json=as_json)


@projects.command("remove")
def remove_project(
    tenant: str,
    name: str,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take away a project that no key names any more."""
    answer = desk(config, key_file).delete(f"/projects/{path_of(f'{tenant}:{name}')}", why=why)
    done(answer, "removed project", as_json=as_json)
