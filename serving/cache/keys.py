"""Under which key an answer is kept, and which may be. Pure.

A key holds whose call it is, what computes the answer (model, weights, adapter), where it might be
computed, and every member of the body that can change it. Nobody finds what another tenant, other
weights, a looser residency or, where the key may not overflow, a third party left there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

import msgspec

from serving.cache.settings import CacheSettings
from serving.records import Call, Caller, Surface
from serving.rules import effective_residency
from serving.settings import Model

_UNRELATED = frozenset({
    "user", "metadata", "store", "stream", "stream_options", "prompt_cache_key",
    "prompt_cache_retention", "safety_identifier", "service_tier",
})  # fmt: skip
"""Members that change no answer."""
_NOT_KEPT = frozenset({
    "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "logprobs",
    "top_logprobs", "prompt_logprobs", "modalities", "audio", "web_search_options", "background",
})  # fmt: skip
"""Whoever asks for these wants something done, or a look inside."""
_ANSWERED = frozenset({Surface.CHAT, Surface.COMPLETIONS})
_NO = (b"null", b"[]", b"false", b'"none"')


def identity(model: Model) -> bytes:
    """What computes a model's answers, as far as the settings say."""
    engine = model.engine
    said = [model.name, model.card, model.variant, model.weights]
    if engine is not None:
        said += [engine.source, str(engine.spec.get("revision", "")), *engine.args]
    return msgspec.json.encode(said)


def base(
    call: Call, caller: Caller, weights: bytes, without: Collection[str]
) -> hashlib.blake2b:  # fmt: skip
    """All of the key but the members named in `without`."""
    rule = effective_residency(call, caller)
    mark = hashlib.blake2b(digest_size=20)
    for part in (
        call.tenant.encode(), str(call.surface).encode(), weights, call.adapter.encode(),
        b"%d" % rule.level, ",".join(sorted(rule.jurisdictions)).encode(),
        str(caller.policy.overflow).encode(),
        *_members(call.fields, without),
    ):  # fmt: skip
        mark.update(b"%d:%b" % (len(part), part))
    return mark


def _members(fields: Mapping[str, msgspec.Raw], without: Collection[str]) -> Iterable[bytes]:
    for name in sorted(fields):
        if name not in _UNRELATED and name not in without:
            yield name.encode()
            yield bytes(fields[name])


def may_keep(call: Call, given: CacheSettings) -> bool:
    """Whether a call's whole answer may be kept, or given from what is kept: its tenant asked for
    that, and it is to come out the same each time."""
    if call.surface not in _ANSWERED or call.stream or call.n != 1 or call.pin or call.batch:
        return False
    owner = call.tenant.partition("/")[0]
    wanted = next((one for one in given.answers if one.tenant in (call.tenant, owner)), None)
    if wanted is None or (wanted.models and not {call.alias, call.model} & set(wanted.models)):
        return False
    fields = call.fields
    if any(bytes(fields[name]) not in _NO for name in _NOT_KEPT if name in fields):
        return False
    return _is_zero(fields.get("temperature")) or _is_number(fields.get("seed"))


def _is_zero(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) in (b"0", b"0.0", b"0.00")


def _is_number(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw).lstrip(b"-").isdigit()
