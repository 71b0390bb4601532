"""What one answer said and when: an SSE stream or plain JSON, read as it comes. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

EVENT_BYTES_MAX = 8 << 20


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _Failed(msgspec.Struct):
    error: _Error | str | None = None


_event = msgspec.json.Decoder(_Event).decode
_failed = msgspec.json.Decoder(_Failed).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NONE = (b"", b"null")


class Answer(msgspec.Struct):
    """An answer as it comes in. Times are of the caller's clock; -1 = has not happened."""

    first_s: float = -1.0
    """The first token of any kind."""
    visible_s: float = -1.0
    """The first that the reader sees: content or a tool call, no reasoning."""
    last_s: float = -1.0
    """The last token."""
    events: int = 0
    """That carried tokens."""
    gap_s: float = 0.0
    """The longest silence between two of them."""
    finish: str = ""
    """Its reason, once told."""
    has_done: bool = False
    fault: str = ""
    """What was wrong in a stream under status 200."""
    prompt_tokens: int = -1
    cached_tokens: int = 0
    completion_tokens: int = -1
    reasoning_tokens: int = 0
    text: list[str] = []
    """Visible text, for the next turn or a schema's check."""


class Reader:
    """Feeds an Answer. `gaps` is told each silence between events that carry tokens."""

    __slots__ = ("_gaps", "_keeps_text", "_rest", "answer")

    def __init__(self, gaps: Callable[[float], None], *, keeps_text: bool) -> None:
        self.answer = Answer()
        self._gaps = gaps
        self._rest = b""
        self._keeps_text = keeps_text

    def feed(self, data: bytes, now_s: float) -> None:
        """More of a stream."""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:  # after joining: a piece may end between the two
            data = data.replace(b"\r\n", b"\n")
        cut = data.rfind(b"\n\n")
        if cut < 0:
            self._keep(data)
            return
        self._keep(data[cut + 2 :])
        for raw in data[: cut + 2].split(b"\n\n"):
            if raw.startswith(b"data:"):
                self._take(raw[5:].strip(), now_s)

    def plain(self, body: bytes, now_s: float) -> None:
        """A whole answer of one piece."""
        self._take(body, now_s)
        self.answer.has_done = True

    def _keep(self, rest: bytes) -> None:
        if len(rest) > EVENT_BYTES_MAX:
            self.answer.fault = "an event above 8 MiB"
            rest = b""
        self._rest = rest

    def _take(self, payload: bytes, now_s: float) -> None:
        answer = self.answer
        if payload == b"[DONE]":
            answer.has_done = True
            return
        try:
            event = _event(payload)
        except _UNREADABLE:
            answer.fault = answer.fault or "not_json"
            return
        if bytes(event.error) not in _NONE:
            answer.fault = answer.fault or f"in_stream {code_of(payload)}"
        for choice in event.choices or ():
            self._choice(choice, now_s)
        if event.usage is not None:
            self._use(event.usage)

    def _choice(self, choice: _Choice, now_s: float) -> None:
        answer = self.answer
        if choice.finish_reason:
            answer.finish = choice.finish_reason
        part = choice.delta or choice.message
        if part is None:
            return
        is_visible = bool(part.content or part.tool_calls)
        if not (is_visible or part.reasoning_content or part.reasoning):
            return
        answer.events += 1
        if answer.first_s < 0:
            answer.first_s = now_s
        else:
            gap_s = now_s - answer.last_s
            self._gaps(gap_s)
            answer.gap_s = max(answer.gap_s, gap_s)
        answer.last_s = now_s
        if is_visible:
            if answer.visible_s < 0:
                answer.visible_s = now_s
            if self._keeps_text and part.content:
                answer.text.append(part.content)

    def _use(self, usage: _Usage) -> None:
        answer = self.answer
        answer.prompt_tokens = usage.prompt_tokens or 0
        answer.completion_tokens = usage.completion_tokens or 0
        if usage.prompt_tokens_details is not None:
            answer.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0
        if usage.completion_tokens_details is not None:
            answer.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens or 0


def code_of(body: bytes) -> str:
    """The machine-readable code of an error body, as OpenAI shapes it."""
    try:
        error = _failed(body).error
    except _UNREADABLE:
        return "no_code"
    if isinstance(error, str):
        return error[:40]
    return str((error and (error.code or error.type)) or "no_code")[:40]
