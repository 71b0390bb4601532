"""What an answer said, for people: choices of a body or of a stream's events, put together. Pure.

Made for reading what was kept, so it takes what there is: a cut stream, a broken event, an error.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.unreadable import UNREADABLE

_decode = msgspec.json.Decoder().decode
_TEXTS = ("content", "text", "refusal")
_THOUGHTS = ("reasoning_content", "reasoning")
CHOICES_MAX = 128


def spoken(answer: bytes) -> list[dict[str, Any]]:
    """Per choice `content`, `reasoning`, `calls` (name and arguments) and `finish`; an error is one
    choice of its own."""
    whole = Hearing()
    whole.took(answer)
    return whole.choices()


class Hearing:
    """An answer that is put together while it comes, in pieces of whole events."""

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard: dict[int, dict[str, Any]] = {}

    def took(self, piece: bytes) -> None:
        """The next events, or the one body."""
        for event in _events(piece):
            choices = event.get("choices")
            if isinstance(choices, list):
                for node in choices:
                    if isinstance(node, dict):
                        _hear(self._heard, node)
            if "error" in event and len(self._heard) < CHOICES_MAX:
                self._heard[-1] = {"error": event["error"]}

    def choices(self) -> list[dict[str, Any]]:
        """As `spoken`, of what came so far."""
        return [self._heard[index] for index in sorted(self._heard)]


def _events(answer: bytes) -> list[dict[str, Any]]:
    if answer.lstrip()[:1] == b"{":
        parts = [answer]
    else:
        lines = answer.replace(b"\r\n", b"\n").split(b"\n")
        parts = [line[5:] for line in lines if line.startswith(b"data:")]
    found = []
    for part in parts:
        try:
            event = _decode(part)
        except UNREADABLE:
            continue  # `[DONE]`, or the torn end of what was cut
        if isinstance(event, dict):
            found.append(event)
    return found


def _hear(heard: dict[int, dict[str, Any]], node: dict[str, Any]) -> None:
    index = node.get("index")
    index = index if isinstance(index, int) else 0
    if index not in heard and len(heard) >= CHOICES_MAX:
        return
    choice = heard.setdefault(index, {"content": "", "reasoning": "", "calls": [], "finish": ""})
    if "content" not in choice:  # an error took its place
        return
    said = node.get("delta") or node.get("message") or node
    if isinstance(said, dict):
        for names, into in ((_TEXTS, "content"), (_THOUGHTS, "reasoning")):
            for name in names:
                if isinstance(said.get(name), str):
                    choice[into] += said[name]
        for call in said.get("tool_calls") or ():
            if isinstance(call, dict):
                _call(choice["calls"], call)
    if isinstance(node.get("finish_reason"), str):
        choice["finish"] = node["finish_reason"]


def _call(calls: list[dict[str, str]], call: dict[str, Any]) -> None:
    """A tool call, or the next part of one."""
    position = call.get("index", len(calls))
    if not isinstance(position, int) or not 0 <= position <= len(calls) < CHOICES_MAX:
        return
    if position == len(calls):
        calls.append({"name": "", "arguments": ""})
    function = call.get("function")
    if isinstance(function, dict):
        for name in ("name", "arguments"):
            if isinstance(function.get(name), str):
                calls[position][name] += function[name]
