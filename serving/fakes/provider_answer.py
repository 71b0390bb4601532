"""What the fake provider says when nothing goes wrong, as data that scenarios then spoil. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from serving.fakes.text import (
    MESSAGE_OVERHEAD_TOKENS,
    VOCABULARY,
    count_tokens,
    seed_of,
    token_id,
)

Kind = Literal["text", "tools", "reasoning"]
Json = dict[str, Any]

REASONING_TOKENS: Final = 4
TOOL_ARGUMENTS: Final = ('{"city"', ': "上海",', ' "days": 3}')
_CREATED: Final = 1_750_000_000
"""Fixed, so that two answers to one request are equal byte for byte."""


class Answer:
    """One request's right answer. Words, ids and usage depend on the request alone."""

    def __init__(
        self, surface: str, body: Mapping[str, Any], model: str, natural_tokens: int
    ) -> None:
        self._is_chat = surface == "chat"
        self.model = model
        self.prompt_tokens = _prompt_tokens(body)
        asked_for = body.get("messages", body.get("prompt"))
        self.seed = seed_of(msgspec.json.encode(asked_for).decode())
        asked = body.get("max_completion_tokens", body.get("max_tokens"))
        self.tokens = natural_tokens
        if isinstance(asked, int):
            self.tokens = max(1, min(asked, natural_tokens))
        self.finish = "length" if self.tokens < natural_tokens else "stop"
        self.kind: Kind = _kind(body) if self._is_chat else "text"
        self._id = f"{'chatcmpl' if self._is_chat else 'cmpl'}-fake{self.seed:016x}"

    @property
    def words(self) -> list[str]:
        """The answer's text, a token each."""
        return [VOCABULARY[token_id(self.seed, index)] for index in range(self.tokens)]

    @property
    def thoughts(self) -> list[str]:
        """The reasoning text, a token each."""
        return [VOCABULARY[token_id(~self.seed, index)] for index in range(REASONING_TOKENS)]

    def usage(self, completion_tokens: int | None = None) -> Json:
        """Usage of the whole answer, or of its first `completion_tokens`; a quarter of the prompt
        was cached."""
        reasoning = REASONING_TOKENS if self.kind == "reasoning" else 0
        completion = self.tokens + reasoning if completion_tokens is None else completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self.prompt_tokens // 4},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """One event of the stream. For completions only the delta's text is kept."""
        choice: Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if not self._is_chat:
            del choice["delta"]
            choice["text"] = delta.get("content", "")
        return self._envelope("chat.completion.chunk", [choice])

    def usage_chunk(self) -> Json:
        """The event after the last one, as OpenAI sends it: no choices."""
        return {**self._envelope("chat.completion.chunk", []), "usage": self.usage()}

    def chunks(self) -> list[Json]:
        """The whole stream: role, content (or reasoning and content, or tool calls), finish."""
        deltas: list[Json] = [{"role": "assistant", "content": ""}] if self._is_chat else []
        finish = self.finish
        if self.kind == "tools":
            deltas += self._tool_deltas()
            finish = "tool_calls"
        else:
            if self.kind == "reasoning":
                deltas += [{"reasoning_content": word} for word in self.thoughts]
            deltas += [{"content": word} for word in self.words]
        return [*(self.chunk(delta) for delta in deltas), self.chunk({}, finish)]

    def plain(self) -> Json:
        """The whole answer as one object."""
        if not self._is_chat:
            text = "".join(self.words)
            choice: Json = {"index": 0, "text": text, "logprobs": None}
        else:
            choice = {"index": 0, "message": self._message(), "logprobs": None}
        choice["finish_reason"] = "tool_calls" if self.kind == "tools" else self.finish
        return {**self._envelope("chat.completion", [choice]), "usage": self.usage()}

    def _message(self) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.words)}
        if self.kind == "reasoning":
            message["reasoning_content"] = "".join(self.thoughts)
        if self.kind == "tools":
            message["content"] = None
            message["tool_calls"] = [self._tool_call("".join(TOOL_ARGUMENTS))]
        return message

    def _tool_deltas(self) -> list[Json]:
        opening = {"index": 0, **self._tool_call("")}
        fragments = [{"index": 0, "function": {"arguments": part}} for part in TOOL_ARGUMENTS]
        return [{"tool_calls": [call]} for call in (opening, *fragments)]

    def _tool_call(self, arguments: str) -> Json:
        return {
            "id": f"call_{self.seed:016x}",
            "type": "function",
            "function": {"name": "weather", "arguments": arguments},
        }

    def _envelope(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": kind if self._is_chat else "text_completion",
            "created": _CREATED,
            "model": self.model,
            "choices": choices,
        }


def _kind(body: Mapping[str, Any]) -> Kind:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    is_answered = isinstance(last, dict) and last.get("role") == "tool"
    if body.get("tools") and body.get("tool_choice") != "none" and not is_answered:
        return "tools"
    thinking = body.get("thinking")
    is_thinking = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    asked = ("enable_thinking", "reasoning_effort", "reasoning")
    if is_thinking or any(body.get(name) for name in asked):
        return "reasoning"
    return "text"


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return max(1, count_tokens(str(body.get("prompt", ""))))
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    return sum(MESSAGE_OVERHEAD_TOKENS + count_tokens(str(content or "")) for content in contents)
