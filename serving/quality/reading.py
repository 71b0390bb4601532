"""Whether an answer is what was asked for, and whether it declines. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from serving.codecs.reading import spoken
from serving.quality.values import TEXT_CHARS_MAX, Expect, Prompt, Run

_REFUSALS = re.compile(
    r"\b(I (cannot|can't|can not|won't|will not|am unable to|'m unable to) (help|assist|provide|do|"
    r"comply|share|create|answer|give)|I'm sorry,? but|as an AI)|无法(提供|回答|协助|帮助|满足)|"
    r"不能(提供|回答|协助|帮助)|抱歉，?(我|但)|作为(一个)?(AI|人工智能)",
    re.IGNORECASE,
)
"""Phrases with which models of these families decline; a sample for trends, not a classifier."""
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def run_of(prompt: Prompt, at: tuple[int, str, str], answer: bytes) -> Run:
    """What an answer's body says. `at`: time, model, target."""
    at_ms, model, target = at
    choices = spoken(answer)
    if not choices or "error" in choices[0]:
        return Run(at_ms, model, target, prompt.id, False, why="no answer")
    choice = choices[0]
    content = str(choice["content"])
    is_refused = declines(content)
    why = fault(prompt.expect, choice, is_refused=is_refused)
    return Run(
        at_ms, model, target, prompt.id, True, is_valid=not why, is_refused=is_refused,
        tokens=tokens_of(answer), text=_said(choice)[:TEXT_CHARS_MAX], why=why,
    )  # fmt: skip


def declines(content: str) -> bool:
    """Whether a text begins as refusals do."""
    return _REFUSALS.search(content[:500]) is not None


def fault(expect: Expect, choice: dict[str, Any], *, is_refused: bool) -> str:
    """What is wrong with a choice as `spoken` gives it; empty when nothing is."""
    if expect.refuses:
        return "" if is_refused else "it did not decline"
    text = str(choice["content"])
    if expect.tool:
        named = [call for call in choice["calls"] if call["name"] == expect.tool]
        if not named:
            return f"it did not call {expect.tool}"
        text = named[0]["arguments"]
    if expect.keys and (why := _object_fault(text, expect.keys)):
        return why
    lowered = text.lower()
    if expect.contains and not any(word.lower() in lowered for word in expect.contains):
        return f"none of {', '.join(expect.contains)} stands in it"
    return ""


def _object_fault(text: str, keys: dict[str, Any]) -> str:
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "not JSON"
    if not isinstance(value, dict):
        return "not a JSON object"
    for name, kind in keys.items():
        found = value.get(name)
        is_flag = isinstance(found, bool) and kind != "boolean"
        if is_flag or not isinstance(found, _TYPES[kind]):
            return f"{name} is no {kind}"
    return ""


def _said(choice: dict[str, Any]) -> str:
    calls = [f"{call['name']}({call['arguments']})" for call in choice["calls"]]
    return "\n".join([str(choice["content"]), *calls]).strip()


class _Usage(msgspec.Struct):
    completion_tokens: int | float | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


def tokens_of(answer: bytes) -> int:
    """Completion tokens as a body tells them; 0 where it does not."""
    try:
        usage = msgspec.json.decode(answer, type=_Answer).usage
    except msgspec.DecodeError:
        return 0
    told = usage.completion_tokens if usage is not None else None
    return int(min(max(told or 0, 0), 1 << 31))
