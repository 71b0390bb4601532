"""`ballast bench run|capacity|compare|acceptance|drill`: hands over to `benchmarks.load`."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable

import typer

from ballast.fake import SETTINGS
from ballast.messages import Said
from ballast.messages.chosen import VARIABLE, spoken
from ballast.problem import ProblemError

MODULE = "benchmarks.load"


def register(
    app: typer.Typer, command: Callable[[Callable[..., None]], Callable[..., None]]
) -> None:
    """Add the command."""

    def bench(context: typer.Context) -> None:
        """Load-test any OpenAI-compatible endpoint: run, capacity or compare; acceptance: an
        hour of a rented GPU; or drill: faults under load. Each has a --help of its own."""
        if not is_here():
            raise ProblemError(
                Said("cli.no_bench"),
                Said("cli.in_checkout"),
            )
        environ = {**os.environ, VARIABLE: spoken()}  # `--lang` too reaches what runs now
        words = [sys.executable, "-m", MODULE, *context.args]
        os.execve(sys.executable, words, environ)  # noqa: S606

    app.command(context_settings=SETTINGS)(command(bench))


def is_here() -> bool:
    """Whether this is a checkout; another distribution may ship a package of the same name."""
    try:
        return importlib.util.find_spec(MODULE) is not None
    except ModuleNotFoundError:
        return False
