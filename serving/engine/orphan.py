"""No engine core outlives its replica.

A replica that is killed (by the kernel for want of memory, by Ray, by hand) cannot end its core,
and vLLM 0.32 looks only from workers to their core: the core would keep its GPU's memory, and the
next replica would not start. So the worker, which runs our code, watches the replica.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import threading

import psutil


def end_with_replica(*, is_in_core: bool) -> threading.Thread | None:
    """Kill the core, and with it this worker, once the replica is gone.

    `is_in_core`: this process is the core, started by the replica; else the core started it, and
    the replica the core. None where nobody started it: core and replica are one process.
    """
    starter = multiprocessing.parent_process()
    if starter is None or starter.pid is None:
        return None
    core = os.getpid() if is_in_core else starter.pid
    watch = threading.Thread(
        target=_outlive, args=(_replica(starter.pid, is_in_core=is_in_core), core),
        name="ballast-orphan", daemon=True,
    )  # fmt: skip
    watch.start()
    return watch


def _replica(starter: int, *, is_in_core: bool) -> int:
    """Its process id; 0 where it is gone already."""
    if is_in_core:
        return starter
    try:
        return psutil.Process(starter).ppid()
    except psutil.NoSuchProcess:
        return 0


def _outlive(replica: int, core: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if replica > 1:  # else its parent is gone, and somebody else's took it over
            descriptor = os.pidfd_open(replica)
            select.select([descriptor], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(core, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
