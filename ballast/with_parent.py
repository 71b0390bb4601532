"""A child that ends with whoever started it, however that ends: also killed, which nothing can
catch. Linux alone knows this; elsewhere a child is only ended by those who can still end it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None]:
    """For `preexec_fn`: SIGTERM for the child should we be killed. Made before the fork, for
    loading a library after it is not safe."""
    if sys.platform != "linux":
        return lambda: None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def asked() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # killed between the fork and this
            os.kill(os.getpid(), signal.SIGTERM)

    return asked
