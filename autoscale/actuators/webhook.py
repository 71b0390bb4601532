"""Tells somebody else's system how many machines a pool should have, and reads back what it has.

A number, not an order: told again each minute and at each change, it is idempotent by itself. Each
message is signed and carries the lease's token; a receiver that refuses lower tokens than it has
seen is safe from a leader of yesterday.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from autoscale.acts import Act, AskedOf, Outcome
from autoscale.actuators.base import Actuator, Order
from autoscale.actuators.orders_rule import WAIT_S_MAX, is_ahead
from autoscale.bodies import whole
from autoscale.lease import Fence, FencedError
from autoscale.machines import Bounds, Tags
from autoscale.records import Decision, Scale

EVERY_MS = 60_000
PATIENCE_S = 1.0
"""How long a tick waits for a receiver."""
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


class Waited(Exception):  # noqa: N818 - a condition, as BlockingIOError is
    """The receiver asks to be left alone for so many seconds."""

    def __init__(self, status: int, wait_s: float) -> None:
        super().__init__(f"answered {status}: told again in {wait_s:.0f} s")
        self.wait_s = wait_s


class WebhookActuator(Actuator):
    """Remembers the number told last, and since when the receiver has had another."""

    def __init__(self, hook: Hook, patience_s: float = PATIENCE_S) -> None:
        self.name = f"webhook/{hook.tags.pool}"
        self._hook = hook
        self._patience_s = patience_s
        self._visit: asyncio.Task[Act] | None = None
        self.begin({})

    def begin(self, asked: AskedOf) -> None:  # noqa: ARG002 - protocol
        """See `Actuator`."""
        self._wanted, self._seen = -1, -1
        self._told: tuple[int, int] = (-1, 0)
        """Number and when."""
        self._apart_ms = 0
        """Since when it has had another number, without coming nearer; 0: it has not."""
        self._wait_until_ms = 0

    def cease(self) -> None:
        """See `Actuator`."""
        if self._visit is not None:
            self._visit.cancel()
            self._visit = None

    def short(self, at_ms: int) -> tuple[str, ...]:
        """See `Actuator`. A receiver that says yes and does not deliver has nothing to give."""
        tags = self._hook.tags
        is_short = self._seen < self._wanted and self._is_stuck(at_ms)
        return (f"{tags.model}/{tags.pool}",) if is_short else ()

    async def apply(
        self, order: Order, fence: Fence, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """See `Actuator`. A receiver that hangs holds up no tick."""
        if self._visit is None:
            self._visit = asyncio.create_task(self._look(order, fence, session))
        await asyncio.wait({self._visit}, timeout=self._patience_s)
        if not self._visit.done():
            return (self._act("coming", "its receiver has not answered yet"),)
        visit, self._visit = self._visit, None
        return (visit.result(),)

    async def _look(self, order: Order, fence: Fence, session: aiohttp.ClientSession) -> Act:
        tags, at_ms = self._hook.tags, order.samples.at_ms
        decision = next((d for d in order.decisions if d.model == tags.model), None)
        why = self._decide(decision, at_ms)
        if self._wanted < 0:
            return self._act("kept", "nothing decided yet")
        told, told_ms = self._told
        if told == self._wanted and 0 <= at_ms - told_ms < EVERY_MS:
            return self._stands("kept", why, at_ms)
        if is_ahead(self._wait_until_ms, at_ms):
            return self._act("unknown", "its receiver asked us to wait")
        try:
            answer = await self._tell(order, fence, session)
        except FencedError as late:
            return self._act("fenced", str(late))
        except Waited as full:
            self._wait_until_ms = at_ms + round(full.wait_s * 1e3)
            return self._act("unknown", str(full))
        except FAULTS as fault:
            query = self._hook.url.partition("?")[2] or "?"  # may hold a key
            words = str(fault).replace(query, "...")
            return self._act("unknown", f"{type(fault).__name__}: {words}"[:300])
        if answer.error:
            return self._act("refused", answer.error[:300])
        self._told = self._wanted, at_ms
        self._learn(answer.machines, at_ms)
        return self._stands("asked" if told != self._wanted else "kept", why, at_ms)

    def _learn(self, machines: int, at_ms: int) -> None:
        before, self._seen = self._seen, max(-1, machines)
        if self._seen in (-1, self._wanted):
            self._apart_ms = 0
        elif not self._apart_ms or abs(self._wanted - self._seen) < abs(self._wanted - before):
            self._apart_ms = at_ms

    def _is_stuck(self, at_ms: int) -> bool:
        return bool(self._apart_ms) and at_ms - self._apart_ms > self._hook.bounds.create_ms

    def _stands(self, outcome: Outcome, why: str, at_ms: int) -> Act:
        """What came of a number that was taken."""
        has = f"it has {self._seen} of {self._wanted}"
        if self._is_stuck(at_ms):
            minutes = (at_ms - self._apart_ms) / 60e3
            lost = ", and the rest cost money" if self._seen > self._wanted else ""
            return self._act("stuck", f"{has} for {minutes:.0f} minutes{lost}")
        if outcome == "kept" and self._seen not in (-1, self._wanted):
            return self._act("coming", why or has)
        return self._act(outcome, why or "told")

    def _decide(self, decision: Decision | None, at_ms: int) -> str:
        """Take over the number, within our own bounds; which of them cut it."""
        if not isinstance(decision, Scale):
            return ""
        hook = self._hook
        wanted = decision.pools.get(hook.tags.pool, 0) * hook.per_replica
        most, price = hook.bounds.machines_max, hook.bounds.price_micro
        if hook.bounds.hour_micro_max is not None and price:
            most = min(most, hook.bounds.hour_micro_max // price)
        if min(wanted, most) != self._wanted:
            self._wanted, self._apart_ms = min(wanted, most), at_ms if self._apart_ms else 0
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
            if not secret:
                raise ValueError(f"{hook.secret_file} is empty: anybody could sign so")
            signed = hmac.new(secret, body, hashlib.sha256).hexdigest()
            headers["x-ballast-signature"] = f"sha256={signed}"
        timeout = aiohttp.ClientTimeout(total=fence.left_s(hook.call_s))
        async with session.post(
            hook.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            wait = response.headers.get("retry-after", "")
            if response.status in (429, 503) and re.fullmatch(r"\d{1,6}", wait):
                raise Waited(response.status, min(float(wait), WAIT_S_MAX))
            if response.status >= 300:
                raise ValueError(f"{hook.url} answered {response.status}")
            text = await whole(response, BODY_BYTES_MAX)
        return msgspec.json.decode(text, type=Told) if text.strip() else Told()

    def _act(self, outcome: Outcome, reason: str) -> Act:
        tags = self._hook.tags
        return Act(self.name, tags.model, outcome, reason, self._wanted, self._seen, tags.pool)
