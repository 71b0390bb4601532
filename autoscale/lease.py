"""Who may write: one controller at a time, and for how long.

A lease gives a token that only grows, so that what an earlier leader still sends can be told from
what the leader of now sends. Every write asks its `Fence` first and takes no longer than the fence
leaves: a lease that cannot be renewed stops writing before anybody else may begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

MARGIN = 1 / 3
"""Of the lease's length, unused at its end: clocks run at different speeds, and a write under way
must have ended before the next leader's first."""


class FencedError(Exception):
    """The lease is over or somebody else's: nothing may be written."""


@dataclass(frozen=True, slots=True)
class Granted:
    """We lead, under `token`, until `until_s` of the loop's clock."""

    token: int
    until_s: float


@dataclass(frozen=True, slots=True)
class Denied:
    """We do not."""

    reason: str


Grant: TypeAlias = Granted | Denied


class Lease(Protocol):
    """One place where a deployment's controllers agree."""

    async def ask(self) -> Grant:
        """Take or renew it, once. Raises nothing: what fails is a `Denied` that says why, or a
        `Granted` that is as old as the last renewal."""

    async def release(self) -> None:
        """Let the next one begin at once. Raises nothing."""


def next_token(before: int, now_ms: int) -> int:
    """Above every earlier token, also where the place that kept them was lost: then the clock's
    milliseconds stand in."""
    return max(before + 1, now_ms)


class Fence:
    """Leave to write under one token, handed to actuators; longer after each renewal."""

    def __init__(self, grant: Granted, clock: Callable[[], float]) -> None:
        self.token = grant.token
        self._until_s = grant.until_s
        self._clock = clock

    def renew(self, grant: Granted) -> None:
        """The same token was granted for longer."""
        assert grant.token == self.token
        self._until_s = grant.until_s

    def left_s(self, most_s: float) -> float:
        """How long a write that begins now may take. Raises FencedError when no time is left."""
        left_s = self._until_s - self._clock()
        if left_s <= 0.0:
            raise FencedError(f"the lease (token {self.token}) ended before the write")
        return min(most_s, left_s)
