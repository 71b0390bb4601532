"""Models that name a catalogue card: what settings leave out is filled in from the card.

Works on the tree of settings before it is checked: who runs the gateway, the stack on one machine
or a chart sees the same complete model. What is said always wins over the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, ValidationError

from models import sizing
from models.calibration import CalibrationError
from models.card import Card
from models.catalog import CatalogError
from models.choose import Given, choose, context_of
from models.fact import Group
from models.flags import Flags, Refused, Start, flags
from models.gpu import Gpu, UnknownGpuError
from models.layout import Feature, Layout
from models.memory import DoesNotFit
from models.profiles import name_of
from models.sizing import Knowledge
from models.worded import Worded, checked, joined, of

WAITING_MIN = 32
"""Requests that may wait beside those that run, at least; a third of a batch beyond."""
QUEUED_STEPS = 8
"""Prompt tokens in prefill, in steps of the engine. ASSUMED: enough that no step is short of work;
first-token deadlines are kept by the gateway, which knows the speed."""


SURFACES: Final = {"embedding": ("embeddings",), "rerank": ("rerank", "score")}


class LayoutSettings(Group):
    """How a card lies on GPUs; what is left out is chosen: the fewest GPUs that hold it."""

    gpus: int | None = Field(None, ge=1, le=8)
    tensor: int | None = Field(None, ge=1, le=8)
    """GPUs that share each layer."""
    data: int | None = Field(None, ge=1, le=8)
    """Copies of the attention; for mixtures of experts."""
    is_expert_parallel: bool | None = None
    context_tokens: int | None = Field(None, ge=128)
    sequences: int | None = Field(None, ge=1)
    """That decode together."""
    batched_tokens: int | None = Field(None, ge=128)
    """Of one step."""
    memory_share: float = Field(0.92, gt=0, le=1)
    """Of each GPU's memory; at one half or less a single GPU may hold two engines."""
    features: frozenset[Feature] = frozenset({"prefix_caching"})

    def given(self, variant: str) -> Given:
        """As `models.choose` takes it."""
        said = self.model_dump(exclude_none=True)
        return Given(variant=variant, **said)


def completed(tree: Any) -> Any:
    """The tree, each model that names a card complete. Raises ValueError naming model and key."""
    models = tree.get("models") if isinstance(tree, Mapping) else None
    if not isinstance(models, list | tuple) or not any(map(_names_card, models)):
        return tree
    cards_dir = tree.get("cards_dir")
    try:
        known = sizing.load(Path(cards_dir).expanduser() if cards_dir else None)
    except (CatalogError, CalibrationError) as error:
        raise ValueError(
            Worded("field", "{name}: {what}", name="cards_dir", what=of(error))
        ) from None
    hub = _hub(tree.get("weights"))
    whole = []
    for index, model in enumerate(models):
        try:
            whole.append(_complete(known, model, hub) if _names_card(model) else model)
        except ValueError as error:
            template, name = "models.{index}.{why} (model {name})", repr(model.get("name"))
            said = Worded("settings.of_model", template, index=index, why=of(error), name=name)
            raise ValueError(said) from None
    return {**tree, "models": whole}


def engine_flags(known: Knowledge, layout: Layout, start: Start) -> Flags:
    """Flags of an engine laid out in settings. Raises ValueError when it cannot start so."""
    found = flags(*known.subjects(layout), layout, start)
    if isinstance(found, Refused):
        template, why = "{name}: {what}", joined(found.reasons)
        raise ValueError(Worded("field", template, name=name_of(layout), what=why))
    return found


def layout_of(card: str, variant: str, gpu: str, said: LayoutSettings) -> Layout:
    """The layout of a model whose settings are complete."""
    sizes = said.model_dump(exclude={"gpus", "features"})
    return Layout(card=card, variant=variant, gpu=gpu, features=said.features, **sizes)


def _names_card(model: Any) -> bool:
    return isinstance(model, Mapping) and bool(model.get("card"))


def source_of(card: Card, variant: str, hub: str = "") -> str:
    """Where a variant's weights are, as `serving.engine.weights.sources` reads it: on the preferred
    hub if they are known to be there, at the commit that the card pins if it pins one."""
    repository = card.variants[variant]
    if hub == "modelscope" and repository.modelscope is not None:
        return f"modelscope:{repository.modelscope}"  # commits of the other hub are not its own
    at = f"@{repository.revision}" if repository.revision else ""
    return f"hf:{repository.huggingface}{at}"


def _hub(weights: Any) -> str:
    return str(weights.get("hub") or "") if isinstance(weights, Mapping) else ""


def _complete(known: Knowledge, model: Mapping[str, Any], hub: str) -> dict[str, Any]:
    """The model's settings. Raises ValueError that starts with the key at fault."""
    try:
        card, of_hub = known.catalog.variant(str(model["card"]))
    except CatalogError as error:
        raise ValueError(Worded("field", "{name}: {what}", name="card", what=of(error))) from None
    variant = str(model.get("variant") or of_hub or next(iter(card.variants)))
    if variant not in card.variants:
        has = ", ".join(card.variants)
        raise ValueError(
            Worded(
                "settings.no_variant",
                "variant: no {variant}; {id} has {has}; name one of them",
                variant=repr(variant),
                id=card.id,
                has=has,
            )
        )
    named = {**_capable(card, variant, model), **model, "card": card.id, "variant": variant}
    engine = model.get("engine")
    if isinstance(engine, Mapping) or (engine is None and model.get("gpu")):
        named["engine"] = {"source": source_of(card, variant, hub), **(engine or {})}
    elif engine is not None:
        return named  # no settings of an engine, as pydantic will say
    if not model.get("gpu"):
        return _told(named, card)
    try:
        gpu = known.gpus.gpu(str(model["gpu"]))
    except UnknownGpuError as error:
        raise ValueError(Worded("field", "{name}: {what}", name="gpu", what=of(error))) from None
    return _laid_out(known, named, card, gpu)


def _capable(card: Card, variant: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """What clients may ask of it, and of which weights its vectors are."""
    if card.serving.runner != "pooling":
        thinks = {"is_always_thinking": card.thinking.mode == "always"}
        engine = model.get("engine")
        if "weights" in model or (isinstance(engine, Mapping) and engine.get("source")):
            return thinks  # its owner's own weights, perhaps: who knows whose they are
        also = tuple(sorted({one.huggingface for one in card.variants.values()}))
        return thinks | {"weights": card.variants[variant].huggingface, "weights_also": also}
    return {
        "surfaces": SURFACES[card.capabilities.task],
        "weights": card.variants[variant].huggingface,
    }


def _told(model: dict[str, Any], card: Card) -> dict[str, Any]:
    """For an engine whose GPUs are not ours to lay out: facts only."""
    length = model.get("context_tokens", context_of(card))
    whole = {"context_tokens": length, **model}
    if "engine" in model:
        whole["engine"] = {"max_model_len": length, **model["engine"]}
    return whole


def _laid_out(known: Knowledge, model: dict[str, Any], card: Card, gpu: Gpu) -> dict[str, Any]:
    engine, variant = model["engine"], model["variant"]
    layout = choose(card, gpu, _said(model, engine).given(variant))
    if isinstance(layout, DoesNotFit):
        raise ValueError(
            Worded(
                "settings.no_layout",
                "layout: {id}/{variant} on {name}: {reasons}; `ballast models fit "
                "{id}/{variant} --gpu {id_2}` shows what fits",
                id=card.id,
                variant=variant,
                name=gpu.name,
                reasons=joined(layout.reasons),
                id_2=gpu.id,
            )
        )
    try:
        engine_flags(known, layout, Start())
    except ValueError as error:
        raise ValueError(Worded("field", "{name}: {what}", name="layout", what=of(error))) from None
    waiting = max(WAITING_MIN, layout.sequences // 3)
    queued = layout.batched_tokens * layout.data * QUEUED_STEPS
    return {
        "context_tokens": layout.context_tokens,
        "profile": name_of(layout),
        **model,
        "gpu": gpu.id,
        "layout": _layout_tree(layout),
        "engine": {
            "max_num_queued_reqs": layout.sequences + waiting,
            "max_num_queued_tokens": max(queued, layout.context_tokens),
            **engine,
            "max_model_len": layout.context_tokens,
            "max_num_seqs": layout.sequences,
        },
    }


def _said(model: Mapping[str, Any], engine: Mapping[str, Any]) -> LayoutSettings:
    """What settings say of the layout, wherever they say it. Adapters need room."""
    given = model.get("layout") or {}
    said = {
        "context_tokens": engine.get("max_model_len", model.get("context_tokens")),
        "sequences": engine.get("max_num_seqs"),
        **(given.model_dump() if isinstance(given, LayoutSettings) else given),
    }
    try:
        layout = LayoutSettings.model_validate(said)
    except ValidationError as error:
        told = [
            Worded("field", "{name}: {what}", name=".".join(map(str, ("layout", *e["loc"]))),
                   what=checked(cast(dict[str, Any], e)))
            for e in error.errors()
        ]  # fmt: skip
        raise ValueError(joined(told)) from None
    if not model.get("adapters") and not (engine.get("spec") or {}).get("lora"):
        return layout
    return layout.model_copy(update={"features": layout.features | {"lora"}})


def _layout_tree(layout: Layout) -> dict[str, Any]:
    return {
        "gpus": layout.gpus,
        "tensor": layout.tensor,
        "data": layout.data,
        "is_expert_parallel": layout.is_expert_parallel,
        "context_tokens": layout.context_tokens,
        "sequences": layout.sequences,
        "batched_tokens": layout.batched_tokens,
        "memory_share": layout.memory_share,
        "features": sorted(layout.features),
    }
