"""How many kernels one layer of a model starts in a step that computes few tokens.

Each costs a GPU some microseconds however little it does, and the next cannot begin before it ends:
that, not reading weights, is most of a small step. So what a layer was measured to cost beyond its
weights is scaled by this count. Counted in the source of vLLM 0.32 (2026-11-26) for the default
level of compilation, tensor parallel; none is fitted. Pure.
"""

from __future__ import annotations

ATTENTION = 7
"""Norm, projection to queries, keys and values, rotation, writing to the cache, attention in two
(parts of the context, then their sum), output projection. A gated delta net has as many: norm, two
projections, convolution, recurrence, gated norm, output."""
AROUND = 3
"""The norm before the feed-forward, and the exchange between GPUs after each half."""
DENSE = 3
"""Two projections and the activation between them."""
EXPERTS = 8
"""Router, choice, two that sort tokens by expert, two projections and the activation between them,
the weighted sum."""
SHARED_EXPERT = 4
"""A dense feed-forward beside the experts, and the sum of both."""
LATENT = 5
"""Norms of both latents, the second query projection, the products that take queries into the
latent and answers out of it."""
INDEX = 8
"""Of a sparse attention: two projections, norm, rotation, quantising queries, writing keys, scores,
choice of tokens."""
BLOCK_QUANT = 1
"""FP8 in blocks: quantising what attention gives. The norms' and the activation's quantising is
fused into them (`fuse_norm_quant`, `fuse_act_quant`)."""
BLOCK_QUANT_EXPERTS = 3
"""The fused experts quantise their input and what is between their projections themselves."""


def kernels(
    *,
    is_moe: bool,
    weights: str,
    has_shared_expert: bool = False,
    is_latent: bool = False,
    has_index: bool = False,
) -> int:
    """Kernels of one layer; `weights` is the variant's format."""
    count = ATTENTION + AROUND + (EXPERTS if is_moe else DENSE)
    if weights == "fp8_block":
        count += BLOCK_QUANT_EXPERTS if is_moe else BLOCK_QUANT
    return count + SHARED_EXPERT * has_shared_expert + LATENT * is_latent + INDEX * has_index
