"""Flags that the admin commands share, and what some of them mean in a request's body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ballast.messages import Said
from ballast.problem import ProblemError

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

Plan = Annotated[
    list[str] | None,
    typer.Option(
        "--plan", metavar="WHAT=N",
        help="requests/5h, tokens/5h, requests/week, tokens/month ...; from the first use on;"
        " 0 is no limit; repeat.",
    ),
]  # fmt: skip
_PLAN = re.compile(r"(requests|tokens)/(5h|week|month)=(\d{1,13})")


def allowance(
    had: Mapping[str, int],
    requests_per_min: int | None,
    tokens_per_min: int | None,
    concurrent: int | None,
    plan: Iterable[str] | None,
) -> dict[str, Any]:
    """The `allowance` of a body: what it was, with what is said now; nothing where nothing is.
    Raises ProblemError for a plan that is none."""
    given = {
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "concurrent": concurrent,
    }
    said = {name: value for name, value in given.items() if value is not None}
    for text in plan or ():
        found = _PLAN.fullmatch(text)
        if found is None:
            raise ProblemError(f"--plan {text!r}", Said("desk.say_plan"))
        kind, length, limit = found.groups()
        said[f"{kind}_per_{length}"] = int(limit)
    return {"allowance": dict(had) | said} if said else {}


def expiry(days: int | None) -> dict[str, Any]:
    """The `expires` of a body; nothing without a number of days."""
    return {} if days is None else {"expires": (datetime.now(UTC) + timedelta(days)).isoformat()}
