"""A chat's answer in the words of Anthropic's Messages: a message, or a stream's events. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from serving.codecs.asked import encode, members
from serving.codecs.heard import Counts, Heard, Part, body, events
from serving.errors import CallerError

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use",
          "function_call": "tool_use", "content_filter": "refusal"}  # fmt: skip
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
           404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
           503: "overloaded_error", 504: "timeout_error"}  # fmt: skip


class _Block(NamedTuple):
    """The content block that is open."""

    kind: str
    number: int
    """Of a call."""


class Messages:
    """One answer in Anthropic's words. Mutable; one per answer."""

    def __init__(self) -> None:
        self._count = 0
        self._open: _Block | None = None
        self._has_begun = False
        self._is_over = False
        self._finish = self._stop = ""
        self._usage = Counts()

    def feed(self, data: bytes) -> bytes:
        """Events in place of a chat's."""
        out: list[bytes] = []
        for heard in events(data):
            self._take(heard, out)
        return b"".join(out)

    def end(self) -> bytes:
        """What ends the stream; nothing after an error."""
        if self._is_over or not self._has_begun:
            return b""
        self._is_over = True
        out: list[bytes] = []
        self._close(out)
        usage = _usage(self._usage)
        stop = _stop(self._finish, self._stop)
        out.append(_event("message_delta", delta=stop, usage=usage))
        out.append(_event("message_stop"))
        return b"".join(out)

    def plain(self, status: int, data: bytes) -> bytes:
        """A plain answer, or an error."""
        heard = body(data)
        if status >= 400 or heard.error is not None:
            return encode(_error(heard.error or {}, status))
        content = [_whole(part) for part in heard.parts]
        message = _message(heard) | {"content": content}
        return encode(message | _stop(heard.finish, heard.stop) | {
            "usage": _usage(heard.usage or Counts())
        })  # fmt: skip

    def _take(self, heard: Heard, out: list[bytes]) -> None:
        if self._is_over:
            return
        if heard.error is not None:
            self._is_over = True
            out.append(_event("error", **_error(heard.error, 502)))
            return
        if not self._has_begun:
            self._has_begun = True
            start = _message(heard) | {"stop_reason": None, "stop_sequence": None}
            out.append(_event("message_start", message=start | {"usage": _usage(Counts())}))
        for part in heard.parts:
            self._part(part, out)
        self._finish = heard.finish or self._finish
        self._stop = heard.stop or self._stop
        self._usage = heard.usage or self._usage

    def _part(self, part: Part, out: list[bytes]) -> None:
        block = _Block(part.kind, part.number)
        if self._open != block:
            self._close(out)
            self._open = block
            empty = _whole(part._replace(text=""))
            out.append(_event("content_block_start", index=self._count, content_block=empty))
        if part.text:
            out.append(_event("content_block_delta", index=self._count, delta=_delta(part)))

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            out.append(_event("content_block_stop", index=self._count))
            self._open = None
            self._count += 1


def _message(heard: Heard) -> dict[str, Any]:
    id_ = heard.id.removeprefix("chatcmpl-") or "0"
    return {"id": f"msg_{id_}", "type": "message", "role": "assistant", "model": heard.model,
            "content": []}  # fmt: skip


def _whole(part: Part) -> dict[str, Any]:
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    call = {"type": "tool_use", "id": part.id or f"toolu_{part.number}", "name": part.name}
    return call | {"input": _arguments(part.text)}


def _arguments(text: str) -> Any:
    """A call's arguments; what is no JSON object is passed on as it is, for the caller to judge."""
    if not text:
        return {}
    try:
        return members(text.encode("utf-8", "replace"))
    except CallerError:
        return {"arguments": text}


def _delta(part: Part) -> dict[str, Any]:
    if part.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": part.text}
    if part.kind == "text":
        return {"type": "text_delta", "text": part.text}
    return {"type": "input_json_delta", "partial_json": part.text}


def _stop(finish: str, stop: str) -> dict[str, Any]:
    if finish == "stop" and stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _STOPS.get(finish, "end_turn"), "stop_sequence": None}


def _usage(counts: Counts) -> dict[str, int]:
    return {
        "input_tokens": counts.prompt - counts.cached, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached, "output_tokens": counts.completion,
    }  # fmt: skip


def _error(error: dict[str, Any], status: int) -> dict[str, Any]:
    kind = _ERRORS.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = str(error.get("message", "the gateway failed"))
    return {"type": "error", "error": {"type": kind, "message": message}}


def _event(kind: str, **members_: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind} | members_))
