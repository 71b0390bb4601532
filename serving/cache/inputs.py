"""Embeddings and rerankings by input: a call is cut down to what is not known, and its answer
joined with what is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from serving.records import Call, Surface

_INPUT = {Surface.EMBEDDINGS: "input", Surface.RERANK: "documents"}
_ROWS = {Surface.EMBEDDINGS: "data", Surface.RERANK: "results"}
_BESIDE = {Surface.EMBEDDINGS: ("input",), Surface.RERANK: ("documents", "top_n")}
"""Members that are no part of every input's key: the inputs, and how many are shown."""
_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Inputs(NamedTuple):
    """What a call asks about."""

    each: tuple[bytes, ...]
    """Every input as JSON."""
    beside: tuple[str, ...]
    top_n: int | None = None


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of one input."""

    members: dict[str, msgspec.Raw]
    """Its row of the answer without its place."""
    tokens: int
    micro: int
    currency: str
    """What computing it cost."""


def read(call: Call) -> Inputs | None:
    """The call's inputs; None for a form whose inputs do not stand apart."""
    name = _INPUT.get(call.surface)
    raw = call.fields.get(name) if name is not None else None
    if raw is None:
        return None
    try:
        given = bytes(raw)
        each = [given] if given.startswith(b'"') else [bytes(one) for one in _rows(raw)]
        top_n = None
        if call.surface is Surface.RERANK and "top_n" in call.fields:
            top_n = msgspec.json.decode(call.fields["top_n"], type=int | None)
    except _UNREADABLE:
        return None
    starts = {one[:1] for one in each}
    if len(starts) != 1 or starts - {b'"', b"["}:
        return None  # one prompt in tokens, pictures, or a mixture
    return Inputs(tuple(each), _BESIDE[call.surface], top_n or None)


def reduced(call: Call, inputs: Inputs, unknown: Sequence[int]) -> Call:
    """The call about the inputs at these places only."""
    fields = {n: raw for n, raw in call.fields.items() if n not in inputs.beside}
    some = [msgspec.Raw(inputs.each[place]) for place in unknown]
    data = _encode(some)
    fields[_INPUT[call.surface]] = msgspec.Raw(data)
    share = sum(len(raw) for raw in some) / max(1, sum(map(len, inputs.each)))
    return msgspec.structs.replace(
        call, fields=fields, prompt=data, size=len(data),
        prompt_tokens=max(1, round(call.prompt_tokens * share)),
    )  # fmt: skip


def rows(call: Call, body: bytes, count: int) -> list[dict[str, msgspec.Raw]] | None:
    """The answer's row of each input, in the inputs' order; None unless there is one of each."""
    try:
        found = _rows(_members(body)[_ROWS[call.surface]])
        placed: dict[int, dict[str, msgspec.Raw]] = {}
        for raw in found:
            members = _members(raw)
            placed[msgspec.json.decode(members.pop("index"), type=int)] = members
    except (*_UNREADABLE, KeyError):
        return None
    if sorted(placed) != list(range(count)) or len(found) != count:
        return None
    return [placed[place] for place in range(count)]


def head_of(call: Call, body: bytes) -> dict[str, Any]:
    """What an answer says beside its rows and its usage."""
    try:
        members = _members(body)
    except _UNREADABLE:
        return {}
    return {n: raw for n, raw in members.items() if n not in (_ROWS[call.surface], "usage")}


def joined(
    call: Call, inputs: Inputs, known: Mapping[int, Row], head: Mapping[str, Any], cached: int
) -> bytes:
    """The whole answer from a row of each input. `cached`: tokens that were not computed now."""
    places = sorted(known)
    if call.surface is Surface.RERANK:
        places.sort(key=lambda place: -_score(known[place]))
        places = places[: inputs.top_n]
    tokens = sum(row.tokens for row in known.values())
    told = {"total_tokens": tokens, "prompt_tokens_details": {"cached_tokens": cached}}
    if call.surface is Surface.EMBEDDINGS:
        told["prompt_tokens"] = tokens
    shown = [{"index": place, **known[place].members} for place in places]
    own = {"object": "list"} if call.surface is Surface.EMBEDDINGS else {"id": call.request_id}
    return _encode({**own, "model": call.model, **head, _ROWS[call.surface]: shown, "usage": told})


def _score(row: Row) -> float:
    try:
        return msgspec.json.decode(row.members["relevance_score"], type=float)
    except (*_UNREADABLE, KeyError):
        return 0.0
