"""How one engine lies on GPUs: the value that memory, capacity, flags and ranking share.

One engine is one Ray Serve replica: `tensor` x `data` GPUs of one kind. A value: decides nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Feature: TypeAlias = Literal[
    "prefix_caching", "speculation", "fp8_kv", "lora", "sleep", "text_only"
]  # fmt: skip
"""`text_only` leaves a vision tower out."""


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant of a card on so many GPUs, and what it is asked to hold."""

    card: str
    """Card id."""
    variant: str
    """Key of the card's `variants`."""
    gpu: str
    """Key of `gpus.yaml`."""
    tensor: int = 1
    """GPUs that share each layer (TP)."""
    data: int = 1
    """Copies of the attention, each with its own KV memory (DP); experts are shared among them."""
    is_expert_parallel: bool = False
    """Experts lie whole on GPUs and are not cut (EP)."""
    context_tokens: int = 32_768
    """Prompt and answer of one sequence (`--max-model-len`)."""
    sequences: int = 64
    """Sequences that decode together (`--max-num-seqs`), of the whole engine."""
    batched_tokens: int = 8192
    """Tokens one step computes at most (`--max-num-batched-tokens`)."""
    memory_share: float = 0.92
    """Of each GPU's memory (`--gpu-memory-utilization`); below it another engine may live."""
    features: frozenset[Feature] = frozenset({"prefix_caching"})

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor * self.data
