"""`ballast fake engine|provider`: hands over to the simulated engine or provider."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ballast.messages import Said, named, say
from ballast.messages.chosen import spoken
from ballast.problem import ProblemError

SETTINGS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def register(
    app: typer.Typer, command: Callable[[Callable[..., None]], Callable[..., None]]
) -> None:
    """Add the command."""

    def fake(
        context: typer.Context,
        kind: Annotated[str, typer.Argument(metavar="engine|provider")] = "--help",
    ) -> None:
        """Run a simulated engine or a misbehaving provider; each has a --help of its own."""
        if kind in ("-h", "--help"):
            typer.echo(say("problem.fake_usage"))
            return
        if kind not in ("engine", "provider"):
            raise ProblemError(Said("problem.no_fake", kind=repr(kind)), Said("problem.fake_help"))
        if kind == "provider" and "--list" in context.args:
            _list_scenarios()
            return
        module = f"serving.fakes.{kind}"
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606

    app.command(context_settings=SETTINGS)(command(fake))


def _list_scenarios() -> None:
    from serving.fakes.scenarios import SCENARIOS

    width = max(map(len, SCENARIOS))
    for name in SCENARIOS:
        typer.echo(f"{name:<{width}}  {named('fake.scenario', name, spoken())}")
