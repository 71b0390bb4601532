"""What the upstream answers: made beforehand, at the pace that a prompt asks for. Pure."""

from __future__ import annotations

import functools
import json
import re
from typing import NamedTuple

MODEL = "m"
PROMPT_TOKENS = 16
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
PACES_MAX = 32
_MARK = re.compile(rb"@pace=(\d{1,4}),(\d{1,5});")


class Pace(NamedTuple):
    """What every stream looks like: so many content events, so many milliseconds apart (0: all at
    once)."""

    tokens: int
    chunk_ms: float


def mark(pace: Pace) -> str:
    """What a prompt says to be answered at this pace; milliseconds are whole."""
    return f"@pace={pace.tokens},{pace.chunk_ms:.0f};"


def marked(body: bytes) -> Pace | None:
    """The pace that a request asks for."""
    found = _MARK.search(body)
    return Pace(int(found[1]), float(found[2])) if found else None


def event(payload: object) -> bytes:
    """One server-sent event in one HTTP chunk."""
    data = b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
    return chunk(data)


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Script:
    """The answers, ready to be written."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": pace.tokens,
            "total_tokens": PROMPT_TOKENS + pace.tokens,
        }
        self._usage = usage
        message = {"role": "assistant", "content": "tok " * pace.tokens}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "chatcmpl-0", "object": "chat.completion", "created": 1, "model": MODEL}
        self.whole = answer({**whole, "choices": [choice], "usage": usage})
        done = chunk(b"data: [DONE]\n\n") + LAST_CHUNK
        plain, asked = self.events("chatcmpl-0", with_usage=False), self.events("chatcmpl-0")
        self.instant = [SSE_HEAD, *plain, done]
        self.instant_usage = [SSE_HEAD, *asked, done]
        self.done = done
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}
        load = {"w": 0, "r": 0, "q": 0, "kv": 0.0, "at": 0, "limit": 4096, "started": 1}
        self.others = {
            b"/internal/load": answer({**load, "model": MODEL, "draining": False}),
            b"/v1/models": answer({"object": "list", "data": [{**model, "max_model_len": 8192}]}),
            b"info": answer({"model_path": MODEL, "model_id": MODEL, "served_model_name": MODEL,
                             "tokenizer_path": MODEL, "is_generation": True}),
        }  # fmt: skip
        self.fine = answer({"status": "ok"})

    def events(self, name: str, *, with_usage: bool = True) -> list[bytes]:
        """The events of one stream but the last: numbered content, finish reason, usage."""
        base = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        found = [
            event({**base, "choices": [_choice({"content": f" tok{i}"}, None)]})
            for i in range(self.pace.tokens)
        ]
        found.append(event({**base, "choices": [_choice({}, "stop")]}))
        if with_usage:
            found.append(event({**base, "choices": [], "usage": self._usage}))
        return found

    def other(self, line: bytes) -> bytes:
        """The answer to a request that is no completion, by its first line."""
        for mark, data in self.others.items():
            if mark in line:
                return data
        return self.fine


def _choice(delta: dict[str, str], finish: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def answer(payload: object) -> bytes:
    """A whole JSON answer with its head."""
    body = json.dumps(payload).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@functools.lru_cache(maxsize=PACES_MAX)
def scripted(pace: Pace) -> Script:
    """Made once for each pace that is asked for."""
    return Script(pace)
