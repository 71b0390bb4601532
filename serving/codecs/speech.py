"""Texts to be said aloud: OpenAI's `/v1/audio/speech`. Pure.

A character of the text counts as a token, in limits and in prices: that is what those who sell
speech bill, and their answer, bare sound, tells no usage.
"""

from __future__ import annotations

from typing import Final

import msgspec

from serving.errors import CallerError
from serving.records import Block
from serving.unreadable import UNREADABLE
from serving.wire.sse import StreamFault

KINDS: Final = {
    b'"mp3"': b"audio/mpeg", b'"opus"': b"audio/ogg", b'"aac"': b"audio/aac",
    b'"flac"': b"audio/flac", b'"wav"': b"audio/wav", b'"pcm"': b"audio/pcm",
}  # fmt: skip
"""Content types by format. `opus` comes in Ogg."""
DEFAULT: Final = b'"mp3"'
"""OpenAI's; said to third parties, whose own differ (Zhipu: pcm)."""
CHARACTERS_MAX: Final = 1 << 20
_TEXT_KINDS = ("application/json", "application/problem+json")
_SOUND_KINDS = ("audio/", "application/octet-stream", "binary/octet-stream")
_string = msgspec.json.Decoder(str).decode


def prompt(fields: dict[str, msgspec.Raw]) -> tuple[bytes, int]:
    """The text's JSON and its characters; writes the default format into `fields`. Raises
    CallerError naming the field at fault."""
    data = bytes(fields.get("input", b"null"))
    try:
        text = _string(data)
    except UNREADABLE:
        raise _wrong("input", "must be a string") from None
    if not text or len(text) > CHARACTERS_MAX:
        raise _wrong("input", f"must have 1 to {CHARACTERS_MAX} characters")
    if bytes(fields.get("stream_format", b'"audio"')) not in (b'"audio"', b"null"):
        raise _wrong("stream_format", "must be audio: events of sound are not served")
    given = bytes(fields.get("response_format", b"null"))
    if given == b"null":
        fields["response_format"] = msgspec.Raw(DEFAULT)
    elif given not in KINDS:
        known = ", ".join(name.decode().strip('"') for name in KINDS)
        raise _wrong("response_format", f"must be one of {known}")
    return data, len(text)


def _wrong(name: str, what: str) -> CallerError:
    return CallerError("invalid_value", f"'{name}' {what}", param=name)


def kind(fields: dict[str, msgspec.Raw]) -> bytes:
    """The content type of what was asked for, after `prompt`."""
    return KINDS[bytes(fields["response_format"])]


def plain(content_type: str, body: bytes) -> Block:
    """The Block of an answer. Raises StreamFault for what is no sound."""
    if content_type in _TEXT_KINDS:
        raise StreamFault("an error came under status 200", body)
    if not content_type.startswith(_SOUND_KINDS):
        raise StreamFault("the answer is no sound", b"")
    return Block(body, 0, None, None, opens=bool(body), ends=True)
