"""The interpreter and the sources that Ballast is measured with.

A report is of one Python build. The measuring side runs where it is; Ballast may run with another
interpreter (as the image ships it) and from another folder (a copy that was changed).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

ROOT = Path(__file__).resolve().parents[2]
_ASK_S_MAX = 60.0
_ASK = """
import importlib.metadata as m, json, sys
from benchmarks.gateway.machine import python_build
found = {name: m.version(name) for name in ("uvloop", "httptools", "msgspec")}
print(json.dumps({"python": python_build(), **found}))
"""


class Build(NamedTuple):
    """What runs Ballast."""

    python: str
    source: Path

    def versions(self) -> dict[str, str]:
        """Of the interpreter and of what stands beside the table. Raises Unusable."""
        try:
            done = subprocess.run(
                [self.python, "-c", _ASK], cwd=self.source, capture_output=True, text=True,
                timeout=_ASK_S_MAX, check=True,
            )  # fmt: skip
        except OSError as error:
            raise Unusable(f"--python {self.python}: {error.strerror}") from error
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise Unusable(
                f"--python {self.python} does not run Ballast from {self.source} ({said[-1]}): "
                "give it the packages of requirements/gateway.lock"
            ) from error
        return msgspec.json.decode(done.stdout, type=dict[str, str])


class Unusable(Exception):  # noqa: N818 - a state of the machine
    """That interpreter cannot run Ballast; says why and what it needs."""


HERE = Build(sys.executable, ROOT)


def flags(parser: argparse.ArgumentParser) -> None:
    """Those that name a build."""
    parser.add_argument("--python", default=HERE.python, metavar="PATH",
                        help="interpreter that runs Ballast; default this one")  # fmt: skip
    parser.add_argument("--source", type=Path, default=ROOT, metavar="DIR",
                        help="where Ballast's sources stand; default this checkout")  # fmt: skip


def named(given: argparse.Namespace) -> Build:
    """The build that the flags name."""
    return Build(given.python, given.source.resolve())
