"""Embeddings, rerankings and scores: the same dialect, but nothing is generated. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.codecs import media
from serving.errors import CallerError
from serving.records import Block, Surface, Usage
from serving.unreadable import UNREADABLE
from serving.wire.sse import TOKENS_MAX, StreamFault

FORMS: dict[Surface, tuple[tuple[str, ...], ...]] = {
    Surface.EMBEDDINGS: (("input",), ("messages",)),
    Surface.RERANK: (("query", "documents"),),
    Surface.SCORE: (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"),
                    ("data_1", "data_2")),
}  # fmt: skip
"""Members that hold the prompt, in the forms that vLLM 0.32 takes."""
ENCODINGS = frozenset({b"null", b'"float"', b'"base64"'})
"""The others are no JSON."""
_EMPTY = (b"", b"null", b"[]", b'""', b"{}")
_TRUE = b"true"
_any = msgspec.json.Decoder().decode


def prompt(surface: Surface, fields: dict[str, msgspec.Raw]) -> tuple[bytes, int]:
    """The prompt's JSON, and its bytes as text. Raises CallerError naming the field at fault."""
    form = _form(surface, fields)
    if bytes(fields.get("stream", b"")) == _TRUE:
        message = f"{surface} are answered whole: leave out 'stream'"
        raise CallerError("invalid_value", message, param="stream")
    given = fields.get("encoding_format")
    if given is not None and bytes(given) not in ENCODINGS:
        message = "'encoding_format' must be float or base64"
        raise CallerError("invalid_value", message, param="encoding_format")
    parts, size = [], 0
    for name in form:
        data = bytes(fields[name])
        parts.append(data)
        size += len(data) - _media_bytes(name, data)
    return b"".join(parts), size


def _form(surface: Surface, fields: dict[str, msgspec.Raw]) -> tuple[str, ...]:
    forms = FORMS[surface]
    for form in forms:
        if all(name in fields for name in form):
            for name in form:
                if bytes(fields[name]).strip() in _EMPTY:
                    raise CallerError("invalid_value", f"'{name}' is empty", param=name)
            return form
    wanted = "; or ".join(" and ".join(f"'{name}'" for name in form) for form in forms)
    raise CallerError("invalid_value", f"{wanted} must be given", param=forms[0][0])


def _media_bytes(name: str, data: bytes) -> int:
    """Bytes of inline media beyond what they count. Refuses what would have to be fetched."""
    if not any(word in data for word in media.WORDS):
        return 0
    try:
        value = _any(data)
    except UNREADABLE:
        raise CallerError("invalid_value", f"'{name}' cannot be read", param=name) from None
    parts = value if isinstance(value, list) else [value]
    # Messages hold their parts themselves; elsewhere the parts stand bare.
    messages: list[Any] = parts if name == "messages" else [{"content": parts}]
    count, size = media.check(messages)
    return size - count * media.MEDIA_BYTES


class _Counted(msgspec.Struct):
    prompt_tokens: int | float | None = None
    total_tokens: int | float | None = None


class _Answer(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()
    usage: _Counted | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Answer).decode


def plain(body: bytes) -> Block:
    """The Block of an answer. Raises StreamFault for an error under a 200."""
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        raise StreamFault(f"the answer is not the JSON expected: {error}", b"") from None
    if bytes(answer.error) not in _EMPTY:
        raise StreamFault("an error came under status 200", body)
    opens = any(bytes(rows).startswith(b"[{") for rows in (answer.data, answer.results))
    return Block(body, 0, _usage(answer.usage), None, opens=opens, ends=True)


def _usage(counted: _Counted | None) -> Usage | None:
    """Rerankers tell the total only; nothing was generated, so it is the prompt's."""
    if counted is None:
        return None
    told = counted.total_tokens if counted.prompt_tokens is None else counted.prompt_tokens
    # A target may report anything; what is no count must not reach the books.
    return None if told is None else Usage(int(min(max(told, 0), TOKENS_MAX)))
