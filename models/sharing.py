"""Several models on one or two GPUs: who sits where, with what share of memory, and who sleeps.

Those always wanted share the memory; those wanted rarely take turns in what is left, and sleep
between (vLLM's sleep mode keeps their weights in host memory and gives the GPU back). Pure: a plan,
or a refusal with the numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec

from models.bulk import GIB
from models.card import Card
from models.gpu import Gpu
from models.layout import Feature, Layout
from models.memory import SMALL_SEQUENCES, SMALL_TOKENS, DoesNotFit, Fits, budget_of, fit, split_of
from models.pool import pool_of
from models.rules import refusals
from models.worded import Worded

SHARE_MAX = 0.95
"""Of a GPU's memory that engines may claim together; driver and contexts need the rest."""
ASLEEP_GIB = 1.0
"""A sleeping engine keeps its CUDA context and graphs. ASSUMED from vLLM's sleep mode reports."""
AWAKE: frozenset[Feature] = frozenset({"prefix_caching"})
SLEEPER: frozenset[Feature] = AWAKE | {"sleep"}
HYBRID = "waking a hybrid failed in earlier releases (#41563): try it"
GPUS_MAX = 2
WISHES_MAX = 6


class Wish(msgspec.Struct, frozen=True):
    """A model that is to live on the shared GPUs."""

    card: Card
    variant: str
    context_tokens: int = 8192
    sequences: int = 4
    """At once, each with its full context."""
    is_rare: bool = False
    """It may sleep, and a call for it may wait for some seconds."""


class Seat(msgspec.Struct, frozen=True):
    """Where a wish sits."""

    wish: Wish
    layout: Layout
    gpus: tuple[int, ...]
    """Indices of its GPUs."""
    needs_gib: float
    """On each of them."""
    fits: Fits


class Shared(msgspec.Struct, frozen=True):
    """All wishes sit. Start the rare ones first and put them to sleep, then the others."""

    seats: tuple[Seat, ...]
    free_gib: tuple[float, ...]
    """Of each GPU, unclaimed."""
    host_gib: float
    """Host memory that sleeping weights take."""
    cautions: tuple[str, ...] = ()


class NotShared(msgspec.Struct, frozen=True):
    """It cannot be, and by how much."""

    reasons: tuple[str, ...]


def share(gpu: Gpu, count: int, wishes: Sequence[Wish]) -> Shared | NotShared:
    """Seat all wishes on `count` GPUs, 1 or 2, the roomiest way. Raises ValueError for a count or
    a number of wishes beyond what it plans."""
    if not 1 <= count <= GPUS_MAX or not 1 <= len(wishes) <= WISHES_MAX:
        template = "plans up to {models} models on 1 to {gpus} GPUs"
        raise ValueError(Worded("sharing.bounds", template, models=WISHES_MAX, gpus=GPUS_MAX))
    forbidden = tuple(
        _of(wish, reason)
        for wish in wishes
        for reason in refusals(wish.card, gpu, _layout(gpu, wish, 1))
    )
    if forbidden:
        return NotShared(forbidden)
    plans = [
        (_free(gpu, count, wishes, places), places)
        for places in itertools.product(_places(count), repeat=len(wishes))
        if not any(refusals(w.card, gpu, _layout(gpu, w, len(p)))
                   for w, p in zip(wishes, places, strict=True))
    ]  # fmt: skip
    free, places = max(plans, key=lambda plan: (min(plan[0]), -sum(map(len, plan[1]))))
    if min(free) < 0:
        return NotShared(tuple(_short(gpu, wishes, places, free)))
    return _seated(gpu, wishes, places, free)


def needs_gib(gpu: Gpu, wish: Wish, ways: int) -> float:
    """Memory that a wish takes on each of `ways` GPUs."""
    layout = _layout(gpu, wish, ways)
    budget = budget_of(wish.card, gpu, layout)
    pool = pool_of(wish.card.shape, split_of(wish.card, layout))
    kv = wish.sequences * pool.needed(wish.context_tokens) * pool.block_bytes / GIB
    return budget.weights + budget.reserve + kv


def _places(count: int) -> list[tuple[int, ...]]:
    return [(0,)] if count == 1 else [(0,), (1,), (0, 1)]


def _layout(gpu: Gpu, wish: Wish, ways: int) -> Layout:
    return Layout(
        card=wish.card.id,
        variant=wish.variant,
        gpu=gpu.id,
        tensor=ways,
        context_tokens=wish.context_tokens,
        sequences=min(wish.sequences, SMALL_SEQUENCES),
        batched_tokens=SMALL_TOKENS,
        memory_share=0.5,  # until it is known
        features=SLEEPER if wish.is_rare else AWAKE,
    )


def _free(
    gpu: Gpu, count: int, wishes: Sequence[Wish], places: Sequence[tuple[int, ...]]
) -> tuple[float, ...]:
    """GiB left on each GPU; below zero where it is overcommitted."""
    left = []
    for index in range(count):
        here = [
            (wish, needs_gib(gpu, wish, len(place)))
            for wish, place in zip(wishes, places, strict=True)
            if index in place
        ]
        awake = sum(need for wish, need in here if not wish.is_rare)
        turns = max((need for wish, need in here if wish.is_rare), default=0.0)
        asleep = ASLEEP_GIB * max(0, sum(wish.is_rare for wish, _ in here) - 1)
        left.append(gpu.memory_gib * SHARE_MAX - awake - turns - asleep)
    return tuple(left)


def _short(
    gpu: Gpu, wishes: Sequence[Wish], places: Sequence[tuple[int, ...]], free: Sequence[float]
) -> Iterator[str]:
    for index, left in enumerate(free):
        here: str = ""
        for wish, place in zip(wishes, places, strict=True):
            if index in place:
                one = _needed(gpu, wish, len(place))
                both = Worded("sharing.and", "{some} + {one}", some=here, one=one)
                here = both if here else one
        if left < 0:
            had = gpu.memory_gib * SHARE_MAX
            template = "GPU {index}: {here} GiB need {need}, it has {had}: {short} GiB short"
            yield Worded("sharing.short", template, index=index, here=here,
                         need=f"{had - left:.1f}", had=f"{had:.1f}",
                         short=f"{-left:.1f}")  # fmt: skip


def _needed(gpu: Gpu, wish: Wish, ways: int) -> str:
    name, gib = f"{wish.card.id}/{wish.variant}", f"{needs_gib(gpu, wish, ways):.1f}"
    if wish.is_rare:
        return Worded("sharing.turns", "{name} {gib} (takes turns)", name=name, gib=gib)
    return f"{name} {gib}"


def _of(wish: Wish, said: str) -> str:
    return Worded("sharing.of", "{card}: {said}", card=wish.card.id, said=said)


def _seated(
    gpu: Gpu, wishes: Sequence[Wish], places: Sequence[tuple[int, ...]], free: Sequence[float]
) -> Shared | NotShared:
    seats = []
    for wish, place in zip(wishes, places, strict=True):
        need = needs_gib(gpu, wish, len(place))
        extra = min(free[i] / max(1, _awake(wishes, places, i)) for i in place)
        layout = msgspec.structs.replace(
            _layout(gpu, wish, len(place)),
            memory_share=int((need + max(0.0, extra)) / gpu.memory_gib * 1000) / 1000,
        )
        found = fit(wish.card, gpu, layout)
        if isinstance(found, DoesNotFit):
            return NotShared(tuple(_of(wish, reason) for reason in found.reasons))
        seats.append(Seat(wish, layout, place, need, found))
    rare = [seat for seat in seats if seat.wish.is_rare]
    return Shared(
        seats=tuple(seats),
        free_gib=tuple(free),
        host_gib=sum(s.fits.budget.weights * len(s.gpus) for s in rare),
        cautions=tuple(
            _of(seat.wish, Worded("sharing.hybrid", HYBRID))
            for seat in rare
            if seat.wish.card.shape.is_hybrid
        ),
    )


def _awake(wishes: Sequence[Wish], places: Sequence[tuple[int, ...]], index: int) -> int:
    """Engines that are awake together on a GPU: all but the rare ones, of which one."""
    here = [wish for wish, place in zip(wishes, places, strict=True) if index in place]
    return sum(not wish.is_rare for wish in here) + any(wish.is_rare for wish in here)
