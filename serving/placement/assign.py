"""Which model and which side of a split a call belongs to, before it is placed. Pure.

Rules first, then the split. Neither widens what a call may do: the key's list of models, the
context and every hard rule hold for the new model and target as for any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

from msgspec.structs import replace

from serving.placement.values import Arm, Route, Rule
from serving.records import Call, Caller, FleetView, Run
from serving.routing import place

SAMPLE_BYTES: Final = 2048
ZH_SHARE: Final = 0.1
"""Share of Han characters among all letters from which a prompt counts as Chinese: code and names
in Latin letters stand in most Chinese prompts."""
_HAN = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf]|\\u[4-9][0-9a-fA-F]{3}")
_KANA = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]|\\u30[4-9a-fA-F][0-9a-fA-F]")
_LATIN = re.compile(r"[A-Za-z]")
_OTHER = re.compile(r"[^\W\d_]")
_NO_TOOLS = (b"", b"null", b"[]")
_PARTS: Final = 10_000


def assign(
    call: Call, caller: Caller, view: FleetView, headers: Mapping[bytes, bytes], now_s: float
) -> Call:
    """The call with the model, target and reason that its name's rules or split give it."""
    route = view.routes.get(call.alias)
    if route is None or not (route.rules or route.arms) or call.pin or call.adapter:
        return call
    if caller.policy.models is not None and call.model not in caller.policy.models:
        return call  # to be refused: what it may not call leads nowhere
    for rule in route.rules:
        if holds(rule, call, headers):
            other = toward(call, caller, view, rule, f"rule:{rule.name}")
            if other is not None and not (
                rule.is_cascade and not _begins(other, caller, view, now_s)
            ):
                return other
    if route.arms:
        arm = arm_of(call, caller, route)
        return toward(call, caller, view, arm, f"split:{arm.name}") or call
    return call


def holds(rule: Rule, call: Call, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a call is of the rule's kind."""
    if not rule.tokens_min <= call.prompt_tokens <= rule.tokens_max:
        return False
    if rule.has_tools is not None and rule.has_tools != has_tools(call):
        return False
    if rule.header and headers.get(rule.header.encode()) != rule.value.encode():
        return False
    return not rule.language or language(call.prompt) == rule.language


def has_tools(call: Call) -> bool:
    """Whether it brings tools."""
    return bytes(call.fields.get("tools", b"")).strip() not in _NO_TOOLS


def language(prompt: bytes) -> str:
    """`zh`, `en` or `other`, by the script of a prompt's beginning, JSON and all."""
    text = prompt[:SAMPLE_BYTES].decode("utf-8", "ignore")
    han, kana, latin = (len(one.findall(text)) for one in (_HAN, _KANA, _LATIN))
    letters = len(_OTHER.findall(text))
    if kana * 10 > han:
        return "other"
    if han > ZH_SHARE * (han + latin):
        return "zh"
    return "en" if latin * 10 >= letters * 9 else "other"


def arm_of(call: Call, caller: Caller, route: Route) -> Arm:
    """The side of a split: the same for a session, else for an end user, else for a conversation,
    in every gateway and for as long as the percentages stand."""
    return arm_at(part_of(call, caller), route.arms)


def arm_at(part: int, arms: Sequence[Arm]) -> Arm:
    """The side that a ten-thousandth belongs to."""
    edge = 0
    for arm in arms:
        edge += arm.percent * _PARTS // 100
        if part < edge:
            return arm
    return arms[-1]


def part_of(call: Call, caller: Caller) -> int:
    """The ten-thousandth of a name's callers that a call belongs to: 0..9999."""
    who = call.session or caller.user or f"{call.affinity:x}"
    return crc32(f"{call.alias}\0{caller.tenant}\0{who}".encode()) % _PARTS


def toward(call: Call, caller: Caller, view: FleetView, to: Rule | Arm, why: str) -> Call | None:
    """The call sent there; None where its key or its size does not let it."""
    if not to.model or to.model == call.model:
        return replace(call, toward=to.toward, route=why)
    allowed, other = caller.policy.models, view.routes.get(to.model)
    if other is None or (allowed is not None and to.model not in allowed):
        return None
    if call.prompt_tokens + (call.max_tokens or 0) > other.context_tokens:
        return None
    return replace(call, model=to.model, route=why)


def _begins(call: Call, caller: Caller, view: FleetView, now_s: float) -> bool:
    return isinstance(place(call, caller, view, now_s), Run)
