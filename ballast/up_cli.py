"""`ballast up`: its flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ballast import plan, staged
from ballast import up as stacking
from serving.settings import load


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the command; `guard` turns problems into words."""

    @app.command()
    @guard
    def up(
        config: Annotated[
            Path | None, typer.Option("--config", "-c", help="Settings file (YAML).")
        ] = None,
        model: Annotated[
            str,
            typer.Option(help="A configured name, a folder or a hub id; else the embedded model."),
        ] = "",
        port: Annotated[
            int | None, typer.Option(help="Public port.", min=0, max=65535, show_default="8080")
        ] = None,
        engine: Annotated[bool, typer.Option(help="Start an engine on this machine.")] = True,
        stage: Annotated[
            str, typer.Option(metavar="poc|beta|scale", help="Settings of a stage, below yours.")
        ] = "",
        is_try: Annotated[
            bool, typer.Option("--try", help="Simulated providers answer; without --stage: poc.")
        ] = False,
    ) -> None:
        """Start gateway, engine and controller on this machine; Ctrl-C stops them."""
        wish = plan.Wish(model=model, port=port, has_engine=engine)
        if stage or is_try:
            staged.up(stage or "poc", config, wish, is_try=is_try)
        else:
            stacking.up(load(config), wish)
