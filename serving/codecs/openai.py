"""The OpenAI dialect: bytes into checked fields, and fields into bytes for a target. Pure.

The body is parsed once, one level deep; members we do not know stay raw and pass untouched. Fields
that steer the engine or cross tenants are ours: they are stripped here and set by us.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.codecs import media, pooling, speech, switches
from serving.errors import CallerError
from serving.records import POOLED, Call, Surface

RESERVED = frozenset({
    "priority", "cache_salt", "request_id", "kv_transfer_params", "ec_transfer_params",
    "session_id", "vllm_xargs", "chat_template", "data_parallel_rank",
})  # fmt: skip
N_MAX = 128
TOKENS_MAX = (1 << 31) - 1
FIELDS_MAX = 256
"""Members of a body; the largest dialect knows about 70. A million tiny ones would cost ten times
their bytes for as long as the call lives."""
PROMPT_FIELD = {
    Surface.CHAT: "messages",
    Surface.COMPLETIONS: "prompt",
    Surface.EMBEDDINGS: "input",
}
PATHS = {
    Surface.CHAT: b"/v1/chat/completions",
    Surface.COMPLETIONS: b"/v1/completions",
    Surface.TOKENIZE: b"/tokenize",
    Surface.EMBEDDINGS: b"/v1/embeddings",
    Surface.RERANK: b"/v1/rerank",
    Surface.SCORE: b"/v1/score",
    Surface.SPEECH: b"/v1/audio/speech",
    Surface.TRANSCRIPTION: b"/v1/audio/transcriptions",
    Surface.TRANSLATION: b"/v1/audio/translations",
}
_BRACKET = ord("[")
# Looking a member up on its class costs 0.2 us in Python 3.11.
_TOKENIZE, _SPEECH = Surface.TOKENIZE, Surface.SPEECH
_PROMPT_STARTS = b'["'
_RAW_USAGE = msgspec.Raw(b'{"include_usage":true}')
_NULL = b"null"
_EMPTY = (_NULL, b"[]", b'""')
_LIMITS = ("max_tokens", "max_completion_tokens")
"""Where both are given the later one counts."""
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Parsed(msgspec.Struct, frozen=True):
    """What the gateway needs to know of a body."""

    fields: dict[str, msgspec.Raw]
    model: str
    prompt: bytes
    text_bytes: int
    """Size of the prompt for guessing its tokens."""
    max_tokens: int | None
    stream: bool
    wants_usage: bool
    cache_key: str
    n: int = 1
    """Choices that the answer will have: `n` of each prompt."""
    counted: int | None = None
    """The prompt's exact size in what the target counts; None where it is to be guessed."""


def parse(surface: Surface, body: bytes) -> Parsed:
    """Check a body. Raises CallerError naming the field at fault, never its content."""
    fields = _decode(body)
    model = _value(fields, "model", str)
    if not model:
        raise CallerError(
            "invalid_value", "'model' is required and must be a string", param="model"
        )
    if surface in POOLED:
        prompt, text_bytes = pooling.prompt(surface, fields)
        return Parsed(fields, model, prompt, text_bytes, 0, False, False, "")
    if surface is _SPEECH:
        prompt, size = speech.prompt(fields)
        return Parsed(fields, model, prompt, size, 0, False, False, "", counted=size)
    prompt, text_bytes, prompts = _prompt(surface, fields)
    if surface is _TOKENIZE:
        return Parsed(fields, model, prompt, text_bytes, None, False, False, "")
    limit = None
    for name in _LIMITS:
        if name in fields:
            limit = _count(fields, name, 1, TOKENS_MAX) or limit
    n = (_count(fields, "n", 1, N_MAX) or 1) if "n" in fields else 1
    stream = "stream" in fields and bool(_value(fields, "stream", bool))
    wants_usage = "stream_options" in fields and _wants_usage(fields)
    cache_key = ""
    if "prompt_cache_key" in fields:
        cache_key = _value(fields, "prompt_cache_key", str) or ""
    return Parsed(
        fields, model, prompt, text_bytes, limit, stream, wants_usage, cache_key, n * prompts
    )


def _decode(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        if not body.isascii():
            body.decode("utf-8")
        fields = _fields(body)
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8 (byte {error.start})"
        raise CallerError("invalid_encoding", message) from None
    except msgspec.ValidationError:
        raise CallerError("invalid_json", "the body must be a JSON object") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallerError("invalid_json", f"the body is not valid JSON: {error}") from None
    if len(fields) > FIELDS_MAX:
        raise CallerError("invalid_value", f"the body has more than {FIELDS_MAX} members")
    return fields


def _read(raw: msgspec.Raw | bytes, name: str) -> Any:
    """Decode one member in full."""
    try:
        return _any(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise CallerError("invalid_value", f"'{name}' cannot be read", param=name) from None


def _prompt(surface: Surface, fields: dict[str, msgspec.Raw]) -> tuple[bytes, int, int]:
    """The prompt's JSON, its bytes as text (a picture counts a fixed size, not its data), and how
    many prompts it holds."""
    name = PROMPT_FIELD.get(surface)
    if name is None:
        name = "messages" if "messages" in fields else "prompt"
    data = bytes(fields.get(name, b""))
    if not data or data in _EMPTY:
        raise CallerError("invalid_value", f"'{name}' is required", param=name)
    if name == "messages":
        if data[0] != _BRACKET:
            raise CallerError("invalid_value", "'messages' must be an array", param=name)
        # Media stand in parts, and parts in an array of their own: most chats end here.
        if data.find(b"[", 1) >= 0 and any(word in data for word in media.WORDS):
            count, size = media.check(_read(data, name))
            return data, len(data) - size + count * media.MEDIA_BYTES, 1
    elif data[0] not in _PROMPT_STARTS:
        raise CallerError("invalid_value", "'prompt' must be a string or an array", param=name)
    elif data[0] == _BRACKET:
        prompts = _read(data, name)
        if not prompts:
            raise CallerError("invalid_value", f"'{name}' is required", param=name)
        # An array of numbers is one prompt in tokens.
        return data, len(data), 1 if isinstance(prompts[0], int) else _few(len(prompts))
    return data, len(data), 1


def _few(prompts: int) -> int:
    if prompts > N_MAX:
        message = f"'prompt' holds {prompts} prompts; at most {N_MAX}"
        raise CallerError("invalid_value", message, param="prompt")
    return prompts


def _value(fields: dict[str, msgspec.Raw], name: str, kind: type[Any]) -> Any:
    """A scalar member, None when absent or null."""
    raw = fields.get(name)
    if raw is None:
        return None
    value = _read(raw, name)
    if value is not None and type(value) is not kind:
        message = f"'{name}' must be {_WORDS[kind]}"
        raise CallerError("invalid_value", message, param=name)
    return value


_WORDS = {str: "a string", bool: "a boolean", int: "an integer", dict: "an object"}


def _count(
    fields: dict[str, msgspec.Raw], name: str, lowest: int, highest: int | None
) -> int | None:
    value = _value(fields, name, int)
    if value is None:
        return None
    if value < lowest or (highest is not None and value > highest):
        bound = f"at least {lowest}" if highest is None else f"between {lowest} and {highest}"
        bound += "; leave it out for no limit of your own" if name in _LIMITS else ""
        raise CallerError("invalid_value", f"'{name}' must be {bound}", param=name)
    return int(value)


def _wants_usage(fields: dict[str, msgspec.Raw]) -> bool:
    options = _value(fields, "stream_options", dict)
    wanted = options.get("include_usage") if options else None
    if wanted is not None and type(wanted) is not bool:
        # An engine may read "false" as false, and then nobody would count the tokens.
        name = "stream_options.include_usage"
        raise CallerError("invalid_value", f"'{name}' must be a boolean", param=name)
    return bool(wanted)


def engine_body(call: Call, ticket_id: str, cache_salt: str) -> bytes:
    """The body for one of our own engines: the caller's, with the reserved fields ours."""
    out: dict[str, Any] = dict(call.fields)
    for name in RESERVED.intersection(out):
        del out[name]
    out["model"] = call.adapter or call.model
    if "enable_thinking" in out or "thinking" in out:
        out |= switches.translated(call.fields)
    if call.surface is _TOKENIZE:
        return _encode(out)
    out["request_id"] = ticket_id
    out["cache_salt"] = cache_salt
    if call.stream:
        out["stream_options"] = _stream_options(call)
    return _encode(out)


def _stream_options(call: Call) -> Any:
    raw = call.fields.get("stream_options")
    if raw is None or call.wants_usage:
        return raw or _RAW_USAGE
    options = _any(raw)
    if not isinstance(options, dict):
        return _RAW_USAGE
    # continuous_usage_stats without include_usage is an error at the engine.
    return {**options, "include_usage": True}


def provider_body(
    call: Call, upstream_model: str, max_tokens_field: str, speaks: frozenset[str]
) -> bytes:
    """The body for a third-party API of this dialect: only members it knows, its own model name."""
    out: dict[str, Any] = {
        name: raw for name, raw in call.fields.items() if name in speaks or name in _LIMITS
    }
    out["model"] = upstream_model
    for raw in [out.pop(name, None) for name in _LIMITS]:
        if raw is not None and bytes(raw) != _NULL:
            out[max_tokens_field] = raw
    if call.stream and "stream_options" in speaks:
        out["stream_options"] = _stream_options(call)
    return _encode(out)
