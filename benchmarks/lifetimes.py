"""Processes that end with whoever measures, also where that one is killed, as by `timeout`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence


def bound(command: Sequence[str], number: str = "KILL") -> list[str]:
    """The command, which the kernel sends this signal when the thread that started it ends, with
    its process or by itself: so start it from one that stays. Without `setpriv` (util-linux) the
    command as it is."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", number, *command] if setpriv else [*command]
