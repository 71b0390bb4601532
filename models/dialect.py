"""What a model is and how it speaks: the flags that do not depend on what it runs on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from models.card import Card, Sample
from models.flag import Flag, compact
from models.layout import Layout
from models.worded import Worded

TEMPLATES: Final = Path(__file__).parent / "templates"


def dialect(card: Card, layout: Layout) -> Iterator[Flag]:
    """What the model is and how it speaks, on whatever it runs."""
    serving, is_pooling = card.serving, card.serving.runner == "pooling"
    vectors = Worded("flag.vectors", "it answers with vectors or scores")
    yield Flag("--runner", serving.runner,
               vectors if is_pooling else Worded("flag.text", "it answers with text"))  # fmt: skip
    overrides = hf_overrides(card, layout.context_tokens)
    if overrides:
        yield Flag("--hf-overrides", compact(overrides), _why_overrides(card, layout))
    if serving.chat_template is not None:
        template = "the repository's own is not for this task"
        yield Flag("--chat-template", template_path(serving.chat_template),
                   Worded("flag.template", template))  # fmt: skip
    if not is_pooling:
        yield from _parsers(card)
        yield from _sampling(card)
    yield from _media(card, layout)


def _why_overrides(card: Card, layout: Layout) -> str:
    native, architecture = card.context.native, card.serving.architecture
    if layout.context_tokens > native:
        template = "stretched beyond its native {native} tokens"
        return Worded("flag.stretched", template, native=native)
    return Worded("flag.seen_as", "vLLM must see it as {name}", name=architecture)


def template_path(name: str) -> str:
    """Full path of a card's template; a full path is itself."""
    return str(TEMPLATES / name)


def hf_overrides(card: Card, context_tokens: int) -> dict[str, Any]:
    """Changes to the repository's `config.json`, with those that stretch the context if needed."""
    stretch = card.context.stretch if context_tokens > card.context.native else {}
    return {**card.serving.hf_overrides, **stretch}


def _parsers(card: Card) -> Iterator[Flag]:
    serving = card.serving
    if serving.reasoning_parser is not None:
        template = "thoughts go to their own field, not into the answer"
        yield Flag("--reasoning-parser", serving.reasoning_parser,
                   Worded("flag.thoughts", template))  # fmt: skip
    if serving.tool_parser is not None:
        yield Flag(
            "--enable-auto-tool-choice",
            None,
            Worded("flag.tools", "the model itself may call tools"),
        )
        yield Flag(
            "--tool-call-parser",
            serving.tool_parser,
            Worded("flag.calls", "how this model writes calls"),
        )
        yield Flag(
            "--tool-strict-level", "auto", Worded("flag.strict", "as each tool's `strict` says")
        )
    if serving.chat_template_kwargs:
        yield Flag("--default-chat-template-kwargs", compact(serving.chat_template_kwargs),
                   Worded("flag.switches", "switches of its chat template"))  # fmt: skip


def _sampling(card: Card) -> Iterator[Flag]:
    yield Flag(
        "--generation-config", "auto", Worded("flag.stops", "stop tokens as the repository says")
    )
    values = default_sample(card)
    if values is not None:
        template = "the vendor's sampling where a request names none"
        yield Flag("--override-generation-config",
                   compact(values.model_dump(exclude_none=True)),
                   Worded("flag.sampling", template))  # fmt: skip


def default_sample(card: Card) -> Sample | None:
    """The vendor's sampling for an answer whose request says nothing."""
    if card.sampling is None:
        return None
    thinks = card.thinking.mode == "always" or card.thinking.is_on_by_default
    first, second = card.sampling.thinking, card.sampling.plain
    return (first or second) if thinks else (second or first)


def _media(card: Card, layout: Layout) -> Iterator[Flag]:
    vision = card.capabilities.vision
    if vision is None:
        return
    if "text_only" in layout.features:
        yield Flag(
            "--language-model-only",
            None,
            Worded("flag.no_pictures", "no pictures asked for: no memory for them"),
        )
    else:
        limits = {"image": vision.images_max, **({"video": 0} if vision.has_video else {})}
        template = "pictures of one request; memory for video is not set aside"
        yield Flag("--limit-mm-per-prompt", compact(limits), Worded("flag.pictures", template))
    if layout.tensor > 1:
        template = "the small vision tower is not cut: its heads and scales need not divide"
        yield Flag("--mm-encoder-tp-mode", "data", Worded("flag.tower", template))
