"""What the simulated engine's prefix cache knows a prompt by: its bytes, and names of its blocks.

Pure. Four bytes stand for each token, so a block is 64 of them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from serving.fakes.blocks import BLOCK_TOKENS
from serving.fakes.text import BYTES_PER_TOKEN, MESSAGE_OVERHEAD_TOKENS

BLOCK_BYTES: Final = BLOCK_TOKENS * BYTES_PER_TOKEN
MEDIA_TOKENS: Final = 256
"""Tokens an image or other non-text part stands for."""
_NAME_BYTES: Final = 16
_HEAD_BYTES: Final = MESSAGE_OVERHEAD_TOKENS * BYTES_PER_TOKEN
_PIECE_BYTES: Final = 64 * BLOCK_BYTES
_PIECES_MAX: Final = 1024
"""Pieces whose names are kept: 4 MiB of text and as much of names."""


def chat_bytes(messages: Iterable[dict[str, Any]]) -> bytes:
    """A conversation as the template would write it, four bytes a token."""
    out: list[bytes] = []
    for message in messages:
        out.append(_head(message))
        content = message.get("content")
        for part in content if isinstance(content, list) else [{"text": content}]:
            text = part.get("text") if isinstance(part, dict) else None
            out.append(text_bytes(text) if isinstance(text, str) else _media(part))
    return b"".join(out)


def text_bytes(text: str) -> bytes:
    """A text, its last token filled up."""
    data = text.encode("utf-8", "surrogatepass")
    return data + bytes(-len(data) % BYTES_PER_TOKEN)


def ids_bytes(ids: Iterable[int]) -> bytes:
    """Token ids; of absurd ones the lower half."""
    try:
        return array("I", ids).tobytes()
    except OverflowError:
        return array("I", (one & 0xFFFF_FFFF for one in ids)).tobytes()


def chain(data: bytes, apart: tuple[str, ...] = ()) -> tuple[bytes, ...]:
    """Names of the full blocks, each a hash of its content and of all before it. `apart` (salt,
    adapter) keeps equal prompts from each other."""
    parent = _hash(msgspec.json.encode(apart)) if any(apart) else b""
    names: list[bytes] = []
    end = len(data) - len(data) % BLOCK_BYTES
    for at in range(0, end, _PIECE_BYTES):
        names += _names(parent, data[at : min(end, at + _PIECE_BYTES)])
        parent = names[-1]
    return tuple(names)


@lru_cache(maxsize=_PIECES_MAX)
def _names(parent: bytes, piece: bytes) -> tuple[bytes, ...]:
    names = []
    for at in range(0, len(piece), BLOCK_BYTES):
        parent = _hash(parent + piece[at : at + BLOCK_BYTES])
        names.append(parent)
    return tuple(names)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_NAME_BYTES).digest()


def _head(message: dict[str, Any]) -> bytes:
    """What the template says of a message beside its content: its role, and whatever is more."""
    rest = {name: value for name, value in message.items() if name != "content"}
    return _hash(msgspec.json.encode(rest))[:_HEAD_BYTES]


def _media(part: object) -> bytes:
    if not isinstance(part, dict) or not part.get("type"):
        return b""
    return _hash(msgspec.json.encode(part)) * (MEDIA_TOKENS * BYTES_PER_TOKEN // _NAME_BYTES)
