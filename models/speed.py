"""How long one step of an engine takes: from the nearest measured configuration, scaled if need be.

A calibration of the very configuration is used as it is. Else the nearest one is scaled by the
roofline: what it took beyond reading its weights is overhead that each kernel of every layer pays
on that engine, at the GPU's clock; how much slower than the roofline it read its context and
multiplied its prompts carries over too. Pure; says what it leaned on and how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from models.bulk import Bulk
from models.calibration import Calibration, FirstToken
from models.gpu import Gpu
from models.roofline import Spread, Times, times
from models.step import StepModel
from models.worded import Worded

KAPPA_S_PER_MB = 12e-6
"""Seconds for each MB of hidden states of one prompt token (norms, sums, exchange over NVLink): the
part of prefill that does not shrink with tensor parallelism. Ten configurations of two dense models
on H100 and H200 give 11.6 to 12.1."""
READ_SHARE = 0.85
"""Of the roofline that attention kernels reach while they read KV; for fits that cannot tell."""
SLOWDOWN_MAX = 16.0
"""A coefficient further from the roofline measured something else; small prompts through experts
come near it."""
FIRST = FirstToken(fixed_ms=40.0, per_kilo_ms=0.0, per_kilo_sequence_ms=0.0)
WAIT_SHARE = 0.07
"""Of each other sequence's prefill that a prompt waits for, in a closed loop: 22 configurations of
five models on vLLM and SGLang give 0.05 to 0.1."""
PAIR_SHARE = 0.35
"""Of the peak rate that prefill's attention reaches (aiconfigurator's kernel tables, H100)."""

ERROR_FITTED = 0.05
ERROR_DENSE = 0.08
ERROR_EXPERTS = 0.2
ERROR_OTHER_EXPERTS = 0.3
ERROR_GENERATION = 0.1
ERROR_ATTENTION = 0.1
ERROR_RANKS = 0.2
ERROR_UNTRIED = 0.4
"""Expected errors of the time per output token. The first four are the errors, rounded up, that
leaving calibrations out shows. The others are ASSUMED: nobody has published enough of A100, of
dense models with linear or latent attention, of data-parallel ranks that wait for each other, and
of the untried kinds to tell."""
ENGINE_DISTANCE = {"vllm": 0.0, "sglang": 1.8, "trtllm": 4.0}
"""SGLang shares most kernels with vLLM, TensorRT-LLM few."""


class Configuration(msgspec.Struct, frozen=True):
    """What is asked about: a model on GPUs."""

    bulk: Bulk
    gpu: Gpu
    spread: Spread
    card: str = ""
    variant: str = ""


class NoCalibrationError(Exception):
    """Nothing measured is near enough to scale from."""


def step_model(
    asked: Configuration, known: Iterable[tuple[Calibration, Configuration]]
) -> StepModel:
    """The step model of `asked`, from the nearest of `known`. Raises NoCalibrationError."""
    ranked = sorted(
        ((distance(asked, one, its), one.name, one, its) for one, its in known),
        key=lambda found: found[:2],
    )
    for _, _, one, its in ranked:
        if is_same(asked, its):
            return _fitted(asked, one)
        if one.scales:
            return _scaled(asked, one, its)
    template = "no calibration to scale from; run `ballast models profile`"
    raise NoCalibrationError(Worded("rules.no_calibration", template))


def is_same(asked: Configuration, its: Configuration) -> bool:
    """Whether a calibration is of the very configuration."""
    return (
        asked.card == its.card != ""
        and asked.variant == its.variant
        and asked.gpu.id == its.gpu.id
        and asked.spread == its.spread
    )


def distance(asked: Configuration, one: Calibration, its: Configuration) -> float:
    """How far a calibration is from what is asked: first what cannot be scaled (engine, experts,
    kind of attention, width of the weights), then what can (GPU, count, size), then age."""
    far = ENGINE_DISTANCE[one.engine]
    far += 8.0 * (asked.bulk.is_moe != its.bulk.is_moe)
    far += 1.5 * (_attention(asked.bulk) != _attention(its.bulk))
    far += 1.0 * (_bits(asked.bulk) != _bits(its.bulk))
    if asked.gpu.id != its.gpu.id:
        far += 0.5 if asked.gpu.sm == its.gpu.sm else 1.5
    far += 0.3 * abs(math.log2(asked.spread.tensor / its.spread.tensor))
    far += 0.3 * abs(math.log2(asked.spread.data / its.spread.data))
    far += abs(math.log10(_bytes(asked.bulk) / _bytes(its.bulk)))
    if asked.card == its.card != "":
        far -= 2.0 if asked.variant == its.variant else 1.0
    return far - 0.3 * (int(one.measured[:4]) - 2026 + int(one.measured[5:7]) / 12)


def _attention(bulk: Bulk) -> str:
    if bulk.state_bytes:
        return "hybrid"
    return "plain" if bulk.kv_heads else "latent"


def _bits(bulk: Bulk) -> int:
    if bulk.format == "bf16":
        return 16
    return 8 if bulk.format.startswith("fp8") else 4


def _bytes(bulk: Bulk) -> float:
    return bulk.dense_bytes + bulk.expert_bytes


def _fitted(asked: Configuration, one: Calibration) -> StepModel:
    return StepModel(
        base_s=one.base_ms * 1e-3,
        experts_s=one.experts_ms * 1e-3,
        touched=asked.bulk.touched,
        ranks=asked.spread.data,
        per_sequence_s=one.per_sequence_ms * 1e-3,
        per_context_token_s=one.per_kilo_context_ms * 1e-6,
        per_prefill_token_s=one.per_kilo_prefill_ms * 1e-6,
        per_prompt_s=one.per_prompt_ms * 1e-3,
        per_prefill_pair_s=_pair_s(asked),
        first=one.first_token or _first(one.per_kilo_prefill_ms),
        basis="fitted",
        calibration=one.name,
        error=max(ERROR_FITTED, one.mean_error),
        note=_engine_note(one),
    )


def _scaled(asked: Configuration, one: Calibration, its: Configuration) -> StepModel:
    mine = times(asked.bulk, asked.gpu, asked.spread)
    theirs = times(its.bulk, its.gpu, its.spread)
    layer_s = max(0.0, one.base_ms * 1e-3 - theirs.dense_s) / its.bulk.layers
    layer_s *= its.gpu.clock_ghz / asked.gpu.clock_ghz
    layer_s *= asked.bulk.kernels / its.bulk.kernels
    prefill_s = (
        mine.prefill_token_s * _slower(_multiplying(one, theirs), theirs.prefill_token_s, 1.0)
        + KAPPA_S_PER_MB * mine.hidden_mb
        + mine.exchange_token_s
    )
    read = _slower(one.per_kilo_context_ms * 1e-6, theirs.context_token_s, 1 / READ_SHARE)
    experts = _slower(one.experts_ms * 1e-3, theirs.experts_s, 1.0)
    return StepModel(
        base_s=mine.dense_s + layer_s * asked.bulk.layers + mine.exchange_step_s,
        experts_s=mine.experts_s * experts,
        touched=asked.bulk.touched,
        ranks=asked.spread.data,
        per_sequence_s=max(0.0, one.per_sequence_ms * 1e-3 - theirs.state_s) + mine.state_s,
        per_context_token_s=mine.context_token_s * read,
        per_prefill_token_s=prefill_s,
        per_prompt_s=0.0,  # vLLM mixes prompts into the steps of answers
        per_prefill_pair_s=_pair_s(asked),
        first=_first(prefill_s * 1e6),
        basis="scaled",
        calibration=one.name,
        error=_error(asked, its),
        note=_engine_note(one),
    )


def _multiplying(one: Calibration, theirs: Times) -> float:
    """What is left of its time for a prompt token once the hidden states are paid for."""
    return one.per_kilo_prefill_ms * 1e-6 - KAPPA_S_PER_MB * theirs.hidden_mb


def _slower(seconds: float, roofline_s: float, unknown: float) -> float:
    """How many times slower than the roofline, within reason."""
    if seconds <= 0.0 or roofline_s <= 0.0:
        return unknown
    return min(max(seconds / roofline_s, 1.0), SLOWDOWN_MAX)


def _pair_s(asked: Configuration) -> float:
    rate = asked.gpu.bf16_tflops * 1e12 * PAIR_SHARE
    return 4.0 * asked.bulk.attention_width / asked.spread.tensor / rate


def _first(per_kilo_ms: float) -> FirstToken:
    return FirstToken(
        fixed_ms=FIRST.fixed_ms,
        per_kilo_ms=per_kilo_ms,
        per_kilo_sequence_ms=per_kilo_ms * WAIT_SHARE,
    )


def _engine_note(one: Calibration) -> str:
    if one.engine == "vllm":
        return ""
    template, release = "measured on {engine} {release}", one.engine_version
    return Worded("rules.engine", template, engine=one.engine, release=release)


def _error(asked: Configuration, its: Configuration) -> float:
    """What leaving calibrations out shows, by what had to be bridged (docs/capacity.md)."""
    if asked.gpu.support == "untried":
        return ERROR_UNTRIED
    error = ERROR_DENSE
    if asked.bulk.is_moe:  # whose errors hold attention of all kinds already
        error = ERROR_EXPERTS if asked.bulk == its.bulk else ERROR_OTHER_EXPERTS
    elif _attention(asked.bulk) != _attention(its.bulk):
        error += ERROR_ATTENTION
    if asked.spread.data != its.spread.data:
        error += ERROR_RANKS
    return error + (ERROR_GENERATION if asked.gpu.sm != its.gpu.sm else 0.0)
