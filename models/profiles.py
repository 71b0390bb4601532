"""Profiles by name: those written down in `capacity`, and those computed from a catalogue card.

`qwen3-32b/fp8@2xh100-80` is a card, its variant, and GPUs; `+ep` spreads experts, `x4` after the
GPUs gives so many data-parallel ranks. Resolved when settings are read, never on the request path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from models import sizing
from models.calibration import CalibrationError
from models.capacity import PROFILES, Profile
from models.catalog import CatalogError
from models.gpu import Gpu, UnknownGpuError
from models.layout import Layout
from models.memory import DoesNotFit, Fits, fit
from models.sizing import Knowledge
from models.speed import NoCalibrationError
from models.step import StepModel
from models.worded import Worded, of

NAME: Final = re.compile(
    r"(?P<card>[a-z0-9][a-z0-9.-]*)/(?P<variant>[a-z0-9_-]+)"
    r"@(?P<tensor>\d+)x(?P<gpu>[a-z0-9-]+?)(?:x(?P<data>\d+))?(?P<ep>\+ep)?"
)
SEQUENCES_MAX: Final = 256
CONTEXT_TOKENS: Final = 32_768
"""Of a layout that a name stands for; the engine's own settings may differ."""


class ProfileError(ValueError):
    """No such profile, or the layout it names cannot be; says why."""


def named(name: str, cards_dir: Path | None = None) -> Profile:
    """The profile of that name. Raises ProfileError."""
    if name in PROFILES:
        return PROFILES[name]
    found = NAME.fullmatch(spelled(name))
    assert found is not None, name
    try:
        known = sizing.load(cards_dir)
        return profile_for(known, _layout(known, found))
    except (CatalogError, CalibrationError, UnknownGpuError, NoCalibrationError) as error:
        template, why = "profile {name}: {why}", of(error)
        raise ProfileError(Worded("profile.at", template, name=repr(name), why=why)) from None


def spelled(name: str) -> str:
    """The name, if it may be one. Raises ProfileError."""
    if name not in PROFILES and not NAME.fullmatch(name):
        template = "no such profile; known: {known}; or a card on GPUs, like {example}"
        example = "qwen3-32b/fp8@2xh100-80"
        raise ProfileError(Worded("profile.unknown", template, known=[*PROFILES], example=example))
    return name


def profile_for(known: Knowledge, layout: Layout, mean_output_tokens: int = 256) -> Profile:
    """What the gateway knows of an engine with that layout. Raises ProfileError when it cannot
    start, NoCalibrationError when nothing measured is near."""
    card, kind = known.subjects(layout)
    fits = fit(card, kind, layout)
    if isinstance(fits, DoesNotFit):
        template, why = "{name}: {why}", [*fits.reasons]
        raise ProfileError(Worded("profile.no_fit", template, name=name_of(layout), why=why))
    return _profile(layout, fits, sizing.model_of(known, layout), mean_output_tokens)


def name_of(layout: Layout) -> str:
    """The name of a layout's profile."""
    data = f"x{layout.data}" if layout.data > 1 else ""
    ep = "+ep" if layout.is_expert_parallel else ""
    return f"{layout.card}/{layout.variant}@{layout.tensor}x{layout.gpu}{data}{ep}"


def _layout(known: Knowledge, found: re.Match[str]) -> Layout:
    card = known.catalog.card(found["card"])
    if found["variant"] not in card.variants:
        template, asked = "{card} has no variant {asked}: {known}", repr(found["variant"])
        raise ProfileError(
            Worded("profile.variant", template, card=card.id, asked=asked, known=[*card.variants])
        )
    kind = known.gpus.gpu(found["gpu"])
    layout = Layout(
        card=card.id,
        variant=found["variant"],
        gpu=kind.id,
        tensor=int(found["tensor"]),
        data=int(found["data"] or 1),
        is_expert_parallel=found["ep"] is not None,
        context_tokens=min(CONTEXT_TOKENS, card.context.native),
        sequences=_sequences(kind),
        batched_tokens=kind.vllm.max_num_batched_tokens,
    )
    return sizing.within_states(card, kind, layout)


def _sequences(kind: Gpu) -> int:
    return min(SEQUENCES_MAX, kind.vllm.max_num_seqs)


def _profile(layout: Layout, fits: Fits, model: StepModel, mean_output_tokens: int) -> Profile:
    """Ranks work side by side: an engine's step is a rank's, its sequences are shared out."""
    ranks = layout.data
    chunk = layout.batched_tokens
    chunk_s = model.base_s + model.experts_s + model.per_prefill_token_s * chunk
    return Profile(
        name=name_of(layout),
        source=_source(model),
        base_s=model.base_s,
        per_sequence_s=model.per_sequence_s / ranks,
        per_context_token_s=model.per_context_token_s / ranks,
        per_prefill_token_s=model.per_prefill_token_s / ranks,
        prefill_tokens_per_s=ranks * chunk / chunk_s,
        max_num_seqs=min(layout.sequences, fits.sequences_max),
        kv_tokens=max(1, fits.kv_tokens),
        max_num_batched_tokens=chunk,
        mean_output_tokens=mean_output_tokens,
        experts_s=model.experts_s,
        untouched=1.0 - model.touched,
    )


def _source(model: StepModel) -> str:
    how = "measured" if model.basis == "fitted" else "scaled by the roofline"
    note = f", {model.note}" if model.note else ""
    return f"{how}: calibration {model.calibration}{note}; expect +-{model.error:.0%}"
