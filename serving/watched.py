"""Tasks that must live as long as their process: when one dies, the process must end.

A supervisor starts a process that ended; nobody notices one that lives on without its fleet or its
drainer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


def watch(task: asyncio.Task[None], on_death: Callable[[], None]) -> None:
    """Log at ERROR and call `on_death` if `task` ends by an exception other than cancellation."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("task_died", extra={"task": task.get_name()}, exc_info=task.exception())
            on_death()

    task.add_done_callback(ended)
