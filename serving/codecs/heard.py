"""What a chat's answer says, bit by bit: events and bodies as parts that other dialects are written
from. Pure. One choice: the surfaces translated here ask for no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from serving.unreadable import UNREADABLE

Kind: TypeAlias = Literal["reasoning", "text", "call"]
_decode = msgspec.json.Decoder().decode
_TEXTS: tuple[tuple[str, Kind], ...] = (
    ("reasoning_content", "reasoning"), ("reasoning", "reasoning"), ("content", "text"),
    ("refusal", "text"),
)  # fmt: skip
CALLS_MAX = 128


class Part(NamedTuple):
    """More of one thing."""

    kind: Kind
    text: str
    """Of a call its arguments, JSON."""
    number: int = 0
    """Of a call its number."""
    id: str = ""
    name: str = ""


class Counts(NamedTuple):
    """Usage as the target told it."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


class Heard(NamedTuple):
    """One event, or a whole body."""

    parts: tuple[Part, ...] = ()
    finish: str = ""
    stop: str = ""
    """The stop sequence that was met, where the target says so."""
    usage: Counts | None = None
    error: dict[str, Any] | None = None
    id: str = ""
    model: str = ""


def events(data: bytes) -> Iterator[Heard]:
    """Of whole events."""
    for raw in data.split(b"\n\n"):
        lines = [line[5:] for line in raw.split(b"\n") if line.startswith(b"data:")]
        node = _object(b"\n".join(lines)) if lines else None
        if node is not None:
            yield _heard(node, "delta")


def body(data: bytes) -> Heard:
    """Of a plain answer."""
    node = _object(data)
    return Heard(error={"message": "no JSON"}) if node is None else _heard(node, "message")


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = _decode(data)
    except UNREADABLE:
        return None  # `[DONE]`
    return found if isinstance(found, dict) else None


def _heard(node: dict[str, Any], member: str) -> Heard:
    error = node.get("error")
    choices = node.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    said = choice.get(member) if isinstance(choice, dict) else None
    parts = tuple(_parts(said)) if isinstance(said, dict) else ()
    finish, stop = choice.get("finish_reason"), choice.get("stop_reason")
    return Heard(
        parts,
        finish if isinstance(finish, str) else "",
        stop if isinstance(stop, str) else "",
        _counts(node.get("usage")),
        error if isinstance(error, dict) else None,
        _word(node.get("id")),
        _word(node.get("model")),
    )


def _parts(said: dict[str, Any]) -> Iterator[Part]:
    seen: set[Kind] = set()
    for name, kind in _TEXTS:
        text = said.get(name)
        if isinstance(text, str) and text and not (kind == "reasoning" and kind in seen):
            seen.add(kind)  # some say their reasoning under both names
            yield Part(kind, text)
    calls = said.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            yield from _call(position, call)


def _call(position: int, call: dict[str, Any]) -> Iterator[Part]:
    number = call.get("index", position)
    function = call.get("function")
    if not isinstance(number, int) or not 0 <= number < CALLS_MAX:
        return
    function = function if isinstance(function, dict) else {}
    text = function.get("arguments")
    name, id_ = _word(function.get("name")), _word(call.get("id"))
    yield Part("call", text if isinstance(text, str) else "", number, id_, name)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _counts(usage: Any) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = prompt.get("cached_tokens") if isinstance(prompt, dict) else None
    cached = cached or usage.get("prompt_cache_hit_tokens")  # DeepSeek's name
    thought = completion.get("reasoning_tokens") if isinstance(completion, dict) else None
    total = _count(usage.get("prompt_tokens"))
    return Counts(
        total, min(_count(cached), total), _count(usage.get("completion_tokens")), _count(thought)
    )


def _count(value: Any) -> int:
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return int(min(max(value, 0), 1 << 40)) if is_count else 0
