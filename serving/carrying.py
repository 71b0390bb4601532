"""An answer that a third party goes on with, from its text: what was said, and what is sent after
it. Inexact (0124): tokens are not known there, and the rest is another model's or host's.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from serving.backends.base import BlockStream
from serving.codecs.marks import spoken
from serving.records import Block, Call, Offering

_COMPACT_BYTES = 64 << 10
TEXT_MAX = 1 << 20
"""Characters of an answer that is still gone on with."""
_encode = msgspec.json.encode


class Heard:
    """What a stream has said so far; kept as it came, and as text now and then."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._text = ""
        self.has_thoughts = False
        self.first = b""
        """The first events: they name the answer."""

    def take(self, data: bytes) -> None:
        """Whole events."""
        self.first = self.first or data
        self._parts.append(data)
        self._size += len(data)
        if self._size > _COMPACT_BYTES:
            self._compact()

    def _compact(self) -> None:
        thoughts, text = spoken(b"".join(self._parts))
        self.has_thoughts = self.has_thoughts or bool(thoughts)
        self._text += text
        self._parts, self._size = [], 0

    @property
    def text(self) -> str:
        """All of it."""
        self._compact()
        return self._text


def prefixed(call: Call, text: str, target: Offering) -> Call:
    """The call as a third party sees it: the answer so far as its last message, thinking off."""
    messages = msgspec.json.decode(call.fields["messages"], type=list[msgspec.Raw])
    last = {"role": "assistant", "content": text, target.prefix_member: True}
    raw = msgspec.Raw(_encode([*messages, msgspec.Raw(_encode(last))]))
    fields = {**call.fields, "messages": raw, "enable_thinking": msgspec.Raw(b"false")}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in fields:
            fields[name] = msgspec.Raw(_encode(call.max_tokens))
    return replace(call, fields=fields, prompt=bytes(raw), is_prefixed=True)


class Carried:
    """A BlockStream that goes on with another one's answer, under its id, and says so at its end.

    Its usage becomes that of the whole answer: `known` tokens of its prompt were completion.
    """

    def __init__(self, stream: BlockStream, first: bytes, known: int) -> None:
        self._stream = stream
        self._id = _id_of(first)
        self._known = known
        self._last: dict[str, Any] = {}

    def __aiter__(self) -> Carried:
        return self

    async def __anext__(self) -> Block:
        while True:
            block = await self._stream.__anext__()
            data = b"".join(map(self._event, block.data.split(b"\n\n")[:-1]))
            if data or block.ends:
                return replace(block, data=data)

    def _event(self, raw: bytes) -> bytes:
        if not raw.startswith(b"data: {"):
            return self._mark() + raw + b"\n\n" if raw.startswith(b"data: [") else b""
        event: dict[str, Any] = msgspec.json.decode(raw[6:])
        if self._id:
            event["id"] = self._id
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            delta.pop("role", None)
            if not (delta.get("content") or choice.get("finish_reason")):
                return b""
        usage = event.get("usage")
        if usage:
            usage["prompt_tokens"] = max(0, usage.get("prompt_tokens", 0) - self._known)
            usage["completion_tokens"] = usage.get("completion_tokens", 0) + self._known
        self._last = event
        return b"data: %b\n\n" % _encode(event)

    def _mark(self) -> bytes:
        """The event that says it."""
        told = {**self._last, "choices": [], "ballast": {"rescue": "inexact"}}
        told.pop("usage", None)
        return b"data: %b\n\n" % _encode(told)

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._stream.abort()


def _id_of(events: bytes) -> str:
    for raw in events.split(b"\n\n"):
        if raw.startswith(b"data: {"):
            found = msgspec.json.decode(raw[6:])
            return str(found.get("id") or "") if isinstance(found, dict) else ""
    return ""
