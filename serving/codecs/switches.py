"""Thinking switched in the words of other dialects, told to an engine of ours in its own. Pure.

vLLM passes over DashScope's `enable_thinking` and Zhipu's `thinking` in silence, so that RAGFlow,
which says the first with each call to a Qwen3, would wait for thoughts it had switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.codecs import coverage
from serving.unreadable import UNREADABLE

FOREIGN = ("enable_thinking", "thinking")
OWN = "chat_template_kwargs"
_decode = msgspec.json.Decoder().decode


def translated(fields: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """What an engine is told of the foreign words; nothing where they say nothing it has a word
    for. What the caller said in the engine's own words stands."""
    is_on = coverage.wish(fields).is_on
    if is_on is None:
        return {}
    raw = fields.get(OWN)
    try:
        given = None if raw is None else _decode(raw)
    except UNREADABLE:
        return {}  # the engine says what is wrong with it
    if given is None:
        return {OWN: {"enable_thinking": is_on}}
    return {OWN: {"enable_thinking": is_on} | given} if isinstance(given, dict) else {}
