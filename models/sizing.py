"""All that is known of models, GPUs and speeds, and the question it answers: what would this layout
hold, and how fast would it be under that load?

Loads the facts once; the answers are pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models import calibration, catalog, gpu
from models.bulk import bulk_of
from models.calibration import Calibration
from models.card import Card
from models.catalog import Catalog
from models.gpu import Gpu, Gpus
from models.layout import Layout
from models.memory import DoesNotFit, Fits, fit
from models.roofline import Spread
from models.speed import Configuration, step_model
from models.steady import Demand, Room, Steady, steady
from models.step import StepModel


class Sized(msgspec.Struct, frozen=True):
    """A layout that fits, with its speed under a load."""

    layout: Layout
    fits: Fits
    model: StepModel
    steady: Steady


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Cards, GPUs and calibrations."""

    catalog: Catalog
    gpus: Gpus
    calibrations: tuple[Calibration, ...]
    configurations: Mapping[str, Configuration]
    """Of each calibration, by its name."""

    def known(self) -> Iterator[tuple[Calibration, Configuration]]:
        """The calibrations with what they are of."""
        for one in self.calibrations:
            yield one, self.configurations[one.name]

    def subjects(self, layout: Layout) -> tuple[Card, Gpu]:
        """Card and GPU of a layout. Raises UnknownModelError or UnknownGpuError."""
        return self.catalog.card(layout.card), self.gpus.gpu(layout.gpu)

    def without(self, *names: str) -> Knowledge:
        """The same, as if these calibrations had never been measured."""
        kept = tuple(one for one in self.calibrations if one.name not in names)
        return Knowledge(self.catalog, self.gpus, kept, self.configurations)


def load(cards_dir: Path | None = None) -> Knowledge:
    """Packaged facts with those of `cards_dir` laid over them. Raises CatalogError,
    CalibrationError."""
    cards = catalog.load(*([cards_dir] if cards_dir is not None else []))
    gpus = gpu.load()
    found = calibration.load(cards, cards_dir)
    return Knowledge(
        catalog=cards,
        gpus=gpus,
        calibrations=found,
        configurations={one.name: _configuration(one, cards, gpus) for one in found},
    )


def model_of(known: Knowledge, layout: Layout) -> StepModel:
    """The step model of a layout. Raises NoCalibrationError."""
    card, kind = known.subjects(layout)
    asked = Configuration(
        bulk=bulk_of(card, card.variants[layout.variant]),
        gpu=kind,
        spread=Spread(layout.tensor, layout.data, "fp8_kv" in layout.features),
        card=card.id,
        variant=layout.variant,
    )
    return step_model(asked, known.known())


def room_of(fits: Fits, layout: Layout) -> Room:
    """What one rank of a layout that fits can hold."""
    pool = fits.pool
    blocks = pool.blocks(fits.budget.left * (1 << 30))
    return Room(
        slots=max(1, min(layout.sequences, fits.sequences_max) // layout.data),
        kv_tokens=blocks * pool.block_tokens,
        # Half a block of each sequence is empty on average.
        state_tokens=pool.state_blocks * pool.block_tokens + pool.block_tokens // 2,
    )


def within_states(card: Card, kind: Gpu, layout: Layout) -> Layout:
    """The layout with no more sequences than a hybrid's recurrent states leave room for."""
    while isinstance(fit(card, kind, layout), DoesNotFit) and layout.sequences > layout.data:
        fewer = max(layout.data, layout.sequences // 2)
        layout = msgspec.structs.replace(layout, sequences=fewer)
    return layout


def size(known: Knowledge, layout: Layout, demand: Demand) -> Sized | DoesNotFit:
    """Memory and speed of a layout under a load."""
    card, kind = known.subjects(layout)
    fits = fit(card, kind, layout)
    if isinstance(fits, DoesNotFit):
        return fits
    model = model_of(known, layout)
    return Sized(layout, fits, model, steady(model, room_of(fits, layout), demand))


def _configuration(one: Calibration, cards: Catalog, gpus: Gpus) -> Configuration:
    return Configuration(
        bulk=calibration.bulk(one, cards),
        gpu=gpus.gpu(one.gpu),
        spread=Spread(one.tensor, one.data),
        card=one.card or "",
        variant=one.variant or "",
    )
