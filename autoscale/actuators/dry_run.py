"""The actuator that changes nothing and says what it would have done."""

from __future__ import annotations

import logging
from typing import Protocol

from autoscale.records import Decision, Scale

_log = logging.getLogger("autoscale.dry_run")


class Actuator(Protocol):
    """Makes a decision true. Idempotent: it is told the same at each tick."""

    async def apply(self, decision: Decision) -> None:
        """Raises OSError or TimeoutError when the other side cannot be reached."""


class DryRun:
    """Logs a wish once per change."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    async def apply(self, decision: Decision) -> None:
        """See `Actuator`."""
        wanted = decision.replicas if isinstance(decision, Scale) else -1
        if self._said.get(decision.model, -1) != wanted:
            self._said[decision.model] = wanted
            if isinstance(decision, Scale):
                _log.info(
                    "would_scale",
                    extra={
                        "model": decision.model,
                        "replicas": wanted,
                        "reason": decision.reason,
                    },
                )
