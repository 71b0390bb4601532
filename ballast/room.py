"""Whether this machine's memory holds the cards that its CPU is asked to serve. Pure.

On GPUs the catalogue's own arithmetic decides when settings are read (`serving.card_settings`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ballast.doctor import Finding, Level
from ballast.messages import Said
from models.sizing import Knowledge
from serving.card_settings import source_of
from serving.settings import Model, Settings

GIB: Final = 1 << 30
ENGINE_GIB: Final = 4.0
"""Ray and an engine without weights; as `ballast doctor` counts them."""


def examine(settings: Settings, known: Knowledge, free_bytes: int) -> Iterator[Finding]:
    """One finding for each engine that would read a card's own weights into more than is free."""
    for model in settings.models:
        if model.card and not model.gpu and model.engine is not None:
            yield from _examine(model, known, free_bytes / GIB)


def _examine(model: Model, known: Knowledge, free_gib: float) -> Iterator[Finding]:
    card = known.catalog.card(model.card)
    engine = model.engine
    assert engine is not None
    own = {source_of(card, model.variant, hub) for hub in ("", "modelscope")}
    if engine.source not in own:
        return  # other weights: their size is not the card's
    weights_gib = card.variants[model.variant].weights_gib
    needed_gib = weights_gib + engine.kv_cache_gib + ENGINE_GIB
    if needed_gib > free_gib:
        yield Finding(
            "memory",
            Level.STOP,
            Said(
                "outlook.no_room", model=repr(model.name), card=f"{card.id}/{model.variant}",
                weights=f"{weights_gib:g}", kv=f"{engine.kv_cache_gib:g}",
                engine=f"{ENGINE_GIB:g}", needed=f"{needed_gib:.1f}", free=f"{free_gib:.1f}",
            ),
            Said("outlook.smaller"),
        )  # fmt: skip
