"""How a card's flags become fields of an EngineSpec.

`flags.arguments` writes some flags from fields of the spec, which other code reads too; those land
in their fields. All others travel as `extra_args`, behind which a user's own come and win.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from models import sizing
from models.card import Card
from models.dialect import dialect
from models.flag import Flag
from models.flags import Flags, Start
from models.layout import Layout
from models.sizing import Knowledge
from serving.card_settings import engine_flags, layout_of
from serving.settings import Model

FIELDS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "--dtype": ("dtype", str),
    "--max-model-len": ("max_model_len", int),
    "--max-num-seqs": ("max_num_seqs", int),
    "--gpu-memory-utilization": ("memory_fraction", float),
    "--runner": ("runner", str),
    "--hf-overrides": ("hf_overrides", json.loads),
    "--reasoning-parser": ("reasoning_parser", str),
    "--tool-call-parser": ("tool_parser", str),
    "--tool-strict-level": ("tool_strict_level", str),
}
"""Flag -> field, and how its value is read."""
OURS: Final = frozenset({
    "--model", "--served-model-name", "--enable-auto-tool-choice", "--load-format",
    "--safetensors-load-strategy", "--trust-remote-code", "--enable-lora", "--max-lora-rank",
    "--max-loras", "--max-cpu-loras",
})  # fmt: skip
"""Written by `flags.arguments` from fields that say more than the flag."""
SHARED_MAX: Final = 0.5
"""Share of a GPU's memory up to which Ray may give the rest to another engine."""
RANKED: Final = ("Paris is the capital of France.", "Bananas ripen after they are picked.")
"""Documents for a reranker's probe, best first, for the question that its card asks."""
THOUGHT_TOKENS: Final = 256
"""Of a probe whose model cannot be told not to think: its thoughts count as its answer."""


def fields_of_cards(
    models: Iterable[Model], device: str, cards_dir: Path | None = None
) -> dict[str, dict[str, Any]]:
    """What the cards of models say of their engines on such a device, by the models' names. Raises
    ValueError when one cannot start like that."""
    named = [model for model in models if model.card and model.engine is not None]
    known = sizing.load(cards_dir) if named else None
    return {model.name: card_fields(known, model, device) for model in named if known}


def card_fields(known: Knowledge, model: Model, device: str) -> dict[str, Any]:
    """What a model's card says of its engine. Raises ValueError when it cannot start like that."""
    card = known.catalog.card(model.card)
    if not model.gpu:
        length = model.engine.max_model_len if model.engine else model.context_tokens
        layout = Layout(card.id, model.variant, gpu="", context_tokens=length)
        return spec_fields(dialect(card, layout)) | told(card)
    if device != "gpu":
        raise ValueError(
            f"model {model.name!r} is laid out for {model.gpu}, and this machine's vLLM runs on "
            "its CPU: leave `gpu` out there"
        )
    source = model.engine.source if model.engine else ""
    layout = layout_of(card.id, model.variant, model.gpu, model.layout)
    return gpu_fields(engine_flags(known, layout, Start(path=source, name=model.name))) | told(card)


def spec_fields(arguments: Iterable[Flag]) -> dict[str, Any]:
    """Fields of the EngineSpec with these flags, parsers said or not."""
    fields: dict[str, Any] = {"tool_parser": None, "reasoning_parser": None}
    extra: list[str] = []
    for flag in arguments:
        if flag.name in FIELDS and flag.value is not None:
            field, read = FIELDS[flag.name]
            fields[field] = read(flag.value)
        elif flag.name not in OURS:
            extra += flag.words
    return fields | {"extra_args": tuple(extra)}


def gpu_fields(found: Flags) -> dict[str, Any]:
    """All fields that a card on GPUs decides."""
    layout = found.layout
    shares = layout.gpus == 1 and layout.memory_share <= SHARED_MAX
    fields = spec_fields(found.arguments) | {
        "device": "gpu",
        "enforce_eager": False,
        "num_gpus": layout.memory_share if shares else float(layout.gpus),
        "environment": {variable.name: variable.value for variable in found.environment},
    }
    return fields | ({"lora": {}} if "lora" in layout.features else {})


def told(card: Card) -> dict[str, Any]:
    """What a card says beside its flags: the probe, and whether foreign code may run."""
    expect, embedding = card.probe.expect, card.capabilities.embedding
    if expect == "dimension" and embedding is not None:
        expect = f"dimension:{embedding.dimension}"
    probe: dict[str, Any] = {"prompt": card.probe.prompt, "expect": expect}
    if expect == "ordered":
        probe["documents"] = RANKED
    if card.thinking.mode == "switchable":
        probe["template"] = dict(card.thinking.off)
    elif card.thinking.mode == "always":
        probe["max_tokens"] = THOUGHT_TOKENS
    return {"probe": probe, "trust_remote_code": card.serving.trust_remote_code}
