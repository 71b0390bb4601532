"""Which members of a call change its answer, so that a target must know them. Pure.

A target that does not is no candidate: a call is never answered differently because it overflowed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

STANDARD = frozenset({
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens",
    "max_completion_tokens", "temperature", "top_p", "n", "stop", "seed", "frequency_penalty",
    "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort",
    "suffix", "echo", "best_of", "input", "encoding_format", "dimensions", "query", "documents",
    "top_n", "return_documents",
})  # fmt: skip
"""Members of the OpenAI dialect that a provider is taken to know unless its row drops them."""
IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip
"""Members that change cost, storage or bookkeeping at a third party, not the answer: not sent."""
_TRIVIAL = frozenset({b"null", b"false", b"[]", b"{}", b'""'})

_DEFAULTS: dict[str, tuple[bytes, ...]] = {
    "n": (b"1",),
    "best_of": (b"1",),
    "presence_penalty": (b"0", b"0.0"),
    "frequency_penalty": (b"0", b"0.0"),
}
"""Values that SDKs send though they change nothing."""


def needs(fields: Mapping[str, msgspec.Raw], reserved: frozenset[str]) -> frozenset[str]:
    """Names of the members whose value matters to the answer."""
    return frozenset(
        name
        for name, raw in fields.items()
        if name not in IGNORED
        and name not in reserved
        and (value := bytes(raw).strip()) not in _TRIVIAL
        and value not in _DEFAULTS.get(name, ())
    )
