"""What decides whether a layout can start at all, before memory is counted: kernels and division.

Pure: reasons to refuse, and cautions that do not forbid. From vLLM 0.32 and its tracker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from models.card import Card, Variant, When
from models.gpu import NATIVE_FP8_SM, NODE_GPUS, SPARSE_MLA_SM, Gpu
from models.layout import Layout
from models.shape import Moe

FP8_BLOCK = 128
"""Block-FP8 scales cover 128 x 128 weights."""
FP8_REFINED = 32
"""vLLM 0.32 refines the scales of experts to blocks of this width at least."""
SPARSE_LATENT = frozenset({"mla_dsa", "kda_mla_hybrid"})


def refusals(card: Card, gpu: Gpu, layout: Layout) -> tuple[str, ...]:
    """Why this layout of the card cannot start on that GPU; empty when nothing forbids it.
    Raises KeyError when the card has no such variant."""
    variant = card.variants[layout.variant]
    return tuple(
        reason
        for rule in (_spread, _kernels, _heads, _dense_width, _experts, _context)
        for reason in rule(card, variant, gpu, layout)
    ) + tuple(
        f"{bad.what} ({bad.issue})"
        for bad in card.known_bad
        if bad.action == "refuse" and matches(bad.when, variant, gpu, layout)
    )


def cautions(card: Card, gpu: Gpu, layout: Layout) -> tuple[str, ...]:
    """What to know of a layout that may start."""
    variant = card.variants[layout.variant]
    return tuple(_cautions(card, variant, gpu, layout)) + tuple(
        f"{bad.what} ({bad.issue})"
        for bad in card.known_bad
        if bad.action == "warn" and matches(bad.when, variant, gpu, layout)
    )


def matches(when: When, variant: Variant, gpu: Gpu, layout: Layout) -> bool:
    """Whether all that the condition says holds for the layout."""
    return (
        (when.sm_from is None or gpu.sm >= when.sm_from)
        and (when.sm_below is None or gpu.sm < when.sm_below)
        and (not when.gpus or gpu.id in when.gpus)
        and (not when.formats or variant.format in when.formats)
        and layout.features >= set(when.features)
        and (not when.tensor_parallel or layout.tensor in when.tensor_parallel)
        and (when.context_above is None or layout.context_tokens > when.context_above)
    )


def expert_ways(layout: Layout) -> int:
    """Into how many parts each expert is cut: without expert parallelism data-parallel GPUs share
    the experts by cutting them too."""
    return 1 if layout.is_expert_parallel else layout.tensor * layout.data


def _spread(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    if layout.gpus > NODE_GPUS:
        yield f"{layout.gpus} GPUs: one engine stands in one machine of {NODE_GPUS}"
    if layout.tensor & (layout.tensor - 1):
        yield f"tensor parallelism {layout.tensor} is no power of two"
    if card.shape.moe is None and layout.data > 1:
        yield "data parallelism inside an engine is for mixtures of experts; add replicas"
    if card.shape.moe is None and layout.is_expert_parallel:
        yield "it has no experts to spread"


def _kernels(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    if gpu.sm < variant.sm_min:
        yield f"{variant.format} weights need compute capability {variant.sm_min}, {_has(gpu)}"
    elif card.shape.attention in SPARSE_LATENT and gpu.sm < SPARSE_MLA_SM:
        yield f"sparse latent attention has no kernel below {SPARSE_MLA_SM}, {_has(gpu)}"
    if "fp8_kv" in layout.features and gpu.sm < NATIVE_FP8_SM:
        yield f"an FP8 KV cache needs compute capability {NATIVE_FP8_SM}, {_has(gpu)}"
    if "speculation" in layout.features and card.serving.speculation is None:
        yield "it has no head to speculate with"
    if variant.format == "w4a8" and card.is_moe and "lora" in layout.features:
        yield "no kernel for 4-bit experts with 8-bit activations takes LoRA"


def _has(gpu: Gpu) -> str:
    return f"{gpu.name} has {gpu.sm}"


def _heads(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    shape, ways = card.shape, layout.tensor
    if shape.heads is not None and shape.heads % ways:
        yield f"{shape.heads} attention heads do not divide by {ways}"
    heads = shape.kv_heads
    if heads is not None and not shape.is_latent and heads % ways and ways % heads:
        yield f"{heads} KV heads neither divide by {ways} nor {ways} by them"
    linear = shape.linear
    if linear is not None and (linear.key_heads % ways or linear.value_heads % ways):
        yield f"{linear.key_heads} and {linear.value_heads} linear heads do not divide by {ways}"


def _dense_width(card: Card, variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    width = card.shape.intermediate
    if variant.format != "fp8_block" or width is None:
        return
    if width % (layout.tensor * FP8_BLOCK):
        yield (
            f"block-FP8: the feed-forward width {width} / {layout.tensor} is no multiple of "
            f"{FP8_BLOCK}"
        )


def _experts(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    moe = card.shape.moe
    if moe is None:
        return
    ways = expert_ways(layout)
    if layout.is_expert_parallel and moe.experts % layout.gpus:
        yield f"{moe.experts} experts do not spread evenly over {layout.gpus} GPUs"
    if moe.expert_intermediate % ways:
        yield f"the expert width {moe.expert_intermediate} does not divide by {ways}"
    elif variant.format == "fp8_block":
        block = _scale_block(moe, ways)
        if block < FP8_REFINED:
            yield (
                f"block-FP8: the expert width {moe.expert_intermediate} / {ways} leaves scale "
                f"blocks of {block}, below {FP8_REFINED}: spread the experts (EP) instead"
            )
        elif block < FP8_BLOCK and gpu.sm < NATIVE_FP8_SM and "lora" in layout.features:
            yield "Marlin pads such experts, which excludes LoRA"


def _scale_block(moe: Moe, ways: int) -> int:
    return math.gcd(moe.expert_intermediate // ways, FP8_BLOCK)


def _context(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    context, asked = card.context, layout.context_tokens
    longest = context.stretched or context.native
    if asked > longest:
        yield f"a context of {asked} tokens: it was made for {longest} at most"
    elif context.offered_max is not None and asked > context.offered_max:
        yield f"a context of {asked} tokens: we offer {context.offered_max} at most"


def _cautions(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    if gpu.support == "untried":
        yield f"{gpu.name} is known by arithmetic only; nobody has tried this on it"
    if variant.format.startswith("fp8") and gpu.fp8_tflops is None:
        yield "FP8 weights save memory here but are multiplied in BF16 (Marlin)"
    moe, ways = card.shape.moe, expert_ways(layout)
    if moe and variant.format == "fp8_block" and _scale_block(moe, ways) < FP8_BLOCK:
        yield "the scales of the cut experts are refined: only slower kernels can use them"
    if layout.context_tokens > card.context.native:
        yield f"beyond its native {card.context.native} tokens: stretched, short prompts lose"
    if gpu.link == "pcie" and layout.gpus > 1:
        yield "its GPUs exchange every layer's results over PCIe"
