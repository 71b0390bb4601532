"""Starts a process tree that can be ended for certain, and finds what is left of it.

Ray's daemons leave their parent. As a child subreaper this process inherits every orphan of its
own tree, so all of it is reachable by process id: nothing is ever killed by name. Linux only.
"""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class ProcessIdentity(NamedTuple):
    """A process id with its start time in clock ticks, which a recycled id does not share."""

    pid: int
    started_ticks: int


def become_subreaper() -> None:
    """Make orphaned descendants children of this process instead of init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process; None if it is gone or a zombie."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] == "Z":
        return None
    return ProcessIdentity(pid, int(fields[19]))


def is_alive(process: ProcessIdentity) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def descendants(root: int) -> list[int]:
    """Process ids of all live descendants of `root`, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [root]
    while queue:
        queue = [child for parent in queue for child in children.get(parent, ())]
        found += queue
    return found


async def end_tree(grace_s: float) -> list[int]:
    """End every descendant of this process: SIGTERM, then SIGKILL after `grace_s`.

    Returns the ids that survived even that (uninterruptible in the kernel), normally none.
    """
    _signal_all(descendants(os.getpid()), signal.SIGTERM)
    if await _wait_gone(grace_s):
        return []
    deadline_s = time.monotonic() + 5.0
    while time.monotonic() < deadline_s:
        # Again and again: a killed parent may have forked between the listing and the signal.
        _signal_all(descendants(os.getpid()), signal.SIGKILL)
        if await _wait_gone(0.3):
            return []
    return descendants(os.getpid())


async def _wait_gone(limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while True:
        reap_orphans()
        if not descendants(os.getpid()):
            return True
        if time.monotonic() >= deadline_s:
            return False
        await asyncio.sleep(0.1)


def reap_orphans() -> None:
    """Collect the exit status of dead children, so that they do not stay as zombies.

    asyncio's own child watcher then reports status 255 for them: only their end matters here.
    """
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _stat_fields(pid: int) -> list[str] | None:
    """/proc/<pid>/stat from the state on: the name before it may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
