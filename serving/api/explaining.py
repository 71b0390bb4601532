"""`/explain` of the ops listener: where a call that nobody has sent would go, and why.

A hypothetical call has a size, a class and terms, and no content; nothing is placed or counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response

from models.worded import Worded, of
from serving.api.hints import read
from serving.api.models import Catalogue
from serving.errors import CallerError, told
from serving.logs import utc_ms
from serving.placement.assign import assign
from serving.placement.candidates import WORDS, explained
from serving.records import Call, Caller, FleetView, LatencyClass, Overflow, Policy, Surface
from serving.settings import Deadlines

TOKENS_MAX = 1 << 40
_WRONG = "invalid_value"
ASSUMED_TOKENS = 1000


class Known(NamedTuple):
    """What a hypothetical call is placed by."""

    catalogue: Catalogue
    view: Callable[[], FleetView]
    policy_of: Callable[[str], Policy | None]
    """The terms of a tenant's own keys."""
    classes: Mapping[LatencyClass, Deadlines]
    clock: Callable[[], float]


def mount(app: FastAPI, known: Known) -> None:
    """Add the path."""

    @app.get("/explain")
    async def explain(request: Request) -> Response:
        try:
            body = explain_call(known, dict(request.query_params))
        except CallerError as error:
            refused = told(error.code, of(error), error.param)
            return Response(refused, 400, media_type="application/json")
        return Response(msgspec.json.encode(body), media_type="application/json")


def explain_call(known: Known, asked: Mapping[str, str]) -> dict[str, Any]:
    """The placement of a call described by words. Raises CallerError for one that is wrong."""
    odd = sorted(asked.keys() - _WORDS)
    if odd:
        template = "unknown: {names}; known: {known}"
        raise CallerError(_WRONG, Worded("explain.unknown", template, names=odd, known=_WORDS))
    caller = _caller(known, asked)
    call = _call(known, caller, asked)
    now_s = known.clock()
    view = known.view()
    call = assign(call, caller, view, _header(asked), now_s)
    found = msgspec.to_builtins(explained(call, caller, view, now_s))
    for row in found["candidates"]:
        row["why"] = WORDS.get(row["dropped"], "")
    return {"model": call.model, "route": call.route, "tenant": caller.tenant, **found}


_WORDS = (
    "model", "prompt_tokens", "max_tokens", "class", "residency", "tenant", "overflow", "surface",
    "session", "tools", "header",
)  # fmt: skip


def _caller(known: Known, asked: Mapping[str, str]) -> Caller:
    tenant = asked.get("tenant", "")
    policy = known.policy_of(tenant) if tenant else Policy(overflow=Overflow.ALLOWED)
    if policy is None:
        raise CallerError(_WRONG, Worded("explain.tenant", "no tenant {name}", name=repr(tenant)))
    if "overflow" in asked:
        overflow = _one_of(Overflow, "overflow", asked["overflow"])
        policy = msgspec.structs.replace(policy, overflow=overflow)
    # The widest class, so that a hint may name any.
    policy = msgspec.structs.replace(policy, latency_class=LatencyClass.BATCH)
    return Caller("hypothetical", tenant, "", policy)


def _call(known: Known, caller: Caller, asked: Mapping[str, str]) -> Call:
    name = asked.get("model", "")
    model = known.catalogue.find(name)
    if model is None:
        template, names = "no model {name}; known: {known}", tuple(known.catalogue.names)
        raise CallerError(_WRONG, Worded("explain.model", template, name=repr(name), known=names))
    latency_class = asked.get("class", LatencyClass.INTERACTIVE)
    said = {b"x-ballast-class": latency_class.encode()}
    if "residency" in asked:
        said[b"x-ballast-residency"] = asked["residency"].encode()
    hints = read(said, caller, known.classes)
    tools = {"tools": msgspec.Raw(b"[{}]")} if asked.get("tools") else {}
    now_s = known.clock()
    default = Surface.CHAT if "chat" in model.surfaces else model.surfaces[0]
    return Call(
        "0" * 32, _one_of(Surface, "surface", asked.get("surface", default)), caller.tenant,
        model.name, name, tools, now_s, utc_ms(),
        now_s + min(hints.first_token_s, hints.complete_s), now_s + hints.complete_s,
        hints.latency_class, b"", 0, _tokens(asked, "prompt_tokens") or ASSUMED_TOKENS,
        _tokens(asked, "max_tokens"), True, False, 0, asked.get("session", ""),
        residency=hints.residency,
        adapter=name if name in known.catalogue.adapters else "",
    )  # fmt: skip


def _header(asked: Mapping[str, str]) -> dict[bytes, bytes]:
    """`name: value`, as a rule may look at."""
    name, found, value = asked.get("header", "").partition(":")
    return {name.strip().lower().encode(): value.strip().encode()} if found else {}


def _tokens(asked: Mapping[str, str], name: str) -> int | None:
    text = asked.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > TOKENS_MAX:
        raise CallerError(_WRONG, Worded("explain.tokens", "{name}: a number of tokens", name=name))
    return int(text)


def _one_of(kind: Any, name: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        template, known = "{name}: one of {known}", [str(one) for one in kind]
        raise CallerError(
            _WRONG, Worded("explain.one_of", template, name=name, known=known)
        ) from None
