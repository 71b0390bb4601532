"""What a model needs of GPUs, in a line: the fewest that hold it, and the cheapest way to serve it.

For tables that compare models; the whole ranking is `rank`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

import msgspec

from models.card import Card
from models.gpu import Gpu
from models.layout import Layout
from models.memory import Fits, fit
from models.prices import Prices
from models.rank import Choice, Objective, rank
from models.sizing import Knowledge

CONTEXT: Final = 32_768
SEQUENCES: Final = 8
COUNTS: Final = (1, 2, 4, 8)
PRECISION: Final = ("bf16", "fp8_block", "fp8_channel", "w4a8", "awq_int4", "gptq_int4")
"""Of variants that need the same number of GPUs, the first is named."""
OFFICE: Final = Objective(
    first_token_s=3.0,
    per_token_s=0.05,
    prompt_tokens=2000,
    output_tokens=500,
    concurrency=32,
    context_tokens=CONTEXT,
)
"""The load that models are compared under: thirty-two people who read along."""


class Need(msgspec.Struct, frozen=True):
    """What a model needs of one kind of GPU."""

    count: int
    variant: str


def smallest(card: Card, kind: Gpu) -> Need | None:
    """The fewest GPUs of one machine with which some set of weights starts."""
    for count in COUNTS:
        for name in sorted(card.variants, key=lambda v: PRECISION.index(card.variants[v].format)):
            if any(isinstance(fit(card, kind, one), Fits) for one in _layouts(card, name, count)):
                return Need(count, name)
    return None


def _layouts(card: Card, variant: str, count: int) -> Iterator[Layout]:
    for spread in (False, True) if card.is_moe else (False,):
        yield Layout(
            card=card.id,
            variant=variant,
            gpu="",
            tensor=count,
            is_expert_parallel=spread,
            context_tokens=min(CONTEXT, card.context.native),
            sequences=SEQUENCES,
        )


def cheapest(known: Knowledge, prices: Prices, card: Card) -> Choice | None:
    """The cheapest way to serve the load `OFFICE` on rented GPUs of a supported kind; None when
    none does, or nobody has a price for it."""
    objective = msgspec.structs.replace(OFFICE, context_tokens=min(CONTEXT, card.context.native))
    day = priced_on(prices)
    ranking = rank(
        known,
        card,
        supported(known).values(),
        objective,
        lambda kind, count: prices.price(kind, count, "on_demand", day),
    )
    return next((choice for choice in ranking.choices if choice.cny_per_mtok is not None), None)


def supported(known: Knowledge) -> Mapping[str, Gpu]:
    """The kinds of GPU that the catalogue is made for."""
    return {key: kind for key, kind in known.gpus.gpus.items() if kind.support == "supported"}


def priced_on(prices: Prices) -> date:
    """The day of the youngest price or rate."""
    days = [offer.day for offer in prices.offers if offer.day is not None]
    return max([*days, *(rate.day for rate in prices.rates)])
