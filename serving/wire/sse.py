"""Server-sent events as bytes: cut at event borders, understood only as far as needed.

Pure. An event passes untouched or is dropped whole; nothing here rewrites one but the end marker,
which leaves in its usual spelling and is the last thing that leaves, and a usage that tells of
cached tokens in words of its own: OpenAI's stand beside them.
"""

from __future__ import annotations

import msgspec

from serving.codecs.events import Choice, Event, RawUsage
from serving.codecs.marks import Marks
from serving.records import Block, Usage

DONE = b"data: [DONE]\n\n"
EVENT_BYTES_MAX = 8 << 20
TOKENS_MAX = 1 << 40


class StreamFault(Exception):  # noqa: N818 - a state of the stream
    """The stream holds an error event, or something that is no event. `body` is its JSON."""

    def __init__(self, message: str, body: bytes, before: Block | None = None) -> None:
        super().__init__(message)
        self.body = body
        self.before = before
        """What was good before the fault."""


_decode_event = msgspec.json.Decoder(Event).decode
_NULLS = (b"", b"null", b"[]")
_END = b"[DONE]\n\n"
_END_STARTS = (b"data: ", b"data:")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Cutter:
    """Turns arriving bytes into Blocks of whole events."""

    __slots__ = (
        "_choices", "_done_choices", "_is_open", "_keep_usage", "_parts", "_size", "finish",
        "has_done", "marks", "usage",
    )  # fmt: skip

    def __init__(self, keep_usage: bool, choices: int = 1, marks: Marks | None = None) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._is_open = False
        self._keep_usage = keep_usage
        self._choices, self.marks = choices, marks
        self._done_choices: set[int] = set()
        self.finish: str | None = None
        """Why the last choice ended; None until all asked for have."""
        self.usage: Usage | None = None
        self.has_done = False

    def feed(self, data: bytes) -> Block | None:
        """A Block of the whole events so far; None while there is none, and after the end marker.
        Raises StreamFault."""
        if self.has_done:
            return None
        if self._parts:
            data = self._joined(data)
            if not data:
                return None
        if b"\r" in data:
            data = _newlines(data)
        cut = data.rfind(b"\n\n") + 2
        if cut == 1:
            self._keep(data)
            return None
        if cut < len(data):
            self._keep(data[cut:])
            data = data[:cut]
        if self.marks is not None and not (data := self.marks.take(data)):
            return None
        return self._block(data)

    def _keep(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > EVENT_BYTES_MAX:
            raise StreamFault("an event exceeds 8 MiB", b"")

    def _joined(self, data: bytes) -> bytes:
        """What was kept and `data`; b"" while no event can have ended, so that a long event that
        comes in many pieces is copied once."""
        seam = self._parts[-1][-1:] + data
        if seam.find(b"\n\n") < 0 and b"\r" not in seam:
            self._keep(data)
            return b""
        parts, self._parts, self._size = self._parts, [], 0
        return b"".join((*parts, data))

    def _block(self, whole: bytes) -> Block:
        opens = False
        # rfind, not `in`: CPython's backward search skips ahead, and is 15 times faster here.
        if whole.rfind(b'"error"') >= 0:
            self._check_errors(whole)
        if not self._is_open:
            opens = self._is_open = _opens(whole)
        finish = _finish(whole)
        if finish is not None and (self._choices == 1 or self._have_all_ended(whole)):
            self.finish = finish
        events = whole.count(b"\n") // 2
        usage = None
        if whole.rfind(b'"usage"') >= 0:
            whole, usage = self._take_usage(whole)
        at = whole.rfind(_END)
        if at >= 0:
            whole = self._end(whole, at)
        return Block(whole, events, usage, finish, opens, self.has_done)

    def _have_all_ended(self, whole: bytes) -> bool:
        """Whether every choice asked for has a finish reason by now."""
        for raw in whole.split(b"\n\n"):
            event = _parse(raw) if b"finish_reason" in raw else None
            for choice in (event.choices or ()) if event is not None else ():
                if choice.finish_reason:
                    self._done_choices.add(int(choice.index or 0))
        return len(self._done_choices) >= self._choices

    def _take_usage(self, whole: bytes) -> tuple[bytes, Usage | None]:
        """Read the last usage, and drop the events the client did not ask for: those of usage only.
        Once usage events are kept, the last one tells all."""
        usage: Usage | None = None
        at = whole.rfind(b'"usage"')
        while at >= 0:
            if not whole.startswith((b":null", b": null"), at + 7):
                start = whole.rfind(b"\n\n", 0, at) + 2
                start = 0 if start == 1 else start
                end = whole.find(b"\n\n", at) + 2
                event = _parse(whole[start:end])
                if event is not None and event.usage is not None:
                    usage = usage or _usage(event.usage)
                    if self._keep_usage:
                        told = with_details(whole[start:end], event.usage)
                        whole = whole[:start] + told + whole[end:]
                        break
                    if not event.choices:
                        whole = whole[:start] + whole[end:]
                at = start
            at = whole.rfind(b'"usage"', 0, at)
        self.usage = usage or self.usage
        return whole, usage

    def _end(self, whole: bytes, at: int) -> bytes:
        """Cut at the first end marker, if there is one: nothing after it is part of the answer."""
        end = -1
        while at >= 0:
            start = whole.rfind(b"\n", 0, at) + 1
            if whole[start:at] in _END_STARTS:
                end = start
            at = whole.rfind(_END, 0, at)
        if end < 0:
            return whole
        self.has_done = True
        return whole[:end] + DONE

    def _check_errors(self, whole: bytes) -> None:
        position = 0
        for raw in whole.split(b"\n\n"):
            event = _parse(raw) if b'"error"' in raw else None
            if event is not None and bytes(event.error) not in _NULLS:
                before = self._block(whole[:position]) if position else None
                raise StreamFault("the stream carried an error", _payload(raw), before)
            position += len(raw) + 2


def plain(body: bytes) -> Block:
    """The Block of a plain JSON answer. Raises StreamFault for an error under a 200."""
    try:
        event = _decode_event(body)
    except _UNREADABLE as error:
        raise StreamFault(f"the answer is not the JSON expected: {error}", b"") from None
    if bytes(event.error) not in _NULLS:
        raise StreamFault("an error came under status 200", body)
    finish = event.choices[0].finish_reason if event.choices else None
    usage = _usage(event.usage) if event.usage is not None else None
    if event.usage is not None:
        body = with_details(body, event.usage)
    return Block(body, 1, usage, finish, opens=bool(event.choices), ends=True)


_HIT = b'"prompt_cache_hit_tokens"'


def with_details(data: bytes, usage: RawUsage) -> bytes:
    """DeepSeek's count of cached tokens under OpenAI's name too. Its name cannot stand in a text:
    there its quotes are escaped."""
    if usage.prompt_cache_hit_tokens is None or usage.prompt_tokens_details is not None:
        return data
    cached = _usage(usage).cached_tokens
    return data.replace(
        _HIT, b'"prompt_tokens_details":{"cached_tokens":%d},%b' % (cached, _HIT), 1
    )


def _newlines(data: bytes) -> bytes:
    """CRLF and CR line ends become LF; a trailing CR may be half a CRLF and stays."""
    tail = b"\r" if data.endswith(b"\r") else b""
    body = data[: len(data) - len(tail)]
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail


def _payload(event: bytes) -> bytes:
    """The joined data lines of one event; comments and other fields are nothing to us."""
    if event.startswith(b"data: {"):
        end = event.find(b"\n", 6)
        if end < 0 or end >= len(event) - 2:
            return event[6:end] if end >= 0 else event[6:]
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def _parse(event: bytes) -> Event | None:
    payload = _payload(event)
    if not payload.startswith(b"{"):
        return None
    try:
        return _decode_event(payload)
    except _UNREADABLE as error:
        raise StreamFault(f"an event is not JSON: {error}", b"") from None


def _opens(whole: bytes) -> bool:
    """Whether any event carries content, reasoning, a tool call or a finish reason."""
    start = 0
    while True:
        end = whole.find(b"\n\n", start)
        if end < 0:
            return False
        event = _parse(whole[start:end])
        if event is not None and event.choices and any(map(_choice_opens, event.choices)):
            return True
        start = end + 2


def _choice_opens(choice: Choice) -> bool:
    if choice.text or choice.finish_reason:
        return True
    delta = choice.delta
    if delta is None:
        return False
    if delta.content or delta.reasoning_content or delta.reasoning or delta.refusal:
        return True
    return bytes(delta.tool_calls) not in _NULLS


def _finish(whole: bytes) -> str | None:
    for mark in (b'"finish_reason":"', b'"finish_reason": "'):
        at = whole.rfind(mark)
        while at >= 0:
            begin = at + len(mark)
            reason = whole[begin : whole.find(b'"', begin)]
            if reason:
                return reason[:32].decode("ascii", "replace")
            # Some providers write "" where others write null.
            at = whole.rfind(mark, 0, at)
    return None


def _usage(raw: RawUsage) -> Usage:
    prompt, completion = raw.prompt_tokens_details, raw.completion_tokens_details
    cached = (prompt.cached_tokens if prompt else None) or raw.prompt_cache_hit_tokens
    reasoning = completion.reasoning_tokens if completion else None
    read, made = _count(raw.prompt_tokens), _count(raw.completion_tokens)
    held = min(_count(cached), read) if cached else 0
    return Usage(read, made, held, _count(reasoning) if reasoning else 0)


def _count(tokens: float | None) -> int:
    """A target may report anything; what is no count must not reach the books."""
    if type(tokens) is int and 0 <= tokens <= TOKENS_MAX:
        return tokens
    return int(min(max(tokens or 0, 0), TOKENS_MAX))
