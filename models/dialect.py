"""What a model is and how it speaks: the flags that do not depend on what it runs on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from models.card import Card, Sample
from models.flag import Flag, compact
from models.layout import Layout

TEMPLATES: Final = Path(__file__).parent / "templates"


def dialect(card: Card, layout: Layout) -> Iterator[Flag]:
    """What the model is and how it speaks, on whatever it runs."""
    serving, is_pooling = card.serving, card.serving.runner == "pooling"
    yield Flag("--runner", serving.runner, "it answers with vectors or scores"
               if is_pooling else "it answers with text")  # fmt: skip
    overrides = hf_overrides(card, layout.context_tokens)
    if overrides:
        stretched = layout.context_tokens > card.context.native
        reason = f"stretched beyond its native {card.context.native} tokens" if stretched else ""
        reason = reason or f"vLLM must see it as {serving.architecture}"
        yield Flag("--hf-overrides", compact(overrides), reason)
    if serving.chat_template is not None:
        yield Flag("--chat-template", template_path(serving.chat_template),
                   "the repository's own is not for this task")  # fmt: skip
    if not is_pooling:
        yield from _parsers(card)
        yield from _sampling(card)
    yield from _media(card, layout)


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
        yield Flag("--reasoning-parser", serving.reasoning_parser,
                   "thoughts go to their own field, not into the answer")  # fmt: skip
    if serving.tool_parser is not None:
        yield Flag("--enable-auto-tool-choice", None, "the model itself may call tools")
        yield Flag("--tool-call-parser", serving.tool_parser, "how this model writes calls")
        yield Flag("--tool-strict-level", "auto", "as each tool's `strict` says")
    if serving.chat_template_kwargs:
        yield Flag("--default-chat-template-kwargs", compact(serving.chat_template_kwargs),
                   "switches of its chat template")  # fmt: skip


def _sampling(card: Card) -> Iterator[Flag]:
    yield Flag("--generation-config", "auto", "stop tokens as the repository says")
    values = default_sample(card)
    if values is not None:
        yield Flag("--override-generation-config",
                   compact(values.model_dump(exclude_none=True)),
                   "the vendor's sampling where a request names none")  # fmt: skip


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
        yield Flag("--language-model-only", None, "no pictures asked for: no memory for them")
    else:
        limits = {"image": vision.images_max, **({"video": 0} if vision.has_video else {})}
        yield Flag("--limit-mm-per-prompt", compact(limits),
                   "pictures of one request; memory for video is not set aside")  # fmt: skip
    if layout.tensor > 1:
        reason = "the small vision tower is not cut: its heads and scales need not divide"
        yield Flag("--mm-encoder-tp-mode", "data", reason)
