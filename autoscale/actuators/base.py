"""What an actuator is, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

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


class Actuator(ABC):
    """Makes decisions true. Told the same at each tick; never asks twice for what is there."""

    name: str

    @abstractmethod
    async def apply(
        self, order: Order, fence: Fence, session: aiohttp.ClientSession
    ) -> tuple[Act, ...]:
        """What came of each decision that concerns it. Writes only while the fence leaves time, and
        raises nothing for a fault of the other side: that is an `Act` with its reason."""

    def begin(self, asked: AskedOf) -> None:  # noqa: B027 - most have nothing to do
        """We lead from now on: forget what was thought before, start from what an earlier leader
        had asked of Serve."""

    def cease(self) -> None:  # noqa: B027 - most have nothing under way
        """We no longer lead, or end: stop what is under way."""

    def hosts(self) -> Mapping[str, str]:
        """The pool of each address that holds replicas, as far as it is known."""
        return {}

    def leaving(self) -> Mapping[str, int]:
        """Running replicas on hosts that are going, by model."""
        return {}

    def short(self, at_ms: int) -> tuple[str, ...]:  # noqa: ARG002 - most know of none
        """Pools (`model/pool`) that have nothing to give now."""
        return ()
