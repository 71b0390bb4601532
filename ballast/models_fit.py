"""`ballast models fit`: one model on some GPUs, or several together."""

from __future__ import annotations

import msgspec
import typer

from ballast import models_ask, models_tables
from ballast.messages import say
from ballast.printing import print_json, show
from ballast.problem import ProblemError, worded
from models import sharing, sizing
from models.card import Card
from models.gpu import Gpu
from models.layout import Layout
from models.memory import DoesNotFit, fit
from models.sizing import Knowledge, Sized
from models.speed import NoCalibrationError
from models.steady import Demand


def one(known: Knowledge, card: Card, layout: Layout, demand: Demand, as_json: bool) -> None:
    """Print what a layout holds and how fast it is, or why it does not fit; exits 0 or 1."""
    kind = known.gpus.gpu(layout.gpu)
    found = fit(card, kind, layout)
    if isinstance(found, DoesNotFit):
        if as_json:
            print_json({"layout": layout, "fits": False, "memory": found, "speed": None})
        else:
            show(models_tables.refusal(layout, found))
        raise typer.Exit(1)
    sized = _sized(known, card, layout, demand)
    if as_json:
        print_json({"layout": layout, "fits": True, "memory": found, "speed": sized})
        return
    show(models_tables.fits(card, layout, found))
    if sized is not None:
        show(
            say(
                "models.load",
                concurrency=demand.concurrency,
                prompt_tokens=demand.prompt_tokens,
                output_tokens=demand.output_tokens,
            ),
            models_tables.speed(sized),
        )


def several(kind: Gpu, count: int, wishes: list[sharing.Wish], as_json: bool) -> None:
    """Print who sits where, or by how much it is short; exits 0 or 1."""
    try:
        found = sharing.share(kind, count, wishes)
    except ValueError as error:
        raise ProblemError(worded(error)) from None
    is_shared = isinstance(found, sharing.Shared)
    if as_json:
        print_json({"shared": is_shared, "plan": models_tables.plain(found)})
    elif isinstance(found, sharing.Shared):
        show(models_tables.shared(kind, found))
    else:
        show(*(say("models.not_shared", reason=reason) for reason in found.reasons))
    if not is_shared:
        raise typer.Exit(1)


def layout_of(known: Knowledge, name: str, layout: Layout) -> tuple[Card, Layout]:
    """The layout for the card and variant named; without a variant, for the first that fits."""
    card, variant = models_ask.card_of(known, name)
    chosen = msgspec.structs.replace(
        layout, card=card.id, variant=variant or next(iter(card.variants))
    )
    if not variant:
        chosen = models_ask.fitting(card, known.gpus.gpu(layout.gpu), chosen)
    return card, chosen


def _sized(known: Knowledge, card: Card, layout: Layout, demand: Demand) -> Sized | None:
    if card.serving.runner != "generate":
        return None
    try:
        found = sizing.size(known, layout, demand)
    except NoCalibrationError:
        return None
    return found if isinstance(found, Sized) else None
