"""Programs that measurements and checks use and Ballast does not, in environments of their own.

Made once by uv, under the user's cache, named by what is in it; the package index is uv's own
setting (`UV_DEFAULT_INDEX`). Nothing of it gets into the project's environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MAKE_S_MAX = 600.0


class ToolMissing(Exception):  # noqa: N818 - a state
    """It cannot be had here; says why."""


def home() -> Path:
    """Where environments stand."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ballast" / "tools"


def folder(requirements: Sequence[str]) -> Path:
    """The environment's folder: another version is another one."""
    mark = hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:12]
    name = requirements[0].partition("==")[0]
    return home() / f"{name}-{mark}"


def made(requirements: Sequence[str], command: str) -> Path:
    """The path of `command` of an environment with these packages. Raises ToolMissing."""
    place = folder(requirements)
    found = place / "bin" / command
    if found.exists():
        return found
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise ToolMissing("no `uv` here; `make install` brings it")
    shutil.rmtree(place, ignore_errors=True)
    making = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        _run([uv, "venv", "--quiet", "--python", "3.11", "--relocatable", str(making)])
        python = str(making / "bin" / "python")
        _run([uv, "pip", "install", "--quiet", "--python", python, *requirements])
        if not (making / "bin" / command).exists():
            raise ToolMissing(f"{requirements[0]} brings no `{command}`")
        making.rename(place)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return found


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MAKE_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolMissing(f"{' '.join(command[:3])}: not done in {MAKE_S_MAX:g} s") from None
    if done.returncode:
        raise ToolMissing(f"{' '.join(command[:3])}: {done.stderr.strip()[-600:]}")
