"""LoRA adapters as an engine is told of them, and whether one fits its engine. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

ADAPTERS_MAX = 64


class Adapter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One adapter; requests name it in `model`."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    source: str
    """A folder, hub id or prefix, as for models; only its config and safetensors are read."""
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of `adapter_model.safetensors`; empty = what the first fetch pinned."""
    base: str = ""
    """The model it was trained on, where that is not what the engine serves by name: BF16 weights
    adapted, their FP8 form served."""


class LoraLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Room for adapters in one engine; vLLM reserves it at the start."""

    rank_max: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Each slot is this wide, whatever the adapter's rank."""
    batch_max: Annotated[int, Meta(ge=1, le=ADAPTERS_MAX)] = 4
    """Adapters in one step; calls for more wait."""
    kept_max: Annotated[int, Meta(ge=1, le=ADAPTERS_MAX)] = 16
    """Adapters in host memory; beyond it the least used is read from disk again."""


def bases_of(*names: str) -> frozenset[str]:
    """What an engine's base model may be called in an adapter's config."""
    return frozenset(_plain(name) for name in names if name)


def unfit(
    config: Mapping[str, Any], adapter: Adapter, bases: Iterable[str], limits: LoraLimits
) -> str:
    """Why an adapter with this `adapter_config.json` cannot be loaded; "" when it can."""
    if str(config.get("peft_type", "")).upper() != "LORA":
        return f"it is {config.get('peft_type')!r}, and only LORA is served"
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        return "its config states no rank"
    if max(ranks) > limits.rank_max:
        return f"its rank {max(ranks)} is above the engine's lora.rank_max {limits.rank_max}"
    stated = str(config.get("base_model_name_or_path") or "")
    wanted = {_plain(adapter.base)} if adapter.base else set(bases)
    if stated and _plain(stated) not in wanted:
        return (
            f"it was trained on {stated!r}, and this engine serves {', '.join(sorted(wanted))}; "
            "if it fits all the same, name that model in the adapter's `base`"
        )
    if not stated and not adapter.base:
        return "its config names no base model; name it in the adapter's `base`"
    return ""


def _plain(name: str) -> str:
    """A model's name without owner, folder, revision and spelling."""
    last = re.split(r"[/:]", name.partition("@")[0].rstrip("/"))[-1]
    return last.lower()
