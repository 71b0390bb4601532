"""Holds Ray Serve to the number of replicas decided, through its external scaler's call."""

from __future__ import annotations

import asyncio

import aiohttp

from autoscale.acts import Act, Asked, AskedOf
from autoscale.actuators import serve_rule
from autoscale.actuators.base import Actuator, Order
from autoscale.lease import Fence, FencedError
from autoscale.records import Decision
from autoscale.serve_api import WRITE_S, ServeApi, ServeRefusedError

FAULTS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class ServeActuator(Actuator):
    """Remembers what it asked for; `samples.engines` is its reading back."""

    name = serve_rule.NAME

    def __init__(self, api: ServeApi) -> None:
        self._api = api
        self.asked: dict[str, Asked] = {}

    def begin(self, asked: AskedOf) -> None:
        """See `Actuator`."""
        self.asked = dict(asked)

    async def apply(
        self, order: Order, fence: Fence, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """See `Actuator`."""
        work = (self._one(order, decision, fence, session) for decision in order.decisions)
        return tuple(await asyncio.gather(*work))

    async def _one(
        self, order: Order, decision: Decision, fence: Fence, session: aiohttp.ClientSession
    ) -> Act:
        samples, model = order.samples, decision.model
        seen = None if samples.engines is None else samples.engines.get(model)
        old = self.asked.get(model)
        extra = samples.leaving.get(model, 0)
        verdict = serve_rule.judge(decision, seen, old, samples.at_ms, extra)
        if verdict.write is not None:
            kind, error = "", ""
            try:
                limit_s = fence.left_s(WRITE_S)
                await self._api.scale(session, model, verdict.write, limit_s)
            except ServeRefusedError as refusal:
                kind, error = "refused", str(refusal)
            except FencedError as late:
                kind, error = "fenced", str(late)
            except FAULTS as fault:
                kind, error = "unknown", f"{type(fault).__name__}: {fault}"[:300]
            verdict = serve_rule.settled(verdict, old, kind, error)
        if verdict.asked is not None:
            self.asked[model] = verdict.asked
        return verdict.act
