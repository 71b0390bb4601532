"""What an actuator is, and what it is told."""

from __future__ import annotations

from typing import Protocol

import aiohttp
import msgspec

from autoscale.acts import Act, AskedOf
from autoscale.lease import Fence
from autoscale.policy import Policy
from autoscale.records import Decision, Samples


class Order(msgspec.Struct, frozen=True):
    """One tick's decisions and what they rest on."""

    decisions: tuple[Decision, ...]
    samples: Samples
    policy: Policy


class Actuator(Protocol):
    """Makes decisions true. Told the same at each tick; never asks twice for what is there."""

    name: str

    def begin(self, asked: AskedOf) -> None:
        """We lead from now on: forget what was thought before, start from what an earlier leader
        had asked of Serve."""

    async def apply(
        self, order: Order, fence: Fence, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """One `Act` or more for each decision. Writes only while the fence leaves time, and raises
        nothing for a fault of the other side: that is an `Act` with its reason."""
