"""Checks of a request to the simulated engine, as vLLM makes them.

Pure. A bad request becomes a `Rejection` with vLLM's status, type and wording, never an exception.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from serving.fakes.generation import GenerationRequest, ModelLimits, Prompt, Rejection, Surface
from serving.fakes.prefixes import chain, chat_bytes, ids_bytes, text_bytes
from serving.fakes.text import BYTES_PER_TOKEN, seed_of

_CHOICES_MAX: Final = 128
_LOGPROBS_MAX: Final = 20
"""vLLM's default (`--max-logprobs`)."""
_SALT: Final = re.compile(r"[^@/\\\0]{1,128}")
_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class _Body(msgspec.Struct):
    model: str | None = None
    max_tokens: int | None = None
    n: int | None = 1
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    request_id: str = ""
    cache_salt: str | None = None


class _Chat(_Body, kw_only=True):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0


class _Completion(_Body, kw_only=True):
    prompt: Any
    logprobs: int | None = None


def parse(surface: Surface, body: bytes, limits: ModelLimits) -> GenerationRequest | Rejection:
    """Check a body of `/v1/chat/completions` or `/v1/completions`."""
    kind: type[_Chat | _Completion] = _Chat if surface == "chat" else _Completion
    try:
        fields = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _PATH.search(str(error))
        return _invalid_field(str(error), ("body", found[1]) if found else ("body",))
    except msgspec.DecodeError as error:
        return _invalid_field(f"JSON decode error: {error}", ("body",))
    if rejection := _out_of_range(fields, limits):
        return rejection
    prompts = _prompts(fields, limits)
    if isinstance(prompts, Rejection):
        return prompts
    return _within_context(surface, fields, prompts, limits)


def _invalid_field(message: str, path: tuple[str, ...]) -> Rejection:
    text = f"1 validation error:\n  {{'loc': {path!r}, 'msg': {message!r}}}"
    return Rejection(400, text, "Bad Request", ".".join(path))


def _out_of_range(fields: _Chat | _Completion, limits: ModelLimits) -> Rejection | None:
    if fields.model not in (None, limits.model, *limits.adapters):
        message = f"The model `{fields.model}` does not exist."
        return Rejection(404, message, "NotFoundError", "model")
    n, top_p, temperature = fields.n, fields.top_p, fields.temperature
    if n is not None and not 1 <= n <= _CHOICES_MAX:
        return Rejection(400, f"n must be between 1 and {_CHOICES_MAX}, got {n}.", param="n")
    if temperature is not None and not 0.0 <= temperature <= 2.0:
        message = f"temperature must be in [0, 2], got {temperature}."
        return Rejection(400, message, param="temperature")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        return Rejection(400, f"top_p must be in (0, 1], got {top_p}.", param="top_p")
    if fields.cache_salt is not None and not _SALT.fullmatch(fields.cache_salt):
        message = "cache_salt: 1 to 128 characters other than '@', '/', '\\' and NUL."
        return Rejection(400, message, param="cache_salt")
    if (alternatives := _logprobs(fields) or 0) > _LOGPROBS_MAX:
        message = f"Requested sample logprobs of {alternatives}, "
        message += f"which is greater than max allowed: {_LOGPROBS_MAX}"
        return Rejection(400, message, param="logprobs")
    asked = _asked_tokens(fields)
    if asked is not None and asked < 1:
        message = f"max_tokens must be at least 1, got {asked}."
        return Rejection(400, message, param="max_tokens")
    if asked is not None and asked > limits.max_model_len:
        return Rejection(
            400,
            f"max_tokens={asked} cannot be greater than max_model_len={limits.max_model_len}. "
            "Please request fewer output tokens.",
            param="max_tokens",
        )
    return None


def _asked_tokens(fields: _Body) -> int | None:
    if isinstance(fields, _Chat) and fields.max_completion_tokens is not None:
        return fields.max_completion_tokens
    return fields.max_tokens


def _prompts(fields: _Chat | _Completion, limits: ModelLimits) -> tuple[Prompt, ...] | Rejection:
    if isinstance(fields, _Chat):
        if not fields.messages:
            return Rejection(400, "messages must not be empty.", param="messages")
        written = msgspec.json.encode(fields.messages).decode()
        return (_prompt(written, chat_bytes(fields.messages), fields, limits),)
    given = fields.prompt
    items: list[Any] = given if isinstance(given, list) else [given]
    if items and all(type(item) is int for item in items):
        items = [items]
    texts = [_completion_bytes(item) for item in items]
    if not texts or None in texts:
        return _invalid_field("prompt must be text or token ids", ("body", "prompt"))
    both = zip(items, texts, strict=True)
    return tuple(_prompt(str(item), data or b"", fields, limits) for item, data in both)


def _completion_bytes(item: object) -> bytes | None:
    if isinstance(item, str):
        return text_bytes(item)
    if isinstance(item, list) and item and all(type(token) is int for token in item):
        return ids_bytes(item)
    return None


def _prompt(written: str, data: bytes, fields: _Body, limits: ModelLimits) -> Prompt:
    """One prompt; `written` is what its answer hangs on, `data` what the engine computes."""
    names = None
    if limits.has_prefix_cache:
        adapter = fields.model if fields.model in limits.adapters else None
        names = chain(data, (fields.cache_salt or "", adapter or ""))
    return Prompt(seed_of(written, fields.seed), max(1, len(data) // BYTES_PER_TOKEN), names)


def _within_context(
    surface: Surface, fields: _Chat | _Completion, prompts: tuple[Prompt, ...], limits: ModelLimits
) -> GenerationRequest | Rejection:
    longest = max(prompt.tokens for prompt in prompts)
    if longest >= limits.max_model_len:
        return Rejection(
            400,
            f"This model's maximum context length is {limits.max_model_len} tokens. However, your "
            f"prompt contains {longest} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt.",
            param="input_tokens",
        )
    default = limits.max_model_len if surface == "chat" else 16
    stop = fields.stop or ()
    return GenerationRequest(
        surface=surface,
        model=fields.model or limits.model,
        prompts=prompts,
        max_tokens=min(_asked_tokens(fields) or default, limits.max_model_len - longest),
        n=fields.n or 1,
        stream=bool(fields.stream),
        include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        logprobs=_logprobs(fields),
        ignore_eos=fields.ignore_eos,
        min_tokens=fields.min_tokens,
        request_id=fields.request_id,
    )


def _logprobs(fields: _Chat | _Completion) -> int | None:
    if isinstance(fields, _Completion):
        return fields.logprobs
    return (fields.top_logprobs or 0) if fields.logprobs else None
