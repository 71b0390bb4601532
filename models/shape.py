"""Sizes of a model that memory, parallelism and speed depend on."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from models.fact import Group, Positive, Sourced

Attention: TypeAlias = Literal[
    "gqa", "mla", "mla_dsa", "gdn_hybrid", "gdn_sparse_hybrid", "kda_mla_hybrid"
]  # fmt: skip
HYBRID: frozenset[Attention] = frozenset({"gdn_hybrid", "gdn_sparse_hybrid", "kda_mla_hybrid"})
LATENT: frozenset[Attention] = frozenset({"mla", "mla_dsa", "kda_mla_hybrid"})
"""One latent per token for all heads, so every tensor-parallel rank holds all of it."""


class Moe(Group):
    """Mixture of experts."""

    experts: Positive
    experts_per_token: Positive
    shared_experts: int = Field(0, ge=0)
    expert_intermediate: Positive
    """Width of one expert; block-FP8 needs it to divide by 128 on each rank (or a refined grid)."""


class Linear(Group):
    """The layers of a hybrid that keep a state of fixed size (GDN, KDA)."""

    layers: Positive
    key_heads: Positive
    value_heads: Positive
    key_dim: Positive
    value_dim: Positive
    conv_kernel: Positive
    state_dtype: Literal["float32", "bfloat16"]
    """As vLLM keeps the recurrent state when it is told nothing."""

    @property
    def state_bytes(self) -> int:
        """Recurrent state of one sequence, whole model."""
        width = 4 if self.state_dtype == "float32" else 2
        return self.layers * self.value_heads * self.key_dim * self.value_dim * width

    @property
    def conv_bytes(self) -> int:
        """State of the convolutions of one sequence, BF16, whole model, without speculation; each
        speculated token adds 1 / (conv_kernel - 1) of it."""
        channels = 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        return self.layers * channels * (self.conv_kernel - 1) * 2


class Shape(Sourced):
    """Sizes that memory and parallelism depend on."""

    attention: Attention
    layers: Positive
    attention_layers: Positive
    """Layers that keep keys and values; the others keep a state of fixed size."""
    hidden: Positive
    heads: Positive | None = None
    kv_heads: Positive | None = None
    head_dim: Positive
    """For latent attention the width of the latent with its rope part."""
    intermediate: Positive | None = None
    """Width of the dense feed-forward; block-FP8 needs it to divide by 128 on each rank."""
    vocabulary: Positive | None = None
    kv_bytes_per_token: Positive | None = None
    """BF16, whole model; stated only where `kv_bytes` cannot be computed from the heads."""
    indexer_bytes_per_token: int = Field(0, ge=0)
    """Keys that a sparse attention keeps beside its KV to choose tokens by, whole model."""
    state_bytes_per_sequence: int = Field(0, ge=0)
    """Recurrent state of the linear layers, whole model, for each running sequence."""
    linear: Linear | None = None
    moe: Moe | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention_layers > self.layers:
            raise ValueError("attention_layers: more of them than layers")
        if self.is_hybrid == (self.attention_layers == self.layers):
            raise ValueError("attention: a hybrid has fewer attention_layers than layers, no other")
        if self.linear and self.linear.layers + self.attention_layers != self.layers:
            raise ValueError("linear.layers: must be layers - attention_layers")
        if self.linear and self.linear.state_bytes != self.state_bytes_per_sequence:
            raise ValueError(f"state_bytes_per_sequence: `linear` gives {self.linear.state_bytes}")
        if self.kv_bytes_per_token is None and self.kv_heads is None:
            raise ValueError("kv_heads: needed, or kv_bytes_per_token")
        return self

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token, BF16, whole model; for latent attention the latent, of
        which every tensor-parallel rank keeps a copy."""
        if self.kv_bytes_per_token is not None:
            return self.kv_bytes_per_token
        copies = 1 if self.is_latent else 2 * (self.kv_heads or 1)
        return copies * self.attention_layers * self.head_dim * 2

    @property
    def is_hybrid(self) -> bool:
        """Whether some layers keep a recurrent state in place of keys and values."""
        return self.attention in HYBRID

    @property
    def is_latent(self) -> bool:
        """Whether the KV cache is one latent, whole on every tensor-parallel rank."""
        return self.attention in LATENT
