"""A step as a process of its own, with a bound: interrupted when its time is over, so that it can
write what it has, and killed when it does not end then. It does not outlive us either: nobody would
stop a search on a rented GPU.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

GRACE_S = 60.0
"""To write a partial report."""
TAIL = 600
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
"""Loaded before any fork: after one it could wait for a lock that nobody holds any more."""


class Ended(NamedTuple):
    """What came of it."""

    code: int
    is_over: bool
    """Its time was over before it ended by itself."""
    out: str
    tail: str
    """The end of what it said."""


class Stopped(Exception):  # noqa: N818 - a state
    """By Ctrl-C; the process was told and has ended."""


def run(module: str, words: Sequence[str], budget_s: float, log: Path) -> Ended:
    """Run `python -m module words`, its standard error into `log`. Raises Stopped."""
    with log.open("ab") as err, log.with_suffix(".out").open("w+b") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words], stdout=out, stderr=err,
            stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
        is_over = False
        try:
            process.wait(max(0.1, budget_s))
        except subprocess.TimeoutExpired:
            is_over = True
            _interrupt(process)
        except KeyboardInterrupt:
            _interrupt(process)
            raise Stopped from None
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    said = log.read_bytes()[-TAIL:].decode("utf-8", "replace")
    return Ended(process.returncode, is_over, text, (said + text[-TAIL:]).strip())


def _end_with_parent() -> None:
    """Runs between fork and exec: SIGTERM for the step should we be killed. Linux only."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and see that it does; a second Ctrl-C does not hurry it."""
    process.send_signal(signal.SIGINT)
    until_s = time.monotonic() + GRACE_S
    while process.poll() is None and time.monotonic() < until_s:
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            continue
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
