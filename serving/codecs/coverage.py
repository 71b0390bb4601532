"""Which members of a call change its answer, so that a target must know them. Pure.

A target that does not is no candidate: a call is never answered differently because it overflowed.
Where only one value of a member is a matter (a forced tool, thinking switched off), the need is
named `member=value`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

import msgspec

from models import thinking
from models.hearing import AudioFormat
from models.provider import Provider, Sold
from serving.unreadable import UNREADABLE

FORCED_TOOL, JSON_OBJECT = "tool_choice=required", "response_format=json_object"
STANDARD = frozenset({
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens",
    "max_completion_tokens", "temperature", "top_p", "n", "stop", "seed", "frequency_penalty",
    "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort",
    "suffix", "echo", "best_of", "input", "encoding_format", "dimensions", "query", "documents",
    "top_n", "return_documents", FORCED_TOOL, JSON_OBJECT,
})  # fmt: skip
"""Members of the OpenAI dialect that a provider is taken to know unless its row drops them."""
IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "drop_params",
})  # fmt: skip
"""Members that change cost, storage or bookkeeping at a third party, not the answer: not sent.
`drop_params` is a wish to a LiteLLM proxy, which RAGFlow sends to everybody with each embedding."""
SPEECH = frozenset({"model", "input", "voice", "response_format", "speed"})
"""Members of a call for speech; `response_format=...` is asked for beside them."""
HEARING = frozenset({"model", "file", "language", "prompt", "temperature", "response_format"})
"""Members of a call that wants sound written down; times beside them."""
TIMES = "response_format=verbose_json"
FORMAT = "response_format="
_FORMATS = {b'"%b"' % one.encode(): FORMAT + one for one in get_args(AudioFormat)}
_FORMATS |= dict.fromkeys((b'"verbose_json"', b'"srt"', b'"vtt"'), TIMES)
PICTURES = "messages=pictures"
_MEDIA = {
    b"image_url": PICTURES,
    b"input_audio": "messages=sound",
    b"audio_url": "messages=sound",
    b"video_url": "messages=video",
    b"file_data": "messages=files",
}
"""Members of a part that is no text, and what its target must be able to take."""
_MEDIUM = re.compile(rb'"(image_url|input_audio|audio_url|video_url|file_data)"\s*:')
"""One pass over what may be megabytes, at each placement: five searches took five times as long.
Inside a text the closing quote has a backslash before it."""
_TRIVIAL = frozenset({b"null", b"false", b"[]", b"{}", b'""'})
_WISHES = frozenset({*thinking.SWITCHES, thinking.EFFORT})
_FREE_CHOICE = (b'"auto"', b'"none"')

_DEFAULTS: dict[str, tuple[bytes, ...]] = {
    "n": (b"1",),
    "best_of": (b"1",),
    "presence_penalty": (b"0", b"0.0"),
    "frequency_penalty": (b"0", b"0.0"),
    "stream_format": (b'"audio"',),
}
"""Values that SDKs send though they change nothing."""
_decode = msgspec.json.Decoder().decode


def needs(fields: Mapping[str, msgspec.Raw], reserved: frozenset[str]) -> frozenset[str]:
    """Names of the members whose value matters to the answer."""
    found = {
        name
        for name, raw in fields.items()
        if name not in IGNORED
        and name not in reserved
        and name not in _WISHES
        and (value := bytes(raw).strip()) not in _TRIVIAL
        and value not in _DEFAULTS.get(name, ())
    }
    if not _WISHES.isdisjoint(fields):
        found |= wish(fields).needs
    if "tool_choice" in found and bytes(fields["tool_choice"]).strip() not in _FREE_CHOICE:
        found.add(FORCED_TOOL)
    if "response_format" in found:
        asked = bytes(fields["response_format"]).strip()
        if b'"json_object"' in asked:
            found.add(JSON_OBJECT)
        if asked in _FORMATS:
            found.add(_FORMATS[asked])
    if "messages" in found:
        found |= {_MEDIA[name] for name in set(_MEDIUM.findall(fields["messages"]))}
    return frozenset(found)


def wish(fields: Mapping[str, msgspec.Raw]) -> thinking.Wish:
    """What a body says about thinking."""
    members = {}
    for name in _WISHES & fields.keys():
        try:
            members[name] = _decode(fields[name])
        except UNREADABLE:
            members[name] = ""  # unreadable, so more than a wish: no third party gets it
    return thinking.wish(members)


def spoken(row: Provider, sold: Sold) -> frozenset[str]:
    """What a provider's model knows."""
    if sold.audio_formats:
        return SPEECH.union(FORMAT + one for one in sold.audio_formats) - {*sold.drop_fields}
    if sold.hearing is not None:
        times = {TIMES, "timestamp_granularities"} if sold.hearing.has_times else set()
        return (HEARING | times) - {*sold.drop_fields}
    known = STANDARD | frozenset(row.extra_fields)
    if sold.sees:
        known |= {PICTURES}
    if row.thinking is not None:
        known = known - {thinking.EFFORT} | row.thinking.speaks(sold.id)
    return known - frozenset(row.drop_fields) - frozenset(sold.drop_fields)
