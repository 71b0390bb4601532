"""The page of `ballast models show`: one card as tables; no facts and no decisions of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from ballast.wide import Wide, table
from models.card import Card

MAIN_KINDS = frozenset({"a100-40", "a100-80", "h100-80", "h200-141"})
"""Kept longest where a terminal is narrow: those that are tried."""
Fewest = Mapping[str, Mapping[str, str]]
"""Variant -> kind of GPU -> the fewest that hold it, as text."""


def card(known: Card, fewest: Fewest) -> RenderableType:
    """What is known of one model."""
    made = table("", "", title=f"{known.name} ({known.id})")
    for key, value in _facts(known):
        made.add_row(key, value)
    bad = [Text(f"known bad: {bad.what} ({bad.issue})") for bad in known.known_bad]
    return Group(made, _variants(known, fewest), *bad, *(Text(f"note: {n}") for n in known.notes))


def _facts(known: Card) -> Iterable[tuple[str, str]]:
    shape, context, serving = known.shape, known.context, known.serving
    successor = known.life.successor
    yield "released", known.life.released + (f", next {successor}" if successor else "")
    yield "licence", known.licence.id
    yield "parameters", f"{known.size.total_b:g} B, {known.size.active_b:g} B active"
    yield "shape", f"{shape.attention}, {shape.layers} layers"
    yield "KV of a token", f"{shape.kv_bytes / 1024:.0f} KiB in BF16"
    if shape.state_bytes_per_sequence:
        yield "state of a sequence", f"{shape.state_bytes_per_sequence / (1 << 20):.0f} MiB"
    stretched = f", stretched {context.stretched:,}" if context.stretched else ""
    yield "context", f"{context.native:,}{stretched}"
    yield "thinking", known.thinking.mode
    yield "can", ", ".join(_can(known))
    yield (
        "parsers",
        f"tools {serving.tool_parser or '-'}, reasoning {serving.reasoning_parser or '-'}",
    )
    yield "vLLM", f"{serving.vllm_min} or later, {serving.architecture}"


def _can(known: Card) -> Iterable[str]:
    can = known.capabilities
    yield can.task
    if can.tools:
        yield "tools"
    if can.json_schema:
        yield "JSON schema"
    if can.vision is not None:
        yield f"{can.vision.images_max} pictures"


def _variants(known: Card, fewest: Fewest) -> Wide:
    kinds = list(next(iter(fewest.values())))
    lines = [
        (
            key,
            f"{variant.weights_gib:g}",
            variant.huggingface,
            *(text.split()[0] for text in fewest[key].values()),
        )
        for key, variant in known.variants.items()
    ]
    columns = ("variant", ">GiB", "Hugging Face", *kinds)
    less = ("Hugging Face", *reversed([kind for kind in kinds if kind not in MAIN_KINDS]))
    return Wide(columns, lines, less, title="fewest GPUs of one machine")
