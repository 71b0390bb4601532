"""A call in a provider's own words, where it speaks OpenAI's dialect with an accent. Pure.

Most rows have none, and then nothing is decoded. Spellings of thinking become the row's, members
and values are renamed, and what every body of the provider needs is set.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from models import thinking
from models.provider import Provider
from serving.codecs import coverage, hearing, openai
from serving.records import Call, Offering

_WISHES = (*thinking.SWITCHES, thinking.EFFORT)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def openai_body(call: Call, offering: Offering, row: Provider, answer_max: int) -> bytes:
    """The body for a provider of this dialect."""
    if call.sound is not None:
        return hearing.form(call, offering)
    speaks = offering.speaks
    if row.stream_usage == "always":
        speaks = speaks - {"stream_options"}
    fields = translated(call.fields, row)
    if answer_max and call.max_tokens is None:
        fields = {**fields, "max_tokens": _raw(answer_max)}
    if fields is not call.fields:
        speaks = speaks | (fields.keys() - call.fields.keys()) | frozenset(said(row))
        call = replace(call, fields=fields)
    return openai.provider_body(call, offering.upstream_model, row.max_tokens_field, speaks)


def said(row: Provider) -> set[str]:
    """Members that a translation may write."""
    names = {*row.set_fields, *row.rename_fields.values()}
    if row.thinking is not None:
        spoken = (row.thinking.field, row.thinking.budget_field, row.thinking.effort_field)
        names |= {name.partition(".")[0] for name in spoken if name}
    return names


def translated(fields: dict[str, msgspec.Raw], row: Provider) -> dict[str, msgspec.Raw]:
    """The members in the row's words; the same mapping where there is nothing to say anew."""
    wishes = row.thinking is not None and any(name in fields for name in _WISHES)
    renamed = any(name in fields for name in (*row.rename_fields, *row.rename_values))
    if not (wishes or renamed or row.set_fields):
        return fields
    out = dict(fields)
    for name, values in row.rename_values.items():
        if name in out and isinstance(value := _decode(out[name]), str) and value in values:
            out[name] = _raw(values[value])
    for name, other in row.rename_fields.items():
        if name in out:
            out[other] = out.pop(name)
    added: dict[str, Any] = {}
    if wishes and row.thinking is not None:
        added = row.thinking.said(coverage.wish(fields))
        for name in _WISHES:
            out.pop(name, None)
    return out | {name: _raw(value) for name, value in (row.set_fields | added).items()}


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
