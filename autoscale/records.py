"""The values of the control loop: what was seen, what follows from it. Nothing here acts.

Units: `_ms` UTC milliseconds since 1970, `_s` seconds, counts are calls unless they say tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from autoscale.acts import Act, Asked
from autoscale.memory import Memory
from autoscale.policy import Policy


class Demand(msgspec.Struct, frozen=True):
    """What one gateway has to do for one model. Totals only grow while the gateway lives.

    Calls that no replica could have served in time are in none of `shed` and `burst`.
    """

    running: int = 0
    queued: int = 0
    queued_tokens: int = 0
    """Prompt and expected output."""
    oldest_wait_s: float = 0.0
    shed_total: int = 0
    burst_total: int = 0
    served_prompt_total: int = 0
    """Tokens, as the next five: what own engines did, what was refused, what went to an API."""
    served_output_total: int = 0
    shed_prompt_total: int = 0
    shed_output_total: int = 0
    burst_prompt_total: int = 0
    burst_output_total: int = 0
    late_total: int = 0
    """Calls that had to stay (no API may or would take them) and whose first token came too late;
    their tokens are in `served` too."""
    late_prompt_total: int = 0
    late_output_total: int = 0
    bound_total: int = 0
    """Of `shed_total`, the calls that no third party may see: they could not have left."""
    is_shut: bool = False
    """Third parties are configured, and the breaker of each one is open now."""


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
    pools: Mapping[str, int] | None = None
    """Ready ones by pool; None where there is one pool, or nobody can tell."""


class Engines(msgspec.Struct, frozen=True):
    """Replicas of one model as Ray Serve counts them."""

    target: int
    running: int = 0
    starting: int = 0
    stopping: int = 0
    message: str = ""
    """What Serve says of a start that failed."""


class Samples(msgspec.Struct, frozen=True):
    """Everything seen at one tick: the whole input of `step` but the policy and its memory."""

    at_ms: int
    gateways: tuple[Signals, ...] = ()
    missing: tuple[str, ...] = ()
    """Sources that did not answer, with the reason: the sample is partial."""
    supply: Mapping[str, Supply] | None = None
    """By model; None when no gateway could say."""
    engines: Mapping[str, Engines] | None = None
    """By model; None without Ray Serve, or when it did not answer."""
    short: tuple[str, ...] = ()
    """Pools (`model/pool`) whose provider or cluster says now that it has no machine to give."""
    leaving: Mapping[str, int] = {}
    """Running replicas on hosts that are going, by model: their successors are started first."""


class Scale(msgspec.Struct, frozen=True, tag="scale"):
    """Have this many replicas."""

    model: str
    replicas: int
    reason: str
    pools: Mapping[str, int] = {}
    """Of each pool; they sum to `replicas`."""
    numbers: Mapping[str, float] = {}
    """What the reason rests on, by name."""


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """Leave the number as it is."""

    model: str
    reason: str
    numbers: Mapping[str, float] = {}


Decision: TypeAlias = Scale | Hold


class Tick(msgspec.Struct, frozen=True):
    """One line of the journal: inputs and outputs, so that replay can compare."""

    samples: Samples
    policy: Policy | None
    """None: as on the line before."""
    memory: Memory | None
    """What `step` knew before; None: what the line before left."""
    decisions: tuple[Decision, ...]
    acts: tuple[Act, ...] = ()
    """What came of them; failed writes with their error, so that these can be replayed too."""
    asked: Mapping[str, Asked] | None = None
    """What Serve had been asked for before this tick."""
    token: int = 0
    """Of the lease under which it was done; 0: none, and nothing was written anywhere."""
