"""Engine threads on one core, all else on another, so that neither takes the other's time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.gateway import processes

ENGINE_CORE, OTHER_CORE = 0, 1
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class TooFewCores(Exception):  # noqa: N818 - a state
    """This process may not use both cores."""


def check() -> None:
    """Raises TooFewCores."""
    allowed = os.sched_getaffinity(0)
    if not {ENGINE_CORE, OTHER_CORE} <= allowed:
        raise TooFewCores(f"needs cores {ENGINE_CORE} and {OTHER_CORE}; may use {sorted(allowed)}")


def is_engine(pid: int) -> bool:
    """Whether it is vLLM's core or worker: they name themselves so, in every server."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"VLLM::")
    except OSError:
        return False


def pin(root: int) -> int:
    """Bind the threads of the tree; how many processes of it are the engine's. Threads that come
    later inherit their maker's core."""
    engines = 0
    for pid in processes.tree(root):
        engine = is_engine(pid)
        engines += engine
        _bind(pid, ENGINE_CORE if engine else OTHER_CORE)
    return engines


def pin_self() -> None:
    """This process asks from the other core."""
    _bind(os.getpid(), OTHER_CORE)


def _bind(pid: int, core: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread), {core})


def cpu_s(root: int) -> tuple[float, float]:
    """CPU seconds so far of the tree's engine processes, and of all others."""
    members = processes.tree(root)
    engine = [pid for pid in members if is_engine(pid)]
    return _of(engine), _of(set(members) - set(engine))


def _of(pids: Iterable[int]) -> float:
    """Without ended children: none ends under way."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S
