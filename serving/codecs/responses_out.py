"""A chat's answer in the words of OpenAI's Responses: an object, or a stream's events. Pure."""

from __future__ import annotations

from typing import Any

from serving.codecs.asked import encode, members
from serving.codecs.heard import Counts, Heard, Part, body, events

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED = ("instructions", "max_output_tokens", "metadata", "reasoning", "temperature", "text",
           "tool_choice", "tools", "top_p", "truncation", "user")  # fmt: skip
"""Members of the request that the answer repeats."""
_DEFAULTS = {"metadata": {}, "tool_choice": "auto", "tools": [], "truncation": "disabled",
             "text": {"format": {"type": "text"}}, "reasoning": {}}  # fmt: skip


class Responses:
    """One answer. Mutable; one per answer."""

    def __init__(self, asked: bytes, created_s: int) -> None:
        given = members(asked)
        self._head: dict[str, Any] = {
            name: given.get(name, _DEFAULTS.get(name)) for name in _ECHOED
        } | {
            "object": "response", "created_at": created_s, "error": None, "store": False,
            "incomplete_details": None, "previous_response_id": None, "background": False,
            "parallel_tool_calls": given.get("parallel_tool_calls", True),
        }  # fmt: skip
        self._items: list[_Item] = []
        self._sequence = 0
        self._has_begun = False
        self._is_over = False
        self._finish = ""
        self._usage: Counts | None = None

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
        status = self._status()
        self._say(out, f"response.{status}", response=self._response(status))
        return b"".join(out)

    def plain(self, status: int, data: bytes) -> bytes:
        """A plain answer; an error stays as it is, in OpenAI's form already."""
        if status >= 400:
            return data
        heard = body(data)
        if heard.error is not None:
            return data
        self._begin(heard)
        out: list[bytes] = []
        for part in heard.parts:
            self._part(part, out)
        self._finish, self._usage = heard.finish, heard.usage
        self._close(out)
        return encode(self._response(self._status()))

    def _begin(self, heard: Heard) -> None:
        id_ = heard.id.removeprefix("chatcmpl-") or "0"
        self._head |= {"id": f"resp_{id_}", "model": heard.model}

    def _take(self, heard: Heard, out: list[bytes]) -> None:
        if self._is_over:
            return
        if heard.error is not None:
            self._is_over = True
            message = str(heard.error.get("message", "the stream broke off"))
            failed = {"code": "server_error", "message": message}
            response = self._response("failed") | {"error": failed}
            self._say(out, "response.failed", response=response)
            return
        if not self._has_begun:
            self._has_begun = True
            self._begin(heard)
            for name in ("created", "in_progress"):
                self._say(out, f"response.{name}", response=self._response("in_progress"))
        for part in heard.parts:
            self._part(part, out)
        self._finish = heard.finish or self._finish
        self._usage = heard.usage or self._usage

    def _part(self, part: Part, out: list[bytes]) -> None:
        item = self._items[-1] if self._items else None
        if item is None or item.is_done or (item.kind, item.number) != (part.kind, part.number):
            self._close(out)
            item = _Item(part, f"{self._head['id'][5:]}_{len(self._items)}")
            self._items.append(item)
            self._added(item, out)
        if part.text:
            item.text += part.text
            self._about(item, f"{item.event}.delta", out, delta=part.text)

    def _added(self, item: _Item, out: list[bytes]) -> None:
        at = len(self._items) - 1
        self._say(
            out, "response.output_item.added", output_index=at, item=item.whole("in_progress")
        )
        if item.kind != "call":
            self._about(item, "response.content_part.added", out, part=item.part(""))

    def _close(self, out: list[bytes]) -> None:
        item = self._items[-1] if self._items else None
        if item is None or item.is_done:
            return
        item.is_done = True
        self._about(item, f"{item.event}.done", out, **item.done())
        if item.kind != "call":
            self._about(item, "response.content_part.done", out, part=item.part(item.text))
        at = len(self._items) - 1
        self._say(out, "response.output_item.done", output_index=at, item=item.whole("completed"))

    def _about(self, item: _Item, kind: str, out: list[bytes], **more: Any) -> None:
        where: dict[str, Any] = {"item_id": item.id, "output_index": len(self._items) - 1}
        if item.kind != "call":
            where["content_index"] = 0
        if kind.startswith("response.output_text"):
            where["logprobs"] = []
        self._say(out, kind, **where, **more)

    def _say(self, out: list[bytes], kind: str, **more: Any) -> None:
        event = {"type": kind, "sequence_number": self._sequence} | more
        self._sequence += 1
        out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(event)))

    def _status(self) -> str:
        return "incomplete" if self._finish in _REASONS else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        output = [item.whole("completed") for item in self._items if item.is_done]
        whole = self._head | {"status": status, "output": output, "usage": None}
        if status == "incomplete":
            whole["incomplete_details"] = {"reason": _REASONS[self._finish]}
        if self._usage is not None and status != "in_progress":
            whole["usage"] = _usage(self._usage)
        return whole


class _Item:
    """One item of the output: thoughts, a message, a call."""

    __slots__ = ("call_id", "id", "is_done", "kind", "name", "number", "text")

    def __init__(self, part: Part, mark: str) -> None:
        self.kind, self.number = part.kind, part.number
        prefix = {"reasoning": "rs", "text": "msg", "call": "fc"}[part.kind]
        self.id = f"{prefix}_{mark}"
        self.call_id, self.name = part.id or f"call_{mark}", part.name
        self.text = ""
        self.is_done = False

    @property
    def event(self) -> str:
        """Its events' name without the last word."""
        names = {"reasoning": "reasoning_text", "text": "output_text",
                 "call": "function_call_arguments"}  # fmt: skip
        return f"response.{names[self.kind]}"

    def done(self) -> dict[str, Any]:
        """What its last event says."""
        if self.kind == "call":
            return {"arguments": self.text, "name": self.name}
        return {"text": self.text}

    def part(self, text: str) -> dict[str, Any]:
        """Its one content part."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def whole(self, status: str) -> dict[str, Any]:
        """The item as far as it has come."""
        content = [self.part(self.text)] if status == "completed" else []
        if self.kind == "reasoning":
            return {"id": self.id, "type": "reasoning", "summary": [], "content": content}
        if self.kind == "text":
            return {"id": self.id, "type": "message", "role": "assistant", "status": status,
                    "content": content}  # fmt: skip
        return {"id": self.id, "type": "function_call", "call_id": self.call_id, "name": self.name,
                "arguments": self.text, "status": status}  # fmt: skip


def _usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }
