"""A provider of machines: four verbs, each within a time, each failing as ProviderError."""

from __future__ import annotations

from typing import Protocol

from autoscale.machines import Create, Machine, Offer, Tags


class Provider(Protocol):
    """One account somewhere that machines are rented from."""

    async def offers(self, tags: Tags, gpu: str, limit_s: float) -> tuple[Offer, ...]:
        """What may be had for this pool now."""

    async def create(self, order: Create, limit_s: float) -> Machine:
        """Order one machine; it may still be starting. The same client token gives the same
        machine."""

    async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
        """All machines with these tags, whoever ordered them."""

    async def terminate(self, machine: str, fence: int, limit_s: float) -> None:
        """Give one back. One that is gone already is no error."""
