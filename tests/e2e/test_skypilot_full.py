"""The SkyPilot provider against the real package, its API server and its Lambda provisioner, in an
environment of its own; only the cloud behind them is a stand-in on loopback, and nothing is set up
over SSH on its machines. A registry that cannot be reached fails the test.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from benchmarks.clients import environments

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]
FOLDER = Path(__file__).parent / "skypilot"
RUN_S_MAX = 600.0
CHECKS = {"prices", "launch", "others", "end", "short", "cancelled", "refused", "taken"}


class RealSkyPilot(environments.Client):
    """Made as the clients' environments are, from a lock beside its program."""

    @property
    def lock(self) -> Path:
        return FOLDER / "skypilot.txt"

    @property
    def program(self) -> Path:
        return FOLDER / "program.py"


async def walked(command: tuple[str, ...], home: Path) -> tuple[int | None, bytes]:
    root = str(environments.ROOT)
    path = f"{Path(command[0]).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command, env={"PATH": path, "HOME": str(home), "PYTHONPATH": root, "PYTHONUTF8": "1"},
        cwd=home, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUN_S_MAX):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it stops its API server
            await process.wait()
    return process.returncode, said


def test_the_real_skypilot_rents_lists_and_gives_back(tmp_path: Path) -> None:
    command = environments.make(RealSkyPilot("skypilot", False))
    code, said = asyncio.run(walked(command, tmp_path))
    lines = [line for line in said.decode(errors="replace").split("\n") if '{"check"' in line]
    told = {one["check"]: one["fault"] for one in map(json.loads, lines)}
    print("\n".join(lines))
    assert told == dict.fromkeys(CHECKS, ""), said.decode(errors="replace")[-4000:]
    assert code == 0
