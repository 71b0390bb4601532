"""The values of the control loop: what was seen, what follows from it. Nothing here acts.

Units: `_ms` UTC milliseconds since 1970, `_s` seconds, counts are calls unless they say tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class Demand(msgspec.Struct, frozen=True):
    """What one gateway has to do for one model. Totals only grow while the gateway lives."""

    running: int = 0
    queued: int = 0
    queued_tokens: int = 0
    oldest_wait_s: float = 0.0
    shed_total: int = 0
    burst_total: int = 0


class Signals(msgspec.Struct, frozen=True):
    """One gateway's `/signals`, version 1."""

    instance: str
    started: int
    """When that process began; another value means that its totals began anew."""
    at: int
    models: Mapping[str, Demand]
    version: int = 1


class Supply(msgspec.Struct, frozen=True):
    """Replicas of one model as the gateways see them."""

    ready: int
    is_coming: bool = False
    """More is being started: counted as coming, not asked for twice."""


class Samples(msgspec.Struct, frozen=True):
    """Everything seen at one tick: the whole input of `step` but the plan and the tick before."""

    at_ms: int
    gateways: tuple[Signals, ...] = ()
    missing: tuple[str, ...] = ()
    """Sources that did not answer, with the reason: the sample is partial."""
    supply: Mapping[str, Supply] | None = None
    """By model; None when no gateway could say."""


class Plan(msgspec.Struct, frozen=True):
    """What the settings say of one model."""

    model: str
    slots: int
    """Calls that one replica runs at once."""


class Scale(msgspec.Struct, frozen=True, tag="scale"):
    """Have this many replicas."""

    model: str
    replicas: int
    reason: str


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """Leave the number as it is."""

    model: str
    reason: str


Decision: TypeAlias = Scale | Hold


class Tick(msgspec.Struct, frozen=True):
    """One line of the journal: inputs and outputs, so that replay can compare."""

    samples: Samples
    before: Samples | None
    plans: tuple[Plan, ...]
    decisions: tuple[Decision, ...]
