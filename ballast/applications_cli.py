"""`ballast engines`: put the engines of the settings onto a Ray cluster that runs already."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from ballast.applications import put
from ballast.printing import print_json
from serving.settings import load

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file.", dir_okay=False)]
Device = Annotated[Literal["gpu", "cpu"], typer.Option(help="What the cluster's engines run on.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the cluster.", min=0)]


def engines(config: Config, device: Device = "gpu", wait: Wait = 0.0) -> None:
    """Put the settings' engines onto the Ray cluster of `fleet.serve_url`; what runs as wanted is
    left alone, and the number of replicas stays the controller's."""
    print_json({"event": "engines_put", "changes": asyncio.run(put(load(config), device, wait))})
