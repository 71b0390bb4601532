"""What a figure must carry to be believed: commit, machine, versions, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

_LIBRARIES = ("uvloop", "httptools", "msgspec")


class Provenance(msgspec.Struct, frozen=True):
    """Where figures come from."""

    command: str
    at: str
    """Start, UTC."""
    commit: str
    is_dirty: bool
    """The working tree differed from the commit."""
    cpu_model: str
    cores: int
    load_before: tuple[float, float, float]
    """Load average over 1, 5 and 15 minutes before the run: above a few tenths it is noisy."""
    kernel: str
    versions: dict[str, str]


def provenance(
    argv: Sequence[str], root: Path, versions: dict[str, str], module: str = "benchmarks.gateway"
) -> Provenance:
    """Of a run of `module` that starts now; `versions` are those of the peers."""
    status = _git(root, "status", "--porcelain")
    own = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return Provenance(
        command=shlex.join(["python", "-m", module, *argv]),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_git(root, "rev-parse", "HEAD") or "unknown",
        is_dirty=bool(status),
        cpu_model=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        load_before=os.getloadavg(),
        kernel=platform.release(),
        versions={"python": python_build(), **own, **versions},
    )


def python_build() -> str:
    """Version, and whether profile-guided optimisation went into it: that shows in our figures.
    Debian optimises its own by profile, and its configuration does not say so."""
    if sys.base_prefix == "/usr":
        return f"{platform.python_version()} (the distribution's)"
    is_optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    return f"{platform.python_version()} ({'with' if is_optimised else 'without'} PGO)"


def _git(root: Path, *arguments: str) -> str:
    """A git command's output; empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
