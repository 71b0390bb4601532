"""Which GPUs serve a model within an objective, and what a million tokens then cost. Pure.

Every kind of GPU, count, variant and split that fits is filled up to the most callers that still
meet the objective, with the model's expected error counted against it; engines are added until all
callers are served, and the rent is divided by what they produce.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from models.card import Card
from models.gpu import NODE_GPUS, Gpu
from models.layout import Layout
from models.memory import DoesNotFit
from models.prices import Price
from models.rules import refusals
from models.sizing import Knowledge, Sized, size, within_states
from models.speed import NoCalibrationError
from models.steady import Demand
from models.worded import Worded, of

SEQUENCES_MAX: Final = 256
FIRST_TOKEN_ERROR: Final = 0.3
"""Expected error of the time to first token, counted against it (docs/capacity.md)."""
MTOK: Final = 1_000_000
HOUR_S: Final = 3600

PriceOf = Callable[[str, int], Price | None]
"""(kind, GPUs in one machine) -> one GPU-hour, or None."""


class Objective(msgspec.Struct, frozen=True):
    """What callers are promised, and what they ask."""

    first_token_s: float
    per_token_s: float
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    """Callers at once, over all engines."""
    context_tokens: int
    """Longest prompt with its answer."""
    cached_share: float = 0.0


class Choice(msgspec.Struct, frozen=True):
    """One way to serve it."""

    layout: Layout
    engines: int
    callers_max: int
    """That one engine serves within the objective."""
    sized: Sized
    """One engine under its share of the callers."""
    cny_per_hour: float | None
    """All engines; None without a price."""
    cny_per_mtok: float | None
    """A million tokens, prompt and answer together, at this load."""
    cny_per_mtok_output: float | None
    cny_per_mtok_full: float | None
    """With every engine as full as the objective allows."""
    price: Price | None

    @property
    def gpus(self) -> int:
        """Of all engines."""
        return self.engines * self.layout.gpus


class Excluded(msgspec.Struct, frozen=True):
    """A layout that cannot serve it."""

    layout: Layout
    reason: str


class Ranking(msgspec.Struct, frozen=True):
    """Cheapest first; those without a price come last."""

    choices: tuple[Choice, ...]
    excluded: tuple[Excluded, ...]


def rank(
    known: Knowledge, card: Card, kinds: Iterable[Gpu], objective: Objective, price_of: PriceOf
) -> Ranking:
    """Rank all layouts of `card` on `kinds`."""
    choices: list[Choice] = []
    excluded: list[Excluded] = []
    for kind in kinds:
        for layout in layouts(card, kind, objective):
            found = _choice(known, layout, objective, price_of(kind.id, layout.gpus))
            if isinstance(found, Choice):
                choices.append(found)
            else:
                excluded.append(found)
    choices.sort(key=_order)
    return Ranking(tuple(choices), tuple(excluded))


def layouts(card: Card, kind: Gpu, objective: Objective) -> Iterator[Layout]:
    """All splits of all variants over the GPUs of one machine."""
    counts = [1 << power for power in range(NODE_GPUS.bit_length())]
    for variant in card.variants:
        for count in counts:
            plain = Layout(
                card=card.id,
                variant=variant,
                gpu=kind.id,
                tensor=count,
                context_tokens=objective.context_tokens,
                sequences=min(SEQUENCES_MAX, kind.vllm.max_num_seqs),
                batched_tokens=kind.vllm.max_num_batched_tokens,
            )
            yield plain
            if card.shape.moe is not None and count > 1:
                whole = msgspec.structs.replace(plain, is_expert_parallel=True)
                if refusals(card, kind, plain):  # else it predicts the same
                    yield whole
                yield msgspec.structs.replace(whole, tensor=1, data=count)


def _choice(
    known: Knowledge, layout: Layout, objective: Objective, price: Price | None
) -> Choice | Excluded:
    card, kind = known.subjects(layout)
    layout = within_states(card, kind, layout)
    try:
        alone = size(known, layout, _demand(objective, 1))
    except NoCalibrationError as error:
        return Excluded(layout, of(error))
    if isinstance(alone, DoesNotFit):
        return Excluded(layout, alone.reasons[0])
    if not meets(alone, objective):
        return Excluded(layout, _too_slow(alone, objective))
    callers = _callers_max(known, layout, objective)
    engines = -(-objective.concurrency // callers)
    share = -(-objective.concurrency // engines)
    now = _sized(known, layout, objective, share)
    full = _sized(known, layout, objective, callers)
    rent = None if price is None else price.cny_micro / MTOK * layout.gpus
    return Choice(
        layout=layout,
        engines=engines,
        callers_max=callers,
        sized=now,
        cny_per_hour=None if rent is None else rent * engines,
        cny_per_mtok=_per_mtok(rent, now.steady.output_tokens_per_s + _prompts(now)),
        cny_per_mtok_output=_per_mtok(rent, now.steady.output_tokens_per_s),
        cny_per_mtok_full=_per_mtok(rent, full.steady.output_tokens_per_s + _prompts(full)),
        price=price,
    )


def meets(sized: Sized, objective: Objective) -> bool:
    """Whether both times, with their expected errors added, are within the objective."""
    steady = sized.steady
    return (
        steady.first_token_s * (1 + FIRST_TOKEN_ERROR) <= objective.first_token_s
        and steady.per_token_s * (1 + sized.model.error) <= objective.per_token_s
    )


def _callers_max(known: Knowledge, layout: Layout, objective: Objective) -> int:
    """Largest number of callers within the objective, by bisection: times grow with callers."""
    low, high = 1, layout.sequences + 1
    while high - low > 1:
        middle = (low + high) // 2
        if meets(_sized(known, layout, objective, middle), objective):
            low = middle
        else:
            high = middle
    return low


def _sized(known: Knowledge, layout: Layout, objective: Objective, callers: int) -> Sized:
    found = size(known, layout, _demand(objective, callers))
    assert isinstance(found, Sized), "it fitted with one caller"
    return found


def _demand(objective: Objective, callers: int) -> Demand:
    return Demand(objective.prompt_tokens, objective.output_tokens, callers, objective.cached_share)


def _prompts(sized: Sized) -> float:
    return sized.steady.prompt_tokens_per_s


def _per_mtok(rent: float | None, tokens_per_s: float) -> float | None:
    return None if rent is None else rent / (tokens_per_s * HOUR_S) * MTOK


def _too_slow(alone: Sized, objective: Objective) -> str:
    steady, error = alone.steady, alone.model.error
    template = (
        "too slow even alone: first token {first} s (+{first_error}) of {first_most}, "
        "then {token} ms (+{error}) of {token_most}"
    )
    return Worded(
        "rules.slow", template, first=f"{steady.first_token_s:.2f}",
        first_error=f"{FIRST_TOKEN_ERROR:.0%}", first_most=f"{objective.first_token_s:g}",
        token=f"{steady.per_token_s * 1e3:.1f}", error=f"{error:.0%}",
        token_most=f"{objective.per_token_s * 1e3:g}",
    )  # fmt: skip


def _order(choice: Choice) -> tuple[bool, float, int, str]:
    cost = choice.cny_per_mtok
    return cost is None, cost or 0.0, choice.gpus, choice.layout.variant
