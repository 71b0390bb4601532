"""What of a model has to be moved and computed: bytes and parameters, by the part they play.

Memory and speed are computed from these few numbers; a calibration of a foreign model states them
directly. Pure.
"""

from __future__ import annotations

import msgspec

from models.card import Card, Variant
from models.kernels import kernels
from models.shape import Shape

GIB = 1 << 30
PARAMETER_BYTES = {
    "bf16": 2.0, "fp8_block": 1.0, "fp8_channel": 1.0,
    "awq_int4": 0.53, "gptq_int4": 0.53, "w4a8": 0.53,
}  # fmt: skip
"""With scales: 4 bits and one 16-bit scale for each 128 weights."""
EXPERT_SHARE_MAX = 0.97
"""Of the weights: attention, norms and embeddings always take some."""
TIED_BELOW_B = 6.0
"""Smaller Qwen models use the embeddings as their head (config.json of Qwen3 and Qwen3.5)."""


class Bulk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set of weights of one model. Bytes are of the whole model."""

    layers: int
    hidden: int
    dense_bytes: float
    """Read by every step: all weights but experts and the input embeddings."""
    expert_bytes: float
    """Routed experts; a step reads those that some token of it chose."""
    touched: float
    """Share of the experts that one token chooses; 0 without experts."""
    active_b: float
    """Parameters that work on one token, in billions, without embeddings."""
    kv_bytes: int
    """Read for each token of context by each step, BF16; of a sparse attention its index."""
    kv_heads: int = 0
    """Over which they are shared out; 0 for a latent or an index, whole on each GPU."""
    attention_width: int = 0
    """Attention layers x heads x width of a head: what prefill multiplies with each earlier token;
    0 where the attention is sparse."""
    state_bytes: int = 0
    """Recurrent state of one sequence, read and written by each step."""
    format: str = "bf16"
    """Of the weights: `bf16`, `fp8...`, `...int4`, `w4a8`, `mxfp4`."""
    kernels: int = 13
    """That one layer starts in a small step (`kernels`); a dense model's in BF16."""

    @property
    def is_moe(self) -> bool:
        """Whether it has experts."""
        return self.touched > 0


def bulk_of(card: Card, variant: Variant) -> Bulk:
    """The bulk of one variant of a card."""
    shape, moe = card.shape, card.shape.moe
    vocabulary = (shape.vocabulary or 0) * shape.hidden
    is_tied = card.size.total_b < TIED_BELOW_B
    held = max(variant.weights_gib - variant.host_gib, 0.0) * GIB
    experts = expert_bytes(card, variant)
    unread = 0.0 if is_tied else vocabulary * 2.0
    embedded_b = vocabulary * (1 if is_tied else 2) / 1e9
    return Bulk(
        layers=shape.layers,
        hidden=shape.hidden,
        dense_bytes=max(held - experts - unread, 0.0),
        expert_bytes=experts,
        touched=moe.experts_per_token / moe.experts if moe else 0.0,
        active_b=max(card.size.active_b - embedded_b, card.size.active_b / 2),
        kv_bytes=shape.indexer_bytes_per_token or shape.kv_bytes,
        kv_heads=0 if shape.is_latent or shape.indexer_bytes_per_token else shape.kv_heads or 1,
        attention_width=_attention_width(shape),
        state_bytes=shape.state_bytes_per_sequence,
        format=variant.format,
        kernels=kernels(
            is_moe=moe is not None,
            weights=variant.format,
            has_shared_expert=moe is not None and moe.shared_experts > 0,
            is_latent=shape.is_latent,
            has_index=shape.indexer_bytes_per_token > 0,
        ),
    )


def _attention_width(shape: Shape) -> int:
    if shape.indexer_bytes_per_token or shape.heads is None:
        return 0
    return shape.attention_layers * shape.heads * shape.head_dim


def expert_bytes(card: Card, variant: Variant) -> float:
    """Bytes of the routed experts of all layers; the few dense first layers count as if they had
    experts too, which the share of the weights bounds."""
    shape, moe = card.shape, card.shape.moe
    if moe is None:
        return 0.0
    parameters = shape.layers * moe.experts * 3 * shape.hidden * moe.expert_intermediate
    most = (variant.weights_gib - variant.host_gib) * GIB * EXPERT_SHARE_MAX
    return min(parameters * PARAMETER_BYTES[variant.format], most)
