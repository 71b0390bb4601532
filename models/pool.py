"""The KV memory of one engine as vLLM lays it out: one pool of equal blocks.

A plain model has one kind of block. A hybrid model's layers fall into groups of equal size that all
draw from the same pool: attention takes a block for every so many tokens, a group of linear layers
takes a fixed number for each running sequence, and the block is made so large that a recurrent
state fits into it. The arithmetic of vLLM 0.32's `kv_cache_utils` and `_align_hybrid_block_size`.
"""

from __future__ import annotations

import msgspec

from models.shape import Shape

BLOCK_TOKENS = 16
"""Of a plain model on CUDA."""
LATENT_ALIGNMENT = 128
"""Hybrids with latent attention align their blocks to it."""
SPARSE_FP8_SHARE = 656 / 1152
"""Bytes of `fp8_ds_mla` for one token and layer, against the BF16 latent."""
FP8_SHARE = 0.5


class Split(msgspec.Struct, frozen=True):
    """How one engine's KV memory lies on one GPU."""

    tensor: int = 1
    is_fp8: bool = False
    has_prefix_cache: bool = True
    speculated: int = 0
    """Tokens that are guessed ahead in each step."""
    element_bytes: int = 2
    """Of a key or value that is not FP8: 4 where the CPU engine runs in float32."""
    alignment: int = BLOCK_TOKENS
    """Tokens; the attention backend takes multiples of it."""


class Pool(msgspec.Struct, frozen=True):
    """Blocks of one GPU's KV memory."""

    block_tokens: int
    """Tokens of context in one block."""
    block_bytes: int
    """On each GPU."""
    state_blocks: int = 0
    """Each running sequence holds so many beside its context (recurrent states)."""

    def blocks(self, budget_bytes: float) -> int:
        """Whole blocks in a budget."""
        return max(0, int(budget_bytes // self.block_bytes))

    def needed(self, context_tokens: int) -> int:
        """Blocks of one sequence of that length."""
        return -(-context_tokens // self.block_tokens) + self.state_blocks

    def sequences(self, budget_bytes: float, context_tokens: int) -> int:
        """How many sequences of that length the budget holds at once."""
        return self.blocks(budget_bytes) // self.needed(context_tokens)

    def tokens(self, budget_bytes: float, sequences: int) -> int:
        """Tokens of context left when so many sequences hold their states."""
        left = self.blocks(budget_bytes) - sequences * self.state_blocks
        return max(0, left) * self.block_tokens

    def reported(self, budget_bytes: float, context_tokens: int) -> int:
        """What vLLM logs as `KV cache size`, with `--max-model-len context_tokens`."""
        share = self.blocks(budget_bytes) / self.needed(context_tokens)
        return int(share * context_tokens)


def pool_of(shape: Shape, split: Split) -> Pool:
    """The pool of a model with that shape, on each of `split.tensor` GPUs."""
    token_bytes = kv_bytes_per_gpu(shape, split)
    if not shape.is_hybrid:
        return Pool(split.alignment, round(token_bytes * split.alignment))
    linear = shape.layers - shape.attention_layers
    per_layer = token_bytes / shape.attention_layers
    alignment = max(split.alignment, LATENT_ALIGNMENT) if shape.is_latent else split.alignment
    page = _state_page_bytes(shape, split)
    block_tokens = alignment * max(1, -(-page // round(alignment * per_layer)))
    small, large = sorted((shape.attention_layers, linear))
    group = large if large < small * 1.5 else small
    held = (2 if split.has_prefix_cache else 1) + split.speculated
    return Pool(
        block_tokens=block_tokens,
        block_bytes=round(group * block_tokens * per_layer),
        state_blocks=-(-linear // group) * held,
    )


def kv_bytes_per_gpu(shape: Shape, split: Split) -> float:
    """Bytes of one token of context on each GPU. Heads are shared out, but never less than one a
    GPU; a latent, and the keys of a sparse index, lie whole on every GPU."""
    share = _fp8_share(shape) if split.is_fp8 else split.element_bytes / 2
    if shape.is_latent:
        return shape.kv_bytes * share + shape.indexer_bytes_per_token
    parts = min(split.tensor, shape.kv_heads or split.tensor)
    return shape.kv_bytes * share / parts + shape.indexer_bytes_per_token


def _fp8_share(shape: Shape) -> float:
    return SPARSE_FP8_SHARE if shape.attention == "mla_dsa" else FP8_SHARE


def _state_page_bytes(shape: Shape, split: Split) -> int:
    """Recurrent state of one linear layer for one sequence, on each GPU."""
    linear = shape.linear
    layers = shape.layers - shape.attention_layers
    total = float(shape.state_bytes_per_sequence)
    if linear is not None:
        guessed = 1 + split.speculated / (linear.conv_kernel - 1)
        total += linear.conv_bytes * guessed * split.element_bytes / 2
    return round(total / layers / split.tensor)
