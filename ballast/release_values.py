"""A release's manifest from its values file, by Helm where there is one. Asks no cluster.

Helm is another program: it is found on the PATH, waits are bounded, and its refusal is told in its
own words. A file that is a manifest already is taken as it is.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from ballast.messages import Said
from ballast.problem import ProblemError

RENDER_S_MAX = 60.0
RELEASE = re.compile(r"^([a-z0-9]([a-z0-9-]{0,62}))/([a-z0-9]([a-z0-9.-]{0,52}))$")


class Rendering(NamedTuple):
    """What renders: Helm's path (None: there is none), and the release."""

    helm: str | None
    charts: Sequence[Path]
    """None, one, or the old and the new."""
    release: str
    """`namespace/name`."""


def is_values(text: str) -> bool:
    """Whether a file holds values for the chart: one mapping that is no object of Kubernetes."""
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError:
        return False
    return len(found) == 1 and isinstance(found[0], Mapping) and "kind" not in found[0]


def manifests(paths: tuple[Path, Path], rendering: Rendering) -> tuple[str, str]:
    """The manifests of two files, of values or already rendered. Raises ProblemError."""
    texts = [read(path) for path in paths]
    charts = rendering.charts
    if len(charts) > len(paths):
        raise ProblemError(Said("cluster.many_charts"), Said("cluster.name_charts"))
    found = []
    for index, (path, text) in enumerate(zip(paths, texts, strict=True)):
        if is_values(text):
            chart = charts[min(index, len(charts) - 1)] if charts else None
            text = _render(path, chart, rendering)
        found.append(text)
    return found[0], found[1]


def read(path: Path) -> str:
    """A file's text. Raises ProblemError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(
            Said("cluster.cannot_read", path=path, error=error), Said("cluster.name_manifest")
        ) from None


def _render(path: Path, chart: Path | None, rendering: Rendering) -> str:
    by_hand = Said("cluster.render_by_hand", path=path)
    if rendering.helm is None:
        raise ProblemError(Said("cluster.no_helm", path=path), by_hand)
    if chart is None or not (chart / "Chart.yaml").is_file():
        where = str(chart) if chart else "--chart"
        raise ProblemError(Said("cluster.no_chart", chart=where), Said("cluster.name_chart"))
    named = RELEASE.match(rendering.release)
    if named is None:
        raise ProblemError(
            Said("cluster.no_release", release=rendering.release), Said("cluster.name_release")
        )
    argv = [rendering.helm, "template", named[3], str(chart), "--namespace", named[1],
            "--values", str(path)]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 - Helm as the PATH names it
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RENDER_S_MAX,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        late = Said("cluster.helm_late", path=path, seconds=f"{RENDER_S_MAX:.0f}")
        raise ProblemError(late, by_hand) from None
    except OSError as error:
        raise ProblemError(Said("cluster.helm_broken", error=error), by_hand) from None
    if done.returncode:
        said = done.stderr.strip().removeprefix("Error: ")[-1500:]
        raise ProblemError(
            Said("cluster.helm_refuses", path=path, error=said), Said("cluster.mend_file")
        )
    return done.stdout
