"""Marks answers as made by AI: words for people, members for machines. Pure.

Facts: 《人工智能生成合成内容标识办法》 (CAC and three ministries, in force since 2025-09-01) and
GB 45438-2025. Text carries an explicit mark at its beginning, its end or between, that names AI and
generation; files carry an `AIGC` member with the fields below in their metadata. What of it a
gateway can do, and what not: docs/guard.md.
"""

from __future__ import annotations

from typing import Any

MEMBER = "AIGC"
EXPLICIT = "\n\n(本内容由AI生成)"
"""Names both elements that GB 45438-2025 asks of a text mark: AI, and generation."""
_NO_TEXT = frozenset({"tool_calls", "function_call"})


def metadata(producer: str, produce_id: str) -> dict[str, str]:
    """The implicit mark: Label 1 says that the content is generated; the reserved fields and those
    of who spreads it are for others to fill."""
    return {
        "Label": "1",
        "ContentProducer": producer,
        "ProduceID": produce_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }


def may_append(finish: object) -> bool:
    """Whether text may stand behind an answer that ended so: not behind a call of a tool."""
    return not isinstance(finish, str) or finish not in _NO_TEXT


def wants_json(response_format: Any) -> bool:
    """Whether the caller asked for JSON, which words at its end would break."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    return kind not in (None, "text")
