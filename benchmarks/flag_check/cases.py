"""Every card on every supported layout: what is asked of `models.flags`, and what it says. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from models.card import Card
from models.choose import COUNTS, SEQUENCES, context_of, splits
from models.flags import Flags, Refused, Start, flags
from models.gpu import Gpu
from models.layout import Feature, Layout
from models.sizing import Knowledge, within_states

BASE: frozenset[Feature] = frozenset({"prefix_caching"})
FEATURES: tuple[frozenset[Feature], ...] = (
    BASE, BASE | {"speculation"}, BASE | {"fp8_kv"}, BASE | {"lora"}, BASE | {"text_only"},
)  # fmt: skip
"""Each feature beside prefix caching, which is always asked for."""


class Case(msgspec.Struct, frozen=True):
    """One layout of one card."""

    card: Card
    gpu: Gpu
    asked: Layout

    @property
    def name(self) -> str:
        """`card/variant tensor x data on GPU, features`."""
        layout = self.asked
        spread = f"{layout.tensor}x{layout.data}{'+ep' if layout.is_expert_parallel else ''}"
        more = ",".join(sorted(layout.features - BASE))
        return f"{layout.card}/{layout.variant} {spread} {layout.gpu} {more}".strip()

    def flags(self, start: Start | None = None) -> Flags | Refused:
        """What the catalogue says."""
        return flags(self.card, self.gpu, self.asked, start)


def cases(known: Knowledge) -> Iterator[Case]:
    """All of them: supported kinds x 1, 2, 4, 8 GPUs x variants x splits x features."""
    kinds = [kind for kind in known.gpus.gpus.values() if kind.support == "supported"]
    for card in known.catalog.cards.values():
        for variant in card.variants:
            for kind in kinds:
                for layout in _layouts(card, variant, kind):
                    yield Case(card, kind, layout)


def _layouts(card: Card, variant: str, kind: Gpu) -> Iterator[Layout]:
    for count in COUNTS:
        for tensor, data, whole in splits(card, count):
            plain = Layout(
                card=card.id,
                variant=variant,
                gpu=kind.id,
                tensor=tensor,
                data=data,
                is_expert_parallel=whole,
                context_tokens=context_of(card),
                sequences=min(SEQUENCES, kind.vllm.max_num_seqs),
                batched_tokens=kind.vllm.max_num_batched_tokens,
            )
            for features in FEATURES:
                if _makes_sense(card, features):
                    layout = msgspec.structs.replace(plain, features=features)
                    yield within_states(card, kind, layout)


def _makes_sense(card: Card, features: frozenset[Feature]) -> bool:
    """Whether anybody would ask for it: a head to guess with, a picture to leave out."""
    if "speculation" in features:
        return card.serving.speculation is not None
    if "text_only" in features:
        return card.capabilities.vision is not None
    return True
