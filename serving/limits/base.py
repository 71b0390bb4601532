"""What a limit counts, and how a process and a store of counters speak of it. Pure.

A store hands out slices: units that a process holds in memory and spends without asking. What it
spent it tells with its next question, and is told what it may hold from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from serving.errors import OwnError

KEY_CHARS_MAX = 300
"""Of a counter's name: a subject's id and what is counted."""


class Rule(NamedTuple):
    """So many units over so long a time."""

    limit: int
    length_s: float
    is_window: bool
    """A window begins with the first use after the one before ended, and is full again when it
    ends; else the units come back evenly, `limit` of them in `length_s`."""


class Ask(NamedTuple):
    """What a process says of one counter and wants of it. Units."""

    key: str
    rule: Rule
    spent: float
    """Since the last answer; negative where a call used less than it had taken."""
    held: float
    """What the last answer left it with."""
    want: float
    """To hold from now on, in all; less than it holds gives the rest back."""
    is_known: bool
    """The store was asked for this counter before: where it knows nothing, it has lost it."""
    began_ms: int = 0
    """The window that `held` and `spent` are of, as the store said; 0 when it has not yet."""
    age_s: float = 0.0
    """How long ago the window began, as far as the process knows."""


class Grant(NamedTuple):
    """What a store answers."""

    held: float
    """The process may spend this without asking."""
    left: float
    """For everybody, after that; negative when more was spent than there was."""
    began_ms: int = 0
    """Of the window, UTC; 0 without one."""
    ends_s: float = 0.0
    """Seconds until the window ends; 0 without one."""


class LimitsAway(OwnError):  # noqa: N818 - a state
    """The store of counters cannot be asked now."""

    def __init__(self, message: str) -> None:
        super().__init__("no_capacity", message)


class CounterStore(Protocol):
    """A store of counters that processes share."""

    async def settle(self, asks: Sequence[Ask]) -> list[Grant]:
        """Answer each in order. Raises LimitsAway: then nothing may be relied on."""
        ...

    async def close(self) -> None:
        """Release it."""
        ...


class Meter(Protocol):
    """One counter as the request path sees it: in memory, never waiting."""

    limit: int

    def has(self, units: float, now_s: float) -> bool:
        """Whether so many may be taken now; more than the whole limit pass when it is full."""
        ...

    def take(self, units: float, now_s: float) -> int:
        """Take units; the window they are of. After `has` only."""
        ...

    def correct(self, units: float, window: int, now_s: float) -> None:
        """Take what was used beyond what was taken, or give back when negative; nothing when the
        window is over."""
        ...

    def wait_s(self, units: float, now_s: float) -> float:
        """Seconds until so many are likely to be there."""
        ...

    def left(self, now_s: float) -> float:
        """Units that are there for all, as far as this process knows."""
        ...

    def full_s(self, now_s: float) -> float:
        """Seconds until all units are there again."""
        ...
