"""The time of one engine step as a function of what it computes, and where it comes from. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from models.calibration import FirstToken

PREFILL_TOKENS = 4096
"""Prompts were measured up to about this; attention over longer ones is added."""

Basis = Literal["fitted", "scaled"]


class StepModel(msgspec.Struct, frozen=True):
    """Time of one step of one data-parallel rank, and where it comes from."""

    base_s: float
    experts_s: float
    touched: float
    ranks: int
    """Data-parallel ranks whose tokens choose experts together."""
    per_sequence_s: float
    per_context_token_s: float
    per_prefill_token_s: float
    per_prompt_s: float
    per_prefill_pair_s: float
    """Beyond `PREFILL_TOKENS`: for each prompt token and each token before it."""
    first: FirstToken
    basis: Basis
    calibration: str
    """Name of the calibration it leans on."""
    error: float
    """Expected error of the time per output token, as a share (docs/capacity.md)."""
    note: str = ""

    def step_s(self, sequences: float, context_tokens: float, prefill_tokens: float) -> float:
        """Seconds of a step of one rank: `context_tokens` are those that all its sequences hold
        together."""
        read: float = 1.0 - (1.0 - self.touched) ** (sequences * self.ranks)
        return (
            self.base_s
            + self.experts_s * read
            + self.per_sequence_s * sequences
            + self.per_context_token_s * context_tokens
            + self.per_prefill_token_s * prefill_tokens
        )

    def prefill_s(self, prompt_tokens: float) -> float:
        """Seconds that each token of a prompt of that length costs."""
        beyond = max(0.0, prompt_tokens - PREFILL_TOKENS) / 2
        return self.per_prefill_token_s + self.per_prefill_pair_s * beyond
