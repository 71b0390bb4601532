"""What decides whether a layout can start at all, before memory is counted: kernels and division.

Pure: reasons to refuse, and cautions that do not forbid. From vLLM 0.32 and its tracker.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from models import wordbook
from models.card import Card, KnownBad, Variant, When
from models.gpu import NATIVE_FP8_SM, NODE_GPUS, SPARSE_MLA_SM, Gpu
from models.layout import Layout
from models.shape import Moe
from models.worded import Worded

FP8_BLOCK = 128
"""Block-FP8 scales cover 128 x 128 weights."""
FP8_REFINED = 32
"""vLLM 0.32 refines the scales of experts to blocks of this width at least."""
CODE_WORDS = 6
NOTE_WORDS = 9
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
        _known(bad)
        for bad in card.known_bad
        if bad.action == "refuse" and matches(bad.when, variant, gpu, layout)
    )


def cautions(card: Card, gpu: Gpu, layout: Layout) -> tuple[str, ...]:
    """What to know of a layout that may start."""
    variant = card.variants[layout.variant]
    return tuple(_cautions(card, variant, gpu, layout)) + tuple(
        _known(bad)
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


def trouble(bad: KnownBad) -> Worded:
    """What goes wrong, in words that the catalogue knows by the first of them."""
    said = bad.what.rstrip(".")
    return Worded.made(f"known_bad.{code_of(said)}", said, {})


def noted(note: str) -> str:
    """A card's note, in words that the catalogue knows if it has this very sentence."""
    code = f"note.{code_of(note, NOTE_WORDS)}"
    entry = wordbook.reasons().get(code)
    return Worded.made(code, note, {}) if entry is not None and entry["en"] == note else note


def code_of(sentence: str, words: int = CODE_WORDS) -> str:
    """Of a card's sentence: its first words."""
    return "_".join(re.findall(r"[a-z0-9]+", sentence.lower())[:words])


def _known(bad: KnownBad) -> str:
    return Worded("rules.known", "{what} ({issue})", what=trouble(bad), issue=bad.issue)


def expert_ways(layout: Layout) -> int:
    """Into how many parts each expert is cut: without expert parallelism data-parallel GPUs share
    the experts by cutting them too."""
    return 1 if layout.is_expert_parallel else layout.tensor * layout.data


def _spread(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    ways = layout.tensor
    if layout.gpus > NODE_GPUS:
        template = "{gpus} GPUs: one engine stands in one machine of {most}"
        yield Worded("rules.machine", template, gpus=layout.gpus, most=NODE_GPUS)
    if ways & (ways - 1):
        yield Worded("rules.power", "tensor parallelism {ways} is no power of two", ways=ways)
    if card.shape.moe is None and layout.data > 1:
        template = "data parallelism inside an engine is for mixtures of experts; add replicas"
        yield Worded("rules.data", template)
    if card.shape.moe is None and layout.is_expert_parallel:
        yield Worded("rules.no_experts", "it has no experts to spread")


def _kernels(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    has = Worded("rules.has", "{gpu} has {sm}", gpu=gpu.name, sm=gpu.sm)
    if gpu.sm < variant.sm_min:
        template, least = "{format} weights need compute capability {least}, {has}", variant.sm_min
        yield Worded("rules.weights", template, format=variant.format, least=least, has=has)
    elif card.shape.attention in SPARSE_LATENT and gpu.sm < SPARSE_MLA_SM:
        template = "sparse latent attention has no kernel below {least}, {has}"
        yield Worded("rules.sparse", template, least=SPARSE_MLA_SM, has=has)
    if "fp8_kv" in layout.features and gpu.sm < NATIVE_FP8_SM:
        template = "an FP8 KV cache needs compute capability {least}, {has}"
        yield Worded("rules.fp8_kv", template, least=NATIVE_FP8_SM, has=has)
    if "speculation" in layout.features and card.serving.speculation is None:
        yield Worded("rules.no_head", "it has no head to speculate with")
    if variant.format == "w4a8" and card.is_moe and "lora" in layout.features:
        template = "no kernel for 4-bit experts with 8-bit activations takes LoRA"
        yield Worded("rules.w4a8_lora", template)


def _heads(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    shape, ways = card.shape, layout.tensor
    if shape.heads is not None and shape.heads % ways:
        template = "{heads} attention heads do not divide by {ways}"
        yield Worded("rules.heads", template, heads=shape.heads, ways=ways)
    heads = shape.kv_heads
    if heads is not None and not shape.is_latent and heads % ways and ways % heads:
        template = "{heads} KV heads neither divide by {ways} nor {ways} by them"
        yield Worded("rules.kv_heads", template, heads=heads, ways=ways)
    linear = shape.linear
    if linear is not None and (linear.key_heads % ways or linear.value_heads % ways):
        template = "{keys} and {values} linear heads do not divide by {ways}"
        keys, values = linear.key_heads, linear.value_heads
        yield Worded("rules.linear_heads", template, keys=keys, values=values, ways=ways)


def _dense_width(card: Card, variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    width, ways = card.shape.intermediate, layout.tensor
    if variant.format != "fp8_block" or width is None:
        return
    if width % (ways * FP8_BLOCK):
        template = "block-FP8: the feed-forward width {width} / {ways} is no multiple of {block}"
        yield Worded("rules.dense_width", template, width=width, ways=ways, block=FP8_BLOCK)


def _experts(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    moe = card.shape.moe
    if moe is None:
        return
    ways, width = expert_ways(layout), moe.expert_intermediate
    if layout.is_expert_parallel and moe.experts % layout.gpus:
        template = "{experts} experts do not spread evenly over {gpus} GPUs"
        yield Worded("rules.uneven", template, experts=moe.experts, gpus=layout.gpus)
    if width % ways:
        template = "the expert width {width} does not divide by {ways}"
        yield Worded("rules.expert_width", template, width=width, ways=ways)
    elif variant.format == "fp8_block":
        yield from _expert_scales(moe, ways, gpu, layout)


def _expert_scales(moe: Moe, ways: int, gpu: Gpu, layout: Layout) -> Iterator[str]:
    block = _scale_block(moe, ways)
    if block < FP8_REFINED:
        template = (
            "block-FP8: the expert width {width} / {ways} leaves scale blocks of {block}, "
            "below {least}: spread the experts (EP) instead"
        )
        yield Worded("rules.scales", template, width=moe.expert_intermediate, ways=ways,
                     block=block, least=FP8_REFINED)  # fmt: skip
    elif block < FP8_BLOCK and gpu.sm < NATIVE_FP8_SM and "lora" in layout.features:
        yield Worded("rules.marlin_lora", "Marlin pads such experts, which excludes LoRA")


def _scale_block(moe: Moe, ways: int) -> int:
    return math.gcd(moe.expert_intermediate // ways, FP8_BLOCK)


def _context(card: Card, _variant: Variant, _gpu: Gpu, layout: Layout) -> Iterator[str]:
    context, asked = card.context, layout.context_tokens
    longest = context.stretched or context.native
    if asked > longest:
        template = "a context of {asked} tokens: it was made for {most} at most"
        yield Worded("rules.too_long", template, asked=asked, most=longest)
    elif context.offered_max is not None and asked > context.offered_max:
        template = "a context of {asked} tokens: we offer {most} at most"
        yield Worded("rules.offered", template, asked=asked, most=context.offered_max)


def _cautions(card: Card, variant: Variant, gpu: Gpu, layout: Layout) -> Iterator[str]:
    if gpu.support == "untried":
        template = "{gpu} is known by arithmetic only; nobody has tried this on it"
        yield Worded("rules.untried", template, gpu=gpu.name)
    if variant.format.startswith("fp8") and gpu.fp8_tflops is None:
        template = "FP8 weights save memory here but are multiplied in BF16 (Marlin)"
        yield Worded("rules.no_fp8", template)
    moe, ways = card.shape.moe, expert_ways(layout)
    if moe and variant.format == "fp8_block" and _scale_block(moe, ways) < FP8_BLOCK:
        template = "the scales of the cut experts are refined: only slower kernels can use them"
        yield Worded("rules.refined", template)
    if layout.context_tokens > card.context.native:
        template = "beyond its native {native} tokens: stretched, short prompts lose"
        yield Worded("rules.stretched", template, native=card.context.native)
    if gpu.link == "pcie" and layout.gpus > 1:
        yield Worded("rules.pcie", "its GPUs exchange every layer's results over PCIe")
