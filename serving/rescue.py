"""When an answer that broke off may be gone on with, and when a silent stream has broken. Pure
but for what `Pace` has heard.

Exact between our own engines (0124): the new prompt is the original one and all generated ids, so
what the client has is never changed, repeated or skipped. Only calls whose next token depends on
nothing but the tokens before it: no penalties over the answer, no grammar, no seed that counts.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import msgspec

from serving.codecs import media
from serving.codecs.openai import RESERVED
from serving.placement.offered import offered
from serving.records import OWN, Call, Caller, FleetView, Overflow, Resume, Surface

STALL_S_MIN, STALL_GAPS = 3.0, 20.0
STALL_S_UNKNOWN = 10.0
"""Until enough streams of a model have ended."""
STREAMS_MIN, STREAMS = 3, 64
REFRESH_EACH = 8
"""Once so many streams of a model have ended, its limit is read anew after as many more."""
WAIT_S = 5.0
"""A rescued call is given so long to its next token before it is better told the truth."""
_SPEAKING = frozenset({Surface.CHAT, Surface.COMPLETIONS})
_PLAIN = frozenset({
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens",
    "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "stop_token_ids",
    "ignore_eos", "min_tokens", "repetition_penalty", "logit_bias", "allowed_token_ids", "user",
    "metadata", "skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens",
    "include_stop_str_in_output", "chat_template_kwargs", "include_reasoning", "reasoning_effort",
    "enable_thinking", "thinking", "add_generation_prompt", "continue_final_message",
    "add_special_tokens", "prompt_cache_key", "store", "service_tier", "safety_identifier",
    "parallel_tool_calls",
}) | RESERVED  # fmt: skip
"""Members that leave the next token a function of the tokens before it. `repetition_penalty`
counts prompt and answer alike; `min_tokens` and the limits are carried as what remains."""
_NEUTRAL = {
    "n": (b"1",),
    "best_of": (b"1",),
    "frequency_penalty": (b"0", b"0.0"),
    "presence_penalty": (b"0", b"0.0"),
    "tools": (b"[]",),
    "tool_choice": (b'"none"',),
    "logprobs": (b"false",),
    "top_logprobs": (b"0",),
    "echo": (b"false",),
    "response_format": (b'{"type":"text"}', b'{"type": "text"}'),
}
"""Members that change that, unless they say nothing."""
_NULL = b"null"
_ZERO = (b"0", b"0.0")


def may_go_on(call: Call) -> bool:
    """Whether an engine should tell its ids: the call could be gone on with elsewhere."""
    if not call.stream or call.n != 1 or call.surface not in _SPEAKING:
        return False
    fields = call.fields
    return fields.keys() <= _PLAIN or all(
        _is_neutral(call, name) for name in fields.keys() - _PLAIN
    )


def _is_neutral(call: Call, name: str) -> bool:
    value = bytes(call.fields[name])
    if name == "seed":
        # Who seeds wants the same answer twice: without chance it is, with it only from the start.
        return value == _NULL or bytes(call.fields.get("temperature", _NULL)) in _ZERO
    return value == _NULL or value in _NEUTRAL.get(name, ())


def shows_media(call: Call) -> bool:
    """Whether the prompt holds more than text: that a picture's prompt may be lengthened is not
    proven."""
    return any(word in call.prompt for word in media.WORDS)


def going_on(call: Call, resume: Resume, now_s: float) -> Call:
    """The call as it is placed again at home."""
    return msgspec.structs.replace(
        grown(call, len(resume.trail.ids), now_s), pin=OWN, resume=resume
    )


def grown(call: Call, known: int, now_s: float) -> Call:
    """The call as large as it has become, with time of its own: its first token came long ago."""
    return msgspec.structs.replace(
        call,
        prompt_tokens=call.prompt_tokens + known,
        max_tokens=None if call.max_tokens is None else max(1, call.max_tokens - known),
        received_s=now_s,
        first_token_by_s=min(call.complete_by_s, now_s + WAIT_S),
        may_wait=True,
        toward="",  # an arm or rule has sent it where it broke; it is not sent there again
    )


def may_prefix(call: Call, caller: Caller, view: FleetView) -> bool:
    """Whether a third party could go on with the text of this call's answer."""
    return (
        call.surface is Surface.CHAT
        and not call.pin
        and caller.policy.overflow is not Overflow.NEVER
        and may_go_on(call)
        and any(offering.prefix_member for offering in offered(call, view))
    )


def not_prefixing(call: Call, view: FleetView) -> frozenset[str]:
    """The targets that cannot."""
    others = {offering.id for offering in offered(call, view) if not offering.prefix_member}
    return frozenset(others.union(replica.id for replica in view.replicas.get(call.model, ())))


class Pace:
    """How fast each model's streams flow, and so after what silence one has broken."""

    def __init__(self) -> None:
        self._gaps: dict[str, deque[float]] = {}
        self._limits: dict[str, float] = {}
        self._since: dict[str, int] = {}
        """Streams that ended since the limit was read."""

    def ended(self, model: str, gap_s: float) -> None:
        """A stream ended well; `gap_s` is its mean time between two tokens."""
        gaps = self._gaps.get(model)
        if gaps is None:
            gaps = self._gaps[model] = deque(maxlen=STREAMS)
        gaps.append(gap_s)
        self._since[model] = since = self._since.get(model, 0) + 1
        if since >= REFRESH_EACH or len(gaps) < REFRESH_EACH:
            self._limits.pop(model, None)

    def limit_s(self, model: str) -> float:
        """A silence after the first token that is longer than this is a break."""
        limit_s = self._limits.get(model)
        if limit_s is None:
            gaps = self._gaps.get(model, ())
            limit_s = STALL_S_UNKNOWN
            if len(gaps) >= STREAMS_MIN:
                limit_s = max(STALL_S_MIN, STALL_GAPS * median(gaps))
            self._limits[model] = limit_s
            self._since[model] = 0
        return limit_s
