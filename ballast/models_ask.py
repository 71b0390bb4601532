"""What the words of `ballast models ...` mean: names, kinds, prices, objectives; with remedies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from ballast.messages import Said
from ballast.plan import DEMO_MODEL
from ballast.problem import ProblemError, worded
from models import prices, sizing
from models.calibration import CalibrationError
from models.card import Card
from models.catalog import CatalogError, UnknownModelError
from models.gpu import Gpu, UnknownGpuError
from models.layout import Feature, Layout
from models.memory import Fits, fit
from models.prices import MICRO, Price, Terms
from models.rank import PriceOf
from models.sharing import Wish
from models.sizing import Knowledge

COUNTS = (1, 2, 4, 8)
KNOWN_FEATURES: tuple[Feature, ...] = ("fp8_kv", "speculation", "lora", "sleep")
RARE = ":rare"
LIST_CONTEXT = 32_768
LIST_SEQUENCES = 8
"""What the fewest GPUs in lists must hold: one long context, and states for a few sequences."""


def knowledge(cards_dir: Path | None) -> Knowledge:
    """Cards, GPUs and calibrations."""
    try:
        return sizing.load(cards_dir)
    except (CatalogError, CalibrationError) as error:
        raise ProblemError(worded(error), Said("models.mend_files")) from None


def card_of(known: Knowledge, name: str) -> tuple[Card, str]:
    """The card of `id`, `id/variant` or a hub's name, with the variant if it was named."""
    bare, _, variant = name.partition("/")
    try:
        if bare.casefold() in known.catalog.cards:
            card = known.catalog.card(bare)
        else:
            card, found = known.catalog.variant(name)
            variant = found or ""
    except UnknownModelError as error:
        if bare.casefold() == DEMO_MODEL:
            raise ProblemError(
                Said("models.demo", demo_model=DEMO_MODEL),
                Said("models.list_shows"),
            ) from None
        raise ProblemError(worded(error)) from None
    if variant and variant not in card.variants:
        raise ProblemError(
            Said("models.no_variant", id=card.id, variant=f"{variant!r}"),
            Said("models.it_has", names=", ".join(card.variants)),
        )
    return card, variant


def fitting(card: Card, kind: Gpu, layout: Layout) -> Layout:
    """The layout with the first variant that fits, else as it is."""
    for variant in card.variants:
        tried = msgspec.structs.replace(layout, variant=variant)
        if isinstance(fit(card, kind, tried), Fits):
            return tried
    return layout


def gpu_of(known: Knowledge, name: str) -> Gpu:
    """The kind of GPU."""
    try:
        return known.gpus.gpu(name)
    except UnknownGpuError as error:
        raise ProblemError(worded(error)) from None


def kinds_of(known: Knowledge, names: Sequence[str], untried: bool) -> list[Gpu]:
    """The kinds named, else all that are supported, and on demand those only known."""
    if names:
        return [gpu_of(known, name) for name in names]
    return [k for k in known.gpus.gpus.values() if untried or k.support == "supported"]


def features_of(names: Iterable[str]) -> frozenset[Feature]:
    """Features of a layout beside the prefix cache."""
    found: set[Feature] = {"prefix_caching"}
    for name in names:
        chosen = [feature for feature in KNOWN_FEATURES if feature == name]
        if not chosen:
            raise ProblemError(
                Said("models.no_feature", name=f"{name!r}"),
                Said("models.known", names=", ".join(KNOWN_FEATURES)),
            )
        found.add(chosen[0])
    return frozenset(found)


def wishes_of(
    known: Knowledge, names: Sequence[str], context_tokens: int, sequences: int
) -> list[Wish]:
    """Models that share GPUs: `card/variant`, else the smallest one, with `:rare` behind those
    that may sleep."""
    found = []
    for name in names:
        card, variant = card_of(known, name.removesuffix(RARE))
        context = min(context_tokens, card.context.native)
        chosen = variant or min(card.variants, key=lambda key: card.variants[key].weights_gib)
        found.append(Wish(card, chosen, context, sequences, name.endswith(RARE)))
    return found


def fewest(card: Card, kind: Gpu, variants: Iterable[str]) -> str:
    """The fewest GPUs of one machine that hold one of the variants, as text; `-` when none do."""
    for count in COUNTS:
        for variant in variants:
            layout = Layout(
                card=card.id,
                variant=variant,
                gpu=kind.id,
                tensor=count,
                context_tokens=min(LIST_CONTEXT, card.context.native),
                sequences=LIST_SEQUENCES,
            )
            if isinstance(fit(card, kind, layout), Fits):
                return f"{count} {variant}"
    return "-"


def prices_of(known: Knowledge, own: Sequence[str], terms: Terms, today: date) -> PriceOf:
    """Published prices, with the user's own over them."""
    named = dict(_own(known, text) for text in own)
    published = prices.load()

    def price(gpu: str, count: int) -> Price | None:
        return named.get(gpu) or published.price(gpu, count, terms, today)

    return price


def day_of(text: str) -> date:
    """The day whose prices count; today's when none is named."""
    try:
        return date.fromisoformat(text) if text else date.today()
    except ValueError:
        raise ProblemError(
            Said("models.no_day", text=f"{text!r}"), Said("models.say_day")
        ) from None


def _own(known: Knowledge, text: str) -> tuple[str, Price]:
    gpu, _, amount = text.partition("=")
    try:
        cny_micro = int(Decimal(amount) * MICRO)
    except InvalidOperation:
        raise ProblemError(
            Said("models.no_price_given", text=f"{text!r}"), Said("models.say_price")
        ) from None
    kind = gpu_of(known, gpu)
    return kind.id, Price(cny_micro, "on_demand", 0, Said("models.yours", kind=kind.id))
