"""Marks: what an engine of ours says between the events of a stream, so that another one can go on
with the answer. Pure; both ends are here.

    : ballast <reasoning> <content> <finish or -> <id>,<id>,...

A mark is an SSE comment, an event of its own: the ids made since the last mark, and how many
characters of the two texts stand in the events *before* it. It leaves ahead of the text its ids
made, so whoever has a text has its ids: a stream that breaks anywhere tells what was made and what
of it arrived. The gateway drops marks whole; a client that met one would ignore it as a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

START = b": ballast "
RAW_BYTES_MAX = 1 << 20
"""Marks of one answer kept by the gateway: some 100,000 tokens. A longer one is not rescued."""
_AFTER = b"\n\n" + START
_MARK = re.compile(rb"(?:\A|(?<=\n\n)): ballast [^\n]*\n\n")
"""One begins where an event does; in a text the same words are only quoted."""
FINISHES = ("stop", "length")
"""Ends that an engine reaches by itself; any other is no end of the answer."""


class Said(NamedTuple):
    """Characters (code points) of an answer's two texts."""

    reasoning: int = 0
    content: int = 0

    def plus(self, other: Said) -> Said:
        """Both together."""
        return Said(self.reasoning + other.reasoning, self.content + other.content)


class Trail(NamedTuple):
    """How far an answer had come."""

    ids: tuple[int, ...]
    """Tokens made, in order."""
    said: Said
    """Characters of them that arrived."""
    finish: str = ""
    """Why the last of `ids` is the last one; empty while more would follow."""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []


_decode_event = msgspec.json.Decoder(_Event).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def mark(ids: Sequence[int], before: Said, finish: str = "") -> bytes:
    """One mark."""
    named = ",".join(map(str, ids))
    return f": ballast {before.reasoning} {before.content} {finish or '-'} {named}\n\n".encode()


def said(events: bytes) -> Said:
    """Characters in whole events."""
    reasoning, content = spoken(events)
    return Said(len(reasoning), len(content))


def spoken(events: bytes) -> tuple[str, str]:
    """Thoughts and text of whole events. What cannot be read says nothing: it is no event of an
    engine."""
    thoughts: list[str] = []
    texts: list[str] = []
    for raw in events.split(b"\n\n"):
        if not raw.startswith(b"data: {"):
            continue
        try:
            event = _decode_event(raw[6:])
        except _UNREADABLE:
            continue
        for choice in event.choices:
            delta = choice.delta
            texts.append(choice.text or "")
            if delta is not None:
                texts.append(delta.content or "")
                thoughts.append(delta.reasoning or delta.reasoning_content or "")
    return "".join(thoughts), "".join(texts)


class Marks:
    """The gateway's end: takes marks out of a stream, and knows what they said."""

    __slots__ = ("_before", "_last", "_more", "_raw")

    def __init__(self, before: Trail | None = None) -> None:
        self._before = before
        """What this stream goes on from."""
        self._raw = bytearray()
        self._last = b""
        """Events since the latest mark, as far as they came with it."""
        self._more: list[bytes] = []
        """And those that came after."""

    @property
    def has_any(self) -> bool:
        """Whether there was one; an engine that does not tell ids writes none."""
        return bool(self._raw) or self._before is not None

    def take(self, whole: bytes) -> bytes:
        """Whole events without their marks."""
        at = whole.rfind(_AFTER) + 2
        if at < 2:
            at = 0 if whole.startswith(START) else -1
        if at < 0:
            if self.has_any:
                self._more.append(whole)
            return whole
        end = whole.find(b"\n\n", at) + 2
        if self._more:
            self._more = []
        if len(self._raw) > RAW_BYTES_MAX:
            return _MARK.sub(b"", whole)
        if not at:
            # The usual read: one mark, and the event of its token.
            self._raw += whole[:end]
            self._last = rest = whole[end:]
            return rest
        self._raw += b"".join(_MARK.findall(whole))
        self._last = whole[end:]
        return _MARK.sub(b"", whole)

    def trail(self) -> Trail | None:
        """How far the answer has come; None when its engine does not tell, or told too much."""
        before = self._before
        if not self._raw:
            since = said(b"".join(self._more))
            return None if before is None else before._replace(said=before.said.plus(since))
        if len(self._raw) > RAW_BYTES_MAX:
            return None
        ids: list[int] = list(before.ids) if before is not None else []
        reasoning = content = 0
        finish = "-"
        for one in bytes(self._raw).split(b"\n\n")[:-1]:
            try:
                _, _, first, second, finish, named = one.decode("ascii").split(" ")
                reasoning, content = int(first), int(second)
                ids += map(int, filter(None, named.split(",")))
            except ValueError:
                return None
        arrived = Said(reasoning, content).plus(said(b"".join((self._last, *self._more))))
        return Trail(tuple(ids), arrived, finish if finish in FINISHES else "")


class Unsaid:
    """The engine's end of going on: of an answer told anew, what the client does not have yet."""

    __slots__ = ("_content", "_is_past", "_is_told", "_reasoning")

    def __init__(self, has: Said, *, is_told: bool) -> None:
        self._reasoning, self._content = has
        self._is_told = is_told
        """The client has the finish too: only what comes after it is missing."""
        self._is_past = False

    def take(self, events: bytes) -> bytes:
        """What of whole events is new; they pass untouched once something was."""
        if self._is_past:
            return events
        out = [self._event(raw) for raw in events.split(b"\n\n")[:-1]]
        return b"".join(out)

    def _event(self, raw: bytes) -> bytes:
        if self._is_past or not raw.startswith(b"data: {"):
            return raw + b"\n\n"
        event: dict[str, Any] = msgspec.json.decode(raw[6:])
        choices = event.get("choices")
        if not choices:
            return raw + b"\n\n"
        is_new = False
        for choice in choices:
            is_new = self._cut(choice) or is_new
        if self._is_told or not is_new:
            return b""
        self._is_past = not (self._reasoning or self._content)
        return b"data: %b\n\n" % msgspec.json.encode(event)

    def _cut(self, choice: dict[str, Any]) -> bool:
        """Cut what was said from a choice; whether anything is left that is worth an event."""
        delta = choice.get("delta") or {}
        delta.pop("role", None)
        left = bool(choice.get("finish_reason"))
        for name in ("reasoning", "reasoning_content"):
            if text := delta.get(name):
                delta[name] = text[self._reasoning :]
                self._reasoning = max(0, self._reasoning - len(text))
                left = left or bool(delta[name])
                break
        for holder, name in ((delta, "content"), (choice, "text")):
            if text := holder.get(name):
                holder[name] = text[self._content :]
                self._content = max(0, self._content - len(text))
                left = left or bool(holder[name])
        return left
