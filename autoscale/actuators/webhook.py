"""Tells somebody else's system how many machines a pool should have, and reads back what it has.

A number, not an order: told again each minute and at each change, it is idempotent by itself. Each
message is signed and carries the lease's token; a receiver that refuses lower tokens than it has
seen is safe from a leader of yesterday.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from autoscale.acts import Act, AskedOf, Outcome
from autoscale.actuators.base import Actuator, Order
from autoscale.bodies import whole
from autoscale.lease import Fence, FencedError
from autoscale.machines import Bounds, Tags
from autoscale.records import Decision, Scale

EVERY_MS = 60_000
BODY_BYTES_MAX = 1 << 20
FAULTS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class Told(msgspec.Struct, frozen=True):
    """The answer, as far as it is given."""

    machines: int = -1
    error: str = ""


class Hook(NamedTuple):
    """Where and what to tell."""

    tags: Tags
    bounds: Bounds
    url: str
    secret_file: Path | None
    per_replica: int
    call_s: float


class WebhookActuator(Actuator):
    """Remembers the number told last."""

    def __init__(self, hook: Hook) -> None:
        self.name = f"webhook/{hook.tags.pool}"
        self._hook = hook
        self._wanted = -1
        self._told: tuple[int, int] = (-1, 0)
        """Number and when."""
        self._seen = -1

    def begin(self, asked: AskedOf) -> None:  # noqa: ARG002 - protocol
        """See `Actuator`."""
        self._wanted, self._told, self._seen = -1, (-1, 0), -1

    async def apply(
        self, order: Order, fence: Fence, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """See `Actuator`."""
        tags, at_ms = self._hook.tags, order.samples.at_ms
        decision = next((d for d in order.decisions if d.model == tags.model), None)
        why = self._decide(decision)
        if self._wanted < 0:
            return (self._act("kept", "nothing decided yet"),)
        told, told_ms = self._told
        if told == self._wanted and 0 <= at_ms - told_ms < EVERY_MS:
            return (self._act("kept" if self._seen in (-1, told) else "coming", why or "told"),)
        try:
            answer = await self._tell(order, fence, session)
        except FencedError as late:
            return (self._act("fenced", str(late)),)
        except FAULTS as fault:
            return (self._act("unknown", f"{type(fault).__name__}: {fault}"[:300]),)
        if answer.error:
            return (self._act("refused", answer.error[:300]),)
        self._told, self._seen = (self._wanted, at_ms), answer.machines
        return (self._act("asked" if told != self._wanted else "kept", why or "told"),)

    def _decide(self, decision: Decision | None) -> str:
        """Take over the number, within our own bounds; which of them cut it."""
        if not isinstance(decision, Scale):
            return ""
        hook = self._hook
        wanted = decision.pools.get(hook.tags.pool, 0) * hook.per_replica
        most, price = hook.bounds.machines_max, hook.bounds.price_micro
        if hook.bounds.hour_micro_max is not None and price:
            most = min(most, hook.bounds.hour_micro_max // price)
        self._wanted = min(wanted, most)
        return f"{wanted} wanted, our own bounds allow {most}" if wanted > most else ""

    async def _tell(self, order: Order, fence: Fence, session: aiohttp.ClientSession) -> Told:
        hook = self._hook
        body = msgspec.json.encode({
            "version": 1, "deployment": hook.tags.deployment, "model": hook.tags.model,
            "pool": hook.tags.pool, "machines": self._wanted, "fence": fence.token,
            "hour_micro_max": hook.bounds.price_micro_max, "at_ms": order.samples.at_ms,
        })  # fmt: skip
        headers = {"content-type": "application/json"}
        if hook.secret_file is not None:
            secret = hook.secret_file.read_bytes().strip()
            signed = hmac.new(secret, body, hashlib.sha256).hexdigest()
            headers["x-ballast-signature"] = f"sha256={signed}"
        timeout = aiohttp.ClientTimeout(total=fence.left_s(hook.call_s))
        async with session.post(
            hook.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status >= 300:
                raise ValueError(f"{hook.url} answered {response.status}")
            text = await whole(response, BODY_BYTES_MAX)
        return msgspec.json.decode(text, type=Told) if text.strip() else Told()

    def _act(self, outcome: Outcome, reason: str) -> Act:
        tags = self._hook.tags
        return Act(self.name, tags.model, outcome, reason, self._wanted, self._seen, tags.pool)
