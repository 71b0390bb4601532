"""Tells of most plain answers, by reading them once, that they may leave as they are. Pure.

What is read here is the form that nearly all answers have: one choice that has come to its end, its
texts, members known to hold none, and nothing else. Whatever differs is read by the inspector.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.guard.channels import Output


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: tuple[()] | None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    finish_reason: str
    message: _Message | None = None
    text: str | None = None
    index: Any = None
    logprobs: None = None
    matched_stop: Any = None
    prompt_logprobs: None = None
    prompt_token_ids: None = None
    stop_reason: Any = None
    token_ids: None = None


class _Answer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    choices: tuple[_Choice]
    created: Any = None
    id: Any = None
    kv_transfer_params: None = None
    model: Any = None
    object: Any = None
    prompt_logprobs: None = None
    prompt_token_ids: Any = None
    provider: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    usage: Any = None


_decode = msgspec.json.Decoder(_Answer).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def is_clear(data: bytes, output: Output) -> bool:
    """Whether an answer holds no term for sure, nothing that an inspector would take out or put
    back, and nobody else is to be told of it."""
    terms = output.terms
    if output.vault is not None or output.said is not None:
        return False
    try:
        (choice,) = _decode(data).choices
    except _UNREADABLE:
        return False
    if not choice.finish_reason:
        return False  # the end of its text would be held back
    if terms is None:
        return True
    texts = [choice.text]
    if (said := choice.message) is not None:
        texts += [said.content, said.reasoning_content, said.reasoning, said.refusal]
    return all(not text or terms.clears(text) for text in texts)
