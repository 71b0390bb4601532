"""Instructions that a process executes in user mode, counted by valgrind's callgrind.

A virtual CPU runs the process some fifty times slower and counts each instruction, so other work on
the machine changes nothing. The kernel's own work is not in the count. Counting is off while the
process starts; threads are told apart.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gateway.processes import Started

WAIT_S_MAX = 60.0
_TOTALS = re.compile(rb"^totals: (\d+)", re.MULTILINE)


class CallgrindMissing(Exception):  # noqa: N818 - a state of the machine
    """Nothing can be counted here; says why and what to install."""


class Count(NamedTuple):
    """Instructions since the last count."""

    main: float
    """Of the first thread."""
    aside: float
    """Of all others."""

    @property
    def total(self) -> float:
        """Of the process."""
        return self.main + self.aside

    def less(self, each_s: Count, seconds: float) -> Count:
        """Without what so many seconds of idleness cost."""
        return Count(self.main - each_s.main * seconds, self.aside - each_s.aside * seconds)

    def over(self, parts: float) -> Count:
        """Of one of so many parts."""
        return Count(self.main / parts, self.aside / parts)


def version() -> str:
    """Of the valgrind here. Raises CallgrindMissing."""
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        raise CallgrindMissing("valgrind is not installed; Debian's package is `valgrind`")
    done = subprocess.run(
        ["valgrind", "--version"], capture_output=True, text=True, timeout=WAIT_S_MAX, check=True
    )
    return done.stdout.strip().removeprefix("valgrind-")


def under(command: Sequence[str], out: Path) -> list[str]:
    """The command that runs `command` with its counts at `out`; hashes are the same each time."""
    return [
        "env", "PYTHONHASHSEED=0", "valgrind", "--tool=callgrind", "--instr-atstart=no",
        "--separate-threads=yes",
        "--trace-children=yes", f"--callgrind-out-file={out}", *command,
    ]  # fmt: skip


class Counter:
    """Counts one process that was started by `under`."""

    def __init__(self, started: Started, out: Path) -> None:
        self._started = started
        self._out = out
        self._control("--instr=on")

    def take(self) -> Count:
        """Since the last call. Raises StartFailed where the process has ended."""
        self._control("--dump")
        main = aside = 0
        parts = list(self._out.parent.glob(f"{self._out.name}.*-*"))
        for part in parts:
            found = _TOTALS.search(part.read_bytes())
            count = int(found[1]) if found else 0
            if part.name.endswith("-01"):
                main += count
            else:
                aside += count
            part.unlink()
        if not parts:
            raise self._started.failure("callgrind counted nothing")
        return Count(main, aside)

    def _control(self, what: str) -> None:
        command = ["callgrind_control", what, str(self._started.pid)]
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S_MAX, check=False)
        if done.returncode or self._started.process.poll() is not None:
            said = (done.stdout + done.stderr).decode("utf-8", "replace")
            raise self._started.failure(f"callgrind does not answer: {said.strip()[-200:]}")
