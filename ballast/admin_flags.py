"""Flags that the admin commands share, and what some of them mean in a request's body."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file (YAML).", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help="File with the key to use; else the owner's.", dir_okay=False),
]
Why = Annotated[str, typer.Option(help="Kept in the history.")]
Days = Annotated[int | None, typer.Option(help="Good for so many days; else for ever.", min=1)]
RequestsPerMin = Annotated[int | None, typer.Option(help="Calls a minute; 0 is no limit.", min=0)]
TokensPerMin = Annotated[int | None, typer.Option(help="Tokens a minute; 0 is no limit.", min=0)]
Concurrent = Annotated[int | None, typer.Option(help="Calls at once; 0 is no limit.", min=0)]


def allowance(
    had: Mapping[str, int],
    requests_per_min: int | None,
    tokens_per_min: int | None,
    concurrent: int | None,
) -> dict[str, Any]:
    """The `allowance` of a body: what it was, with what is said now; nothing where nothing is."""
    given = {
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "concurrent": concurrent,
    }
    said = {name: value for name, value in given.items() if value is not None}
    return {"allowance": dict(had) | said} if said else {}


def expiry(days: int | None) -> dict[str, Any]:
    """The `expires` of a body; nothing without a number of days."""
    return {} if days is None else {"expires": (datetime.now(UTC) + timedelta(days)).isoformat()}
