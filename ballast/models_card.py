"""The page of `ballast models show`: one card as tables; no facts and no decisions of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from ballast.messages import say
from ballast.wide import Wide, table
from models.card import Card
from models.rules import noted, trouble

MAIN_KINDS = frozenset({"a100-40", "a100-80", "h100-80", "h200-141"})
"""Kept longest where a terminal is narrow: those that are tried."""
Fewest = Mapping[str, Mapping[str, str]]
"""Variant -> kind of GPU -> the fewest that hold it, as text."""


def card(known: Card, fewest: Fewest) -> RenderableType:
    """What is known of one model."""
    made = table("", "", title=f"{known.name} ({known.id})")
    for key, value in _facts(known):
        made.add_row(say(f"models.fact.{key}"), value)
    bad = [
        Text(say("models.known_bad", what=trouble(bad), issue=bad.issue)) for bad in known.known_bad
    ]
    notes = [Text(say("models.note", n=noted(note))) for note in known.notes]
    return Group(made, _variants(known, fewest), *bad, *notes)


def _facts(known: Card) -> Iterable[tuple[str, str]]:
    shape, context, serving = known.shape, known.context, known.serving
    successor = known.life.successor
    yield (
        "released",
        known.life.released + (say("models.next", successor=successor) if successor else ""),
    )
    yield "licence", known.licence.id
    yield (
        "parameters",
        say(
            "models.parameters",
            total_b=f"{known.size.total_b:g}",
            active_b=f"{known.size.active_b:g}",
        ),
    )
    yield "shape", say("models.shape", attention=shape.attention, layers=shape.layers)
    yield "kv", say("models.in_bf16", kv_bytes=f"{shape.kv_bytes / 1024:.0f}")
    if shape.state_bytes_per_sequence:
        yield "state", f"{shape.state_bytes_per_sequence / (1 << 20):.0f} MiB"
    stretched = (
        say("models.stretched", stretched=f"{context.stretched:,}") if context.stretched else ""
    )
    yield "context", f"{context.native:,}{stretched}"
    yield "thinking", known.thinking.mode
    yield "can", ", ".join(_can(known))
    yield (
        "parsers",
        say(
            "models.parsers",
            tool_parser=serving.tool_parser or "-",
            reasoning_parser=serving.reasoning_parser or "-",
        ),
    )
    yield (
        "vllm",
        say("models.or_later", vllm_min=serving.vllm_min, architecture=serving.architecture),
    )


def _can(known: Card) -> Iterable[str]:
    can = known.capabilities
    yield can.task
    if can.tools:
        yield "tools"
    if can.json_schema:
        yield "JSON schema"
    if can.vision is not None:
        yield say("models.pictures", images_max=can.vision.images_max)


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
    return Wide(columns, lines, less, title=say("models.fewest"))
