"""docs/models.md as text: the tables a person chooses a model from, computed from the cards.

`python -m models.page [FILE]` writes it. Pure but for that: everything stated here is a fact of a
card, or what `needs` makes of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from models import prices as price_table
from models import sizing
from models.card import Card
from models.catalog import Catalog
from models.markdown import code, section, table, tokens
from models.needs import CONTEXT, OFFICE, SEQUENCES, cheapest, priced_on, smallest, supported
from models.prices import Prices
from models.sizing import Knowledge
from models.traps import traps

TASKS: Final = {
    "embedding": "Embeddings",
    "rerank": "Reranking",
    "moderation": "Moderation",
}
HEAD: Final = """\
# Models

Written by `python -m models.page` from the cards in `models/cards/`, the arithmetic of memory and
speed, and the price table; a test keeps it in step. To add one: [add-a-model.md](add-a-model.md).

- **size**: parameters in billions, and those that work on each token where that is fewer.
- **context**: tokens of prompt and answer, native and (stretched). Stretching costs quality on
  short prompts and is off unless asked for.
- **thinks**: `always`, `never`, `on` or `off` unless the request says otherwise; with the values of
  `reasoning_effort`.
- **weights**: GiB of each set of weights. No card names a commit of them: the first fetch pins what
  it finds ([weights.md](weights.md)).
- **a100-40** to **h200-141**: the fewest in one machine that hold {context} tokens of context and
  {sequences} sequences of state, and with which weights; `-` where eight do not, or none has a
  kernel for it.
- **yuan**: rent for a million tokens, prompt and answer together, on the kind, number and weights
  that are cheapest when {callers} callers at once send {prompt} tokens and get {answer}, the first
  within {first:g} s and each further one within {each:g} ms. Median on-demand prices, {day}; with
  the expected error of the speed model. An idle GPU costs the same: at a tenth of that load a
  million tokens cost ten times as much.

Memory and speed are calculated, not tried: nothing here has run on a GPU of ours yet. Your own load
and prices: `ballast models fit` and `ballast models rank`.
"""


def render(known: Knowledge, prices: Prices) -> str:
    """The page."""
    catalog = known.catalog
    parts = [_head(prices)]
    cards = sorted(catalog.cards.values(), key=lambda card: (card.size.total_b, card.id))
    chat = [card for card in cards if card.capabilities.task == "chat"]
    for family, name in (("qwen", "Qwen"), ("glm", "GLM")):
        ours = [card for card in chat if card.family == family]
        newest = [card for card in ours if card.life.successor is None]
        older = [card for card in ours if card.life.successor is not None]
        parts += section(f"{name}: the newest of each class", _chat(newest, known, prices))
        parts += section(f"{name}: followed by a newer one", _chat(older, known, prices))
    for task, title in TASKS.items():
        rows = [card for card in cards if card.capabilities.task == task]
        parts += section(title, _pooled(rows, known))
    parts += section("Known trouble", traps(cards))
    parts += section("Sources", _sources(catalog))
    return "\n".join(parts)


def _head(prices: Prices) -> str:
    return HEAD.format(
        context=CONTEXT,
        sequences=SEQUENCES,
        callers=OFFICE.concurrency,
        prompt=OFFICE.prompt_tokens,
        answer=OFFICE.output_tokens,
        first=OFFICE.first_token_s,
        each=OFFICE.per_token_s * 1e3,
        day=priced_on(prices),
    )


def _chat(cards: Iterable[Card], known: Knowledge, prices: Prices) -> Iterator[str]:
    heads = ["model", "size", "context", "thinks", "tools", "pictures", "weights",
             *supported(known), "yuan", "on", "licence", "since", "followed by"]  # fmt: skip
    return table(heads, (_chat_row(card, known, prices) for card in cards))


def _chat_row(card: Card, known: Knowledge, prices: Prices) -> list[str]:
    able = card.capabilities
    return [
        code(card.id),
        _size(card),
        _context(card),
        _thinks(card),
        "yes" if able.tools else "-",
        ("pictures, video" if able.vision.has_video else "pictures") if able.vision else "-",
        _weights(card),
        *_needs(card, known),
        *_cost(card, known, prices),
        card.licence.id,
        card.life.released,
        code(card.life.successor) if card.life.successor else "-",
    ]


def _pooled(cards: Iterable[Card], known: Knowledge) -> Iterator[str]:
    heads = ["model", "size", "context", "dimension", "pictures", "weights", *supported(known),
             "licence"]  # fmt: skip
    rows = (
        [
            code(card.id),
            _size(card),
            _context(card),
            str(card.capabilities.embedding.dimension) if card.capabilities.embedding else "-",
            "yes" if card.capabilities.vision else "-",
            _weights(card),
            *_needs(card, known),
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


def _needs(card: Card, known: Knowledge) -> Iterator[str]:
    for kind in supported(known).values():
        need = smallest(card, kind)
        yield f"{need.count} {need.variant}" if need else "-"


def _cost(card: Card, known: Knowledge, prices: Prices) -> tuple[str, str]:
    choice = cheapest(known, prices, card)
    if choice is None or choice.cny_per_mtok is None:
        return "-", "-"
    error = f"{choice.sized.model.error:.0%}".replace("%", " %")
    layout = choice.layout
    return f"{choice.cny_per_mtok:.2f} ± {error}", f"{choice.gpus} {layout.gpu} {layout.variant}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/models.md from the cards.")
    parser.add_argument("path", nargs="?", type=Path, default=Path("docs/models.md"))
    parser.parse_args().path.write_text(render(sizing.load(), price_table.load()), encoding="utf-8")
