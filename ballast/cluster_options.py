"""The options of `ballast doctor` that ask about a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cluster = Annotated[
    Path | None, typer.Option(help="Look at a cluster: the chart's file of what it wants.")
]
KubeApi = Annotated[str, typer.Option(help="Its API, from `kubectl proxy`; else a pod's.")]
Upgrade = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="OLD NEW", help="Two manifests or values: what an upgrade would do."),
]
Chart = Annotated[
    list[Path] | None,
    typer.Option(help="The chart that renders values of --upgrade; twice: the old one, the new."),
]
Release = Annotated[
    str, typer.Option(metavar="NAMESPACE/NAME", help="Release that values are rendered as.")
]
