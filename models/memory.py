"""Whether a layout of a card fits on its GPUs: weights, reserve, KV pool, recurrent states.

Pure arithmetic on facts: a value with the numbers, or a refusal with reasons and the numbers. What
it cannot know is stated in `cautions`; how fast the layout is, `speed` says.
"""

from __future__ import annotations

import msgspec

from models.bulk import GIB, expert_bytes
from models.card import Card, Variant
from models.gpu import Gpu
from models.layout import Layout
from models.pool import Pool, Split, pool_of
from models.rules import cautions, refusals
from models.worded import Worded

WEIGHTS_SLACK = 0.02
"""Of computed weights: scales, buffers and alignment that parameters x bytes leave out."""
COLLECTIVE_GIB = 0.5
"""Buffers of the collectives on each of several GPUs (NCCL, custom all-reduce)."""
SMALL_TOKENS = 2048
SMALL_SEQUENCES = 32
SHARED_BELOW = 0.9
SMALL_SHARE = 0.5
"""Of the reserve, for an engine that shares its GPU and takes so few tokens a step and sequences at
once: a quarter of the activations, few graphs. ASSUMED, so watch the first start; Qwen3-32B in BF16
with 32k of context starts on one A100-80 (GPUStack), which leaves at most 2.3 GiB of reserve."""
HOST_TABLE_SHARE = 0.07
"""Of the GPU's memory, more reserve where a part of the weights stays in host memory: the recipe of
Qwen3.8-Flash-Next asks for a memory share of 0.85 in place of 0.92 (recipes PR 923)."""
HOST_EXTRA_GIB = 8.0
"""Host memory of one engine beside its weights: processes, pinned buffers, the hub's cache."""


class Budget(msgspec.Struct, frozen=True):
    """GiB on each GPU of the layout."""

    memory: float
    """The layout's share of the GPU's memory."""
    weights: float
    reserve: float
    """Activations, CUDA graphs, allocator slack, collectives."""

    @property
    def left(self) -> float:
        """For the KV pool; below zero when the weights alone do not fit."""
        return self.memory - self.weights - self.reserve


class Fits(msgspec.Struct, frozen=True):
    """The layout can start, and this is what it holds. Tokens and sequences are of the engine."""

    budget: Budget
    pool: Pool
    kv_tokens: int
    """Tokens of context, with the states of the layout's sequences taken off."""
    kv_tokens_reported: int
    """What vLLM logs for this `--max-model-len`, for each data-parallel rank."""
    sequences: int
    """Sequences of full context at once; never above the layout's own."""
    sequences_max: int
    """Sequences that can run at once at all: a hybrid's states bound `--max-num-seqs`."""
    state_gib: float
    """Recurrent states of one sequence, on each GPU."""
    host_gib: float
    """Host memory while it starts and, for tables kept there, while it serves."""
    cautions: tuple[str, ...] = ()


class DoesNotFit(msgspec.Struct, frozen=True):
    """The layout is refused."""

    reasons: tuple[str, ...]
    budget: Budget | None = None
    """None when a rule forbids it and memory was not counted."""


def fit(card: Card, gpu: Gpu, layout: Layout) -> Fits | DoesNotFit:
    """Count the memory of `layout`. Raises KeyError for an unknown variant."""
    reasons = refusals(card, gpu, layout)
    if reasons:
        return DoesNotFit(reasons)
    variant = card.variants[layout.variant]
    budget = budget_of(card, gpu, layout)
    pool = pool_of(card.shape, split_of(card, layout))
    kv_bytes = budget.left * GIB
    blocks, per_rank = pool.blocks(kv_bytes), -(-layout.sequences // layout.data)
    if blocks < pool.needed(layout.context_tokens):
        return DoesNotFit((_too_small(budget, pool, layout),), budget)
    most = blocks // (pool.state_blocks + 1)
    if per_rank > most:
        return DoesNotFit((_too_many(pool, layout, most * layout.data),), budget)
    return Fits(
        budget=budget,
        pool=pool,
        kv_tokens=pool.tokens(kv_bytes, per_rank if pool.state_blocks else 0) * layout.data,
        kv_tokens_reported=pool.reported(kv_bytes, layout.context_tokens),
        sequences=min(
            pool.sequences(kv_bytes, layout.context_tokens) * layout.data, layout.sequences
        ),
        sequences_max=most * layout.data,
        state_gib=pool.state_blocks * pool.block_bytes / GIB,
        host_gib=host_gib(variant),
        cautions=cautions(card, gpu, layout),
    )


def budget_of(card: Card, gpu: Gpu, layout: Layout) -> Budget:
    """Memory, weights and reserve on each GPU."""
    variant = card.variants[layout.variant]
    return Budget(
        memory=gpu.memory_gib * layout.memory_share,
        weights=weights_gib_per_gpu(card, variant, layout),
        reserve=_reserve_gib(variant, gpu, layout),
    )


def _reserve_gib(variant: Variant, gpu: Gpu, layout: Layout) -> float:
    is_small = (
        layout.memory_share < SHARED_BELOW
        and layout.batched_tokens <= SMALL_TOKENS
        and layout.sequences <= SMALL_SEQUENCES
    )
    reserve = gpu.reserve_gib * (SMALL_SHARE if is_small else 1.0)
    if layout.gpus > 1:
        reserve += COLLECTIVE_GIB
    return reserve + (gpu.memory_gib * HOST_TABLE_SHARE if variant.host_gib else 0.0)


def weights_gib_per_gpu(card: Card, variant: Variant, layout: Layout) -> float:
    """Experts are shared out over all GPUs of the engine, everything else over the tensor-parallel
    ones: each data-parallel rank has a copy of it."""
    slack = 1.0 if variant.is_measured else 1.0 + WEIGHTS_SLACK
    experts = expert_bytes(card, variant) / GIB
    rest = variant.weights_gib - variant.host_gib - experts
    return slack * (experts / layout.gpus + rest / layout.tensor)


def split_of(card: Card, layout: Layout) -> Split:
    """How the layout's KV memory lies on one GPU."""
    speculation = card.serving.speculation
    guesses = "speculation" in layout.features and speculation is not None
    return Split(
        tensor=layout.tensor,
        is_fp8="fp8_kv" in layout.features,
        has_prefix_cache="prefix_caching" in layout.features,
        speculated=speculation.tokens if guesses and speculation is not None else 0,
    )


def host_gib(variant: Variant) -> float:
    """Host memory to ask for: the checkpoint passes through it, and tables may stay there."""
    return variant.weights_gib + HOST_EXTRA_GIB


def _too_small(budget: Budget, pool: Pool, layout: Layout) -> str:
    needed = pool.needed(layout.context_tokens) * pool.block_bytes / GIB
    template = "{memory} GiB of each GPU - weights {weights} - reserve {reserve} = {left} GiB"
    had = Worded(
        "memory.had", template, memory=f"{budget.memory:.1f}", weights=f"{budget.weights:.1f}",
        reserve=f"{budget.reserve:.1f}", left=f"{max(budget.left, 0.0):.1f}",
    )  # fmt: skip
    if budget.left <= 0:
        return Worded("memory.weights", "the weights do not fit: {had}", had=had)
    template = "one sequence of {tokens} tokens needs {needed} GiB of KV: {had}"
    tokens = layout.context_tokens
    return Worded("memory.context", template, tokens=tokens, needed=f"{needed:.1f}", had=had)


def _too_many(pool: Pool, layout: Layout, most: int) -> str:
    state = pool.state_blocks * pool.block_bytes / GIB
    each = Worded("memory.held", ", each holds {state} GiB of state", state=f"{state:.2f}")
    template, held = "{count} sequences at once{held}: at most {most} fit", each if state else ""
    return Worded("memory.sequences", template, count=layout.sequences, held=held, most=most)
