"""The actuator that changes nothing and says what it would have done."""

from __future__ import annotations

import logging

import aiohttp

from autoscale.acts import Act, AskedOf
from autoscale.actuators.base import Actuator, Order
from autoscale.lease import Fence
from autoscale.records import Decision, Scale

_log = logging.getLogger("autoscale.dry_run")


class DryRun(Actuator):
    """Logs a wish once per change."""

    name = "dry_run"

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def begin(self, asked: AskedOf) -> None:  # noqa: ARG002 - protocol
        """See `Actuator`."""
        self._said.clear()

    async def apply(
        self,
        order: Order,
        fence: Fence,  # noqa: ARG002 - protocol
        session: aiohttp.ClientSession,  # noqa: ARG002 - protocol
    ) -> tuple[Act, ...]:
        """See `Actuator`."""
        return tuple(self._one(decision) for decision in order.decisions)

    def _one(self, decision: Decision) -> Act:
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
        return Act(self.name, decision.model, "would", decision.reason, wanted)
