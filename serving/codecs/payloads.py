"""The payloads of server-sent events, however the bytes are cut; and OpenAI's events made. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.wire.sse import EVENT_BYTES_MAX, StreamFault

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Payloads:
    """Cuts arriving bytes into the JSON objects of their events."""

    __slots__ = ("_kept", "has_done")

    def __init__(self) -> None:
        self._kept = b""
        self.has_done = False
        """OpenAI's end marker came."""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The objects of the events that are whole by now. Raises StreamFault."""
        data = self._kept + data
        tail = b""
        if b"\r" in data:
            # A trailing CR may be half a CRLF.
            tail = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = data.split(b"\n\n")
        self._kept = rest + tail
        if len(self._kept) > EVENT_BYTES_MAX:
            raise StreamFault("an event exceeds 8 MiB", b"")
        return self._read(whole)

    def end(self) -> list[dict[str, Any]]:
        """What an event without its blank line still holds; a torn one is nothing: the missing
        finish reason tells."""
        kept, self._kept = self._kept.replace(b"\r", b"\n").strip(b"\n"), b""
        try:
            return self._read([kept] if kept else [])
        except StreamFault:
            return []

    def _read(self, events: list[bytes]) -> list[dict[str, Any]]:
        """Their objects up to the end marker; comments and what is no object are nothing to us."""
        found = []
        for event in events:
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            data = b"\n".join(lines)
            self.has_done = self.has_done or data == b"[DONE]"
            if data.startswith(b"{") and not self.has_done:
                found.append(read(data))
        return found


def read(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises StreamFault."""
    try:
        found = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StreamFault(f"the answer is not the JSON expected: {error}", b"") from None
    if not isinstance(found, dict):
        raise StreamFault("the answer is no JSON object", b"")
    return found


def event(payload: dict[str, Any]) -> bytes:
    """One event."""
    return b"data: " + _encode(payload) + b"\n\n"


def fault(payload: dict[str, Any]) -> StreamFault:
    """An error that came under status 200."""
    return StreamFault("an error came under status 200", _encode(payload))


def usage(prompt: int, completion: int, cached: int, reasoning: int) -> dict[str, Any]:
    """OpenAI's usage."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def count(value: Any) -> int:
    """A number of tokens; what is none counts nothing."""
    return value if type(value) is int and value > 0 else 0


def mapping(value: Any) -> dict[str, Any]:
    """An object, or an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[dict[str, Any]]:
    """The objects of an array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
