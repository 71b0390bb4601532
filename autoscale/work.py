"""Demand in work: seconds of one full replica, from tokens. Pure.

Counts of calls are blind to their length; a prompt of 20,000 tokens is one call like a short one.
"""

from __future__ import annotations

import msgspec

from models.capacity import Profile, step_s

CONTEXT_TOKENS = 1000
"""Context of a running sequence, on average over its answer; coefficients are small beside it."""


class Work(msgspec.Struct, frozen=True):
    """Seconds of a replica whose batch is full."""

    prompt_token_s: float = 0.0
    output_token_s: float = 0.0
    call_s: float = 1.0
    """Of a call whose tokens nobody counted."""

    def of(self, prompt_tokens: float, output_tokens: float) -> float:
        """Work of so many tokens."""
        return prompt_tokens * self.prompt_token_s + output_tokens * self.output_token_s


def of_profile(profile: Profile, batch: int) -> Work:
    """A batch of `batch` sequences shares each step: an output token costs its part of one."""
    shared = max(1, min(batch, profile.max_num_seqs, profile.kv_tokens // CONTEXT_TOKENS))
    output_s = step_s(profile, shared, shared * CONTEXT_TOKENS, 0) / shared
    prompt_s = profile.per_prefill_token_s
    call_s = CONTEXT_TOKENS / 2 * prompt_s + profile.mean_output_tokens * output_s
    return Work(prompt_s, output_s, call_s)
