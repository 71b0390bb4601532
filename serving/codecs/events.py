"""What is read of an event, and nothing else of it: the rest passes untouched."""

from __future__ import annotations

import msgspec


class Details(msgspec.Struct):
    cached_tokens: int | float | None = None
    reasoning_tokens: int | float | None = None


class RawUsage(msgspec.Struct):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    prompt_cache_hit_tokens: int | float | None = None
    """DeepSeek's name for cached prompt tokens."""


class Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class Choice(msgspec.Struct):
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    index: int | float | None = None


class Event(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: RawUsage | None = None
    error: msgspec.Raw = msgspec.Raw()
