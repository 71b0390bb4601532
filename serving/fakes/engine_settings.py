"""What a simulated engine is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import msgspec

from models.capacity import Profile
from models.profiles import ProfileError, named
from serving.fakes.generation import ModelLimits
from serving.fakes.scheduler import BLOCK_TOKENS


@cache
def _profile(name: str) -> Profile:
    """Read once: a card's is computed from the catalogue."""
    return named(name)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one simulated engine. Raises ValueError for an unknown profile or a bad range."""

    model: str = "fake-model"
    adapters: tuple[str, ...] = ()
    """LoRA adapters: names that it answers to as well."""
    profile: str = "instant"
    """Key of `models.capacity.PROFILES`, or a card on GPUs: `qwen3-32b/fp8@2xh100-80`."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free port."""
    prefix: str = ""
    """Route prefix, as Ray Serve gives each application; without trailing slash."""
    secrets: tuple[str, ...] = ()
    """Accepted values of `x-ballast-secret` (two during a rotation); none = not checked."""
    time_scale: float = 1.0
    """A simulated second lasts so many real ones: 0.1 is ten times faster."""
    max_num_seqs: int | None = None
    """None = the profile's."""
    max_queued_reqs: int | None = None
    """Sequences waiting and running; None = twice `max_num_seqs`."""
    max_queued_tokens: int | None = None
    """Prompt tokens of sequences that have no token yet; None = no limit."""
    max_model_len: int = 32_768
    prefix_caching: bool = True
    """As vLLM's default: full blocks of prompts are remembered until memory is needed."""
    prompt_tokens_details: bool = False
    """Tell in `usage` how many tokens were remembered; vLLM's default, but our engines tell it."""
    output_tokens: int | None = None
    """Where answers end by themselves; None = after 32 to 256 tokens, by the prompt's hash."""
    late_characters: bool = False
    """See `generation.GenerationRequest.late`."""
    start_delay_s: float = 0.0
    """Seconds before it listens."""
    die_after_requests: int | None = None
    """The engine dies at once when one generation request more than this arrives."""

    def __post_init__(self) -> None:
        try:
            _profile(self.profile)
        except ProfileError as error:
            raise ValueError(str(error)) from None
        if self.time_scale < 0 or self.start_delay_s < 0:
            raise ValueError("time_scale and start_delay_s must not be negative")
        if self.prefix and not self.prefix.startswith("/"):
            raise ValueError(f"prefix {self.prefix!r} must start with a slash")

    @property
    def capacity(self) -> Profile:
        """The profile with this engine's own batch size."""
        profile = _profile(self.profile)
        if self.max_num_seqs is None:
            return profile
        return msgspec.structs.replace(profile, max_num_seqs=self.max_num_seqs)

    @property
    def limit(self) -> int:
        """Sequences taken at once."""
        if self.max_queued_reqs is not None:
            return self.max_queued_reqs
        return 2 * self.capacity.max_num_seqs

    @property
    def limits(self) -> ModelLimits:
        """What requests are checked against."""
        return ModelLimits(self.model, self.context_tokens, self.adapters, self.prefix_caching)

    @property
    def context_tokens(self) -> int:
        """Longest context: one sequence must always fit in KV memory."""
        return min(self.max_model_len, self.capacity.kv_tokens - BLOCK_TOKENS)
