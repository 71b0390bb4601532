"""docs/models.md as text: the tables a person chooses a model from, computed from the cards.

`python -m models.page [FILE]` writes it. Pure but for that: everything stated here is a fact of a
card, or what `memory` says of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from models import gpu as gpus
from models.card import Card
from models.catalog import Catalog, load
from models.gpu import Gpu
from models.layout import Layout
from models.markdown import code, section, table, tokens
from models.memory import Fits, fit
from models.traps import traps

CONTEXT: Final = 32_768
SEQUENCES: Final = 8
COUNTS: Final = (1, 2, 4, 8)
PRECISION: Final = ("bf16", "fp8_block", "fp8_channel", "w4a8", "awq_int4", "gptq_int4")
"""Of variants that need the same number of GPUs, the first is shown."""
TASKS: Final = {
    "embedding": "Embeddings",
    "rerank": "Reranking",
    "moderation": "Moderation",
}
HEAD: Final = """\
# Models

Written by `python -m models.page` from the cards in `models/cards/` and the arithmetic of
`models/memory.py`; a test keeps it in step. To add a model: [add-a-model.md](add-a-model.md).

- **size**: parameters in billions, and those that work on each token where that is fewer.
- **context**: tokens of prompt and answer, native and (stretched). Stretching costs quality on
  short prompts and is off unless asked for.
- **thinks**: `always`, `never`, `on` or `off` unless the request says otherwise; with the values of
  `reasoning_effort`.
- **weights**: GiB of each set of weights.
- **GPUs**: the smallest number in one machine that holds {context} tokens of context and
  {sequences} sequences of state, and with which weights; `-` where eight do not, or no kernel
  exists. Calculated, not tried: nothing here has run on a GPU of ours yet. Long contexts and many
  users need more: `ballast models fit`.
"""


class Need(msgspec.Struct, frozen=True):
    """What a model needs of one kind of GPU."""

    count: int
    variant: str


def render(catalog: Catalog, kinds: Mapping[str, Gpu]) -> str:
    """The page, for these kinds of GPU."""
    parts = [HEAD.format(context=CONTEXT, sequences=SEQUENCES)]
    cards = sorted(catalog.cards.values(), key=lambda card: (card.size.total_b, card.id))
    chat = [card for card in cards if card.capabilities.task == "chat"]
    for family, name in (("qwen", "Qwen"), ("glm", "GLM")):
        ours = [card for card in chat if card.family == family]
        newest = [card for card in ours if card.life.successor is None]
        older = [card for card in ours if card.life.successor is not None]
        parts += section(f"{name}: the newest of each class", _chat(newest, kinds))
        parts += section(f"{name}: followed by a newer one", _chat(older, kinds))
    for task, title in TASKS.items():
        rows = [card for card in cards if card.capabilities.task == task]
        parts += section(title, _pooled(rows, kinds))
    parts += section("Known trouble", traps(cards))
    parts += section("Sources", _sources(catalog))
    return "\n".join(parts)


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


def _chat(cards: Iterable[Card], kinds: Mapping[str, Gpu]) -> Iterator[str]:
    heads = ["model", "size", "context", "thinks", "tools", "pictures", "weights", *kinds,
             "licence", "since", "followed by"]  # fmt: skip
    return table(heads, (_chat_row(card, kinds) for card in cards))


def _chat_row(card: Card, kinds: Mapping[str, Gpu]) -> list[str]:
    able = card.capabilities
    return [
        code(card.id),
        _size(card),
        _context(card),
        _thinks(card),
        "yes" if able.tools else "-",
        ("pictures, video" if able.vision.has_video else "pictures") if able.vision else "-",
        _weights(card),
        *_needs(card, kinds),
        card.licence.id,
        card.life.released,
        code(card.life.successor) if card.life.successor else "-",
    ]


def _pooled(cards: Iterable[Card], kinds: Mapping[str, Gpu]) -> Iterator[str]:
    heads = ["model", "size", "context", "dimension", "pictures", "weights", *kinds, "licence"]
    rows = (
        [
            code(card.id),
            _size(card),
            _context(card),
            str(card.capabilities.embedding.dimension) if card.capabilities.embedding else "-",
            "yes" if card.capabilities.vision else "-",
            _weights(card),
            *_needs(card, kinds),
            card.licence.id,
        ]
        for card in cards
    )
    return table(heads, rows)


def _sources(catalog: Catalog) -> Iterator[str]:
    yield "Each block of a card names its sources by these keys.\n"
    rows = (
        [code(key), f"[{s.title}]({s.url})" if s.url else s.title, s.date, s.doubt or "-"]
        for key, s in catalog.sources.items()
    )
    yield from table(("key", "source", "date", "doubt"), rows)
    doubted = [card.id for card in catalog.cards.values() if _is_doubted(card, catalog)]
    yield (
        "\nSize or shape rests on a source with a doubt, so compare `config.json` before you rent: "
        + ", ".join(map(code, doubted))
        + "."
    )


def _is_doubted(card: Card, catalog: Catalog) -> bool:
    named = (*card.size.source, *card.shape.source)
    known = {**catalog.sources, **card.sources}
    return any(known[name].doubt for name in named)


def _size(card: Card) -> str:
    size = card.size
    return f"{size.total_b:g}" if size.active_b == size.total_b else (
        f"{size.total_b:g}, {size.active_b:g} active"
    )  # fmt: skip


def _context(card: Card) -> str:
    context = card.context
    text = tokens(context.offered_max or context.native)
    return f"{text} ({tokens(context.stretched)})" if context.stretched else text


def _thinks(card: Card) -> str:
    thinking = card.thinking
    word = {"always": "always", "never": "never"}.get(
        thinking.mode, "on" if thinking.is_on_by_default else "off"
    )
    return f"{word}: {', '.join(thinking.efforts)}" if thinking.efforts else word


def _weights(card: Card) -> str:
    gib = ((key, variant.weights_gib) for key, variant in card.variants.items())
    return ", ".join(
        f"{key} {size:.1f}" if size < 100 else f"{key} {size:.0f}" for key, size in gib
    )


def _needs(card: Card, kinds: Mapping[str, Gpu]) -> Iterator[str]:
    for kind in kinds.values():
        need = smallest(card, kind)
        yield f"{need.count} {need.variant}" if need else "-"


def supported() -> dict[str, Gpu]:
    """The kinds of GPU that the catalogue is made for."""
    return {key: kind for key, kind in gpus.load().gpus.items() if kind.support == "supported"}


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/models.md").write_text(
        render(load(), supported()), encoding="utf-8"
    )
