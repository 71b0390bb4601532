"""Commands for a deployment in a cluster: make its identity, put its engines there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from ballast import applications_cli, identity_cli


def register(app: typer.Typer, command: Callable[[Any], Any]) -> None:
    """Add them."""
    app.command("identity")(command(identity_cli.make))
    app.command("engines")(command(applications_cli.engines))
