"""What `step` remembers from tick to tick, as values that the journal can write. Bounded.

Everything that decides is in here or in the samples: nothing is kept in objects.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Mark(msgspec.Struct, frozen=True):
    """Totals of one gateway at the last tick, by model: served, shed and burst, as (calls, prompt
    tokens, output tokens); served calls are not counted."""

    instance: str
    started: int
    totals: Mapping[str, tuple[int, ...]]


class Trend(msgspec.Struct, frozen=True):
    """The forecast's state. Demand in replicas, times in UTC milliseconds."""

    level: float = 0.0
    error: float = 0.0
    """Mean square of what the forecast missed by, one time-to-ready ahead."""
    is_started: bool = False
    season: tuple[float, ...] = ()
    """Mean demand by ten minutes of the day, UTC; negative where unknown."""
    slot: int = -1
    slot_sum: float = 0.0
    slot_s: float = 0.0
    promises: tuple[tuple[int, float], ...] = ()
    """(for when, how much) was forecast, earliest first."""


class Order(msgspec.Struct, frozen=True):
    """A replica asked for and not yet seen."""

    at_ms: int
    pool: str


class Woken(msgspec.Struct, frozen=True):
    """A replica that was started for calls that could go nowhere else."""

    count: int = 0
    """Replicas to have ready; 0: none is waited for nor kept."""
    at_ms: int = 0
    """When the last one was asked for; 0: never."""
    keep_ms: int = 0
    """Until then it is kept once it is ready; 0: the account decides at once."""
    until_ms: int = 0
    """After this it is not waited for any longer."""


class Edge(msgspec.Struct, frozen=True, cache_hash=True):
    """What replicas of a pool were seen to do at their edge (`edge`)."""

    share: float = 1.0
    """Of the model's figure; mean over the blocks."""
    spread: float = 0.0
    """Variance of the blocks."""
    blocks: float = 0.0
    """How many speak, by weight; forgotten with time."""


class Watch(msgspec.Struct, frozen=True):
    """The block under way. Work in seconds of a full replica."""

    pools: Mapping[str, int] = {}
    """Ready replicas, the same all along."""
    seen_s: float = 0.0
    """Negative: the fleet changed so lately that nothing counts yet."""
    served_s: float = 0.0
    out_s: float = 0.0
    """Overflowed, refused, late or waiting."""


class ModelMemory(msgspec.Struct, frozen=True):
    """Of one model."""

    trend: Trend = Trend()
    micro_per_work_s: float = 0.0
    """What the API would take for a second of a replica's work, in today's mix; 0 unknown."""
    listed: tuple[int, ...] = ()
    """The API's prices that this was learnt with: when they change, it is learnt anew."""
    refused: float = 0.0
    """Of the work that found no replica, the share that no API took either: 1 while it is down."""
    balances: tuple[float, ...] = ()
    """Per layer: API money saved less GPU money spent, micro-units, between minus the price of a
    start (or more, see `decide`) and 0."""
    is_on: tuple[bool, ...] = ()
    depth: int = 0
    """Layers weighed so far; those beyond `balances` are off and idle."""
    wanted: Mapping[str, int] = {}
    """By pool, as decided last."""
    ready: Mapping[str, int] = {}
    spare: int = 0
    """Of `wanted`: those beyond the number decided, in hours that are paid or until others are
    ready in their place."""
    woken: Woken = Woken()
    orders: tuple[Order, ...] = ()
    ready_s: Mapping[str, float] = {}
    """Learnt time from order to service, by pool."""
    lost_until_ms: Mapping[str, int] = {}
    """Until when a spot pool that took replicas away is not asked for more."""
    rented_ms: Mapping[str, tuple[int, ...]] = {}
    """When replicas of pools billed by the hour were ordered, earliest first."""
    watch: Watch = Watch()
    edges: Mapping[str, Edge] = {}
    does: Mapping[str, float] = {}
    """By pool: share of the model's figure that a replica is reckoned to do; 1 where unknown."""


class Memory(msgspec.Struct, frozen=True):
    """Of all."""

    at_ms: int = 0
    marks: tuple[Mark, ...] = ()
    models: Mapping[str, ModelMemory] = {}
    day: int = -1
    day_micro: float = 0.0
    """Rent since 00:00 UTC."""
