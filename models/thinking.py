"""How callers switch thinking on and off, and how a provider spells that. Pure.

Callers use the switches of several dialects: vLLM's `chat_template_kwargs.enable_thinking`,
DashScope's `enable_thinking` and `thinking_budget`, Zhipu's and DeepSeek's `thinking.type`, and
OpenAI's `reasoning_effort`. All become one `Wish`, and the wish becomes what the target knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

EFFORTS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Least first."""
Effort: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
SWITCHES: Final = ("chat_template_kwargs", "enable_thinking", "thinking", "thinking_budget")
"""Members that hold nothing but a wish about thinking, when they can be read as one."""
ON, OFF, BUDGET, EFFORT = "thinking=on", "thinking=off", "thinking=budget", "reasoning_effort"
"""What a target must know to honour a wish, named as members of a body are."""


class Wish(NamedTuple):
    """What a caller wants; None is what the target does by itself."""

    is_on: bool | None = None
    budget: int | None = None
    """Most tokens of thought."""
    effort: str | None = None
    other: tuple[str, ...] = ()
    """Members that hold more than a wish about thinking."""

    @property
    def needs(self) -> frozenset[str]:
        """What a target must know."""
        found = set(self.other)
        if self.is_on is not None:
            found.add(ON if self.is_on else OFF)
        if self.budget is not None:
            found.add(BUDGET)
        if self.effort is not None:
            found.add(EFFORT)
        return frozenset(found)


class Thinking(BaseModel):
    """A provider's switches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str | None = None
    """Member that switches, with a dot for one inside another; None: no switch."""
    on: Any = None
    off: Any = None
    """Its values; None where there is none."""
    budget_field: str | None = None
    effort_field: str | None = None
    efforts: tuple[Effort, ...] = ()
    cannot_disable: tuple[str, ...] = ()
    """Models that think whatever one says."""

    def speaks(self, model: str) -> frozenset[str]:
        """The wishes it can honour with that model."""
        is_fixed = model in self.cannot_disable
        found = set()
        if self.on is not None or is_fixed:
            found.add(ON)
        if self.off is not None and not is_fixed:
            found.add(OFF)
        if self.budget_field:
            found.add(BUDGET)
        if self.effort_field:
            found.add(EFFORT)
        return frozenset(found)

    def said(self, wish: Wish) -> dict[str, Any]:
        """The members that say it here."""
        out: dict[str, Any] = {}
        if wish.is_on is not None and self.field is not None:
            value = self.on if wish.is_on else self.off
            if value is not None:
                lay(out, self.field, value)
        if wish.budget is not None and self.budget_field:
            lay(out, self.budget_field, wish.budget)
        if wish.effort is not None and self.effort_field:
            lay(out, self.effort_field, nearest(wish.effort, self.efforts))
        return out


def lay(into: dict[str, Any], path: str, value: Any) -> None:
    """Set a member by its path."""
    *outer, name = path.split(".")
    for part in outer:
        into = into.setdefault(part, {})
    into[name] = value


def nearest(effort: str, known: tuple[str, ...]) -> str:
    """The same effort, else the next that is known above it, else the highest: thinking too little
    changes an answer more than thinking too long."""
    if not known or effort in known:
        return effort
    at = EFFORTS.index(effort)
    ranked = sorted(known, key=EFFORTS.index)
    return next((name for name in ranked if EFFORTS.index(name) > at), ranked[-1])


def wish(members: Mapping[str, Any]) -> Wish:
    """What the switches among a body's members say; they are given decoded. The more special word
    wins: a switch over an effort of `none`."""
    is_on: bool | None = None
    budget: int | None = None
    effort: str | None = None
    other = []
    asked = members.get("reasoning_effort")
    if asked == "none":
        is_on = False
    elif asked in EFFORTS:
        effort = asked
    elif asked is not None:
        other.append("reasoning_effort")
    for name in SWITCHES:
        value = members.get(name)
        if value is None:
            continue
        switch, amount, is_plain = _read(name, value)
        is_on = is_on if switch is None else switch
        budget = budget if amount is None else amount
        if not is_plain:
            other.append(name)
    return Wish(is_on, budget, effort, tuple(other))


def _read(name: str, value: Any) -> tuple[bool | None, int | None, bool]:
    """The switch, the budget, and whether that was all."""
    if name == "enable_thinking":
        return (value, None, True) if isinstance(value, bool) else (None, None, False)
    if name == "thinking_budget":
        return (None, value, True) if type(value) is int else (None, None, False)
    if not isinstance(value, dict):
        return None, None, False
    if name == "thinking":
        kind = value.get("type")
        switch = {"enabled": True, "adaptive": True, "disabled": False}.get(str(kind))
        amount = value.get("budget_tokens")
        is_plain = switch is not None and value.keys() <= {"type", "budget_tokens"}
        return switch, amount if type(amount) is int else None, is_plain
    switch = value.get("enable_thinking", value.get("thinking"))
    is_plain = value.keys() <= {"enable_thinking", "thinking"} and isinstance(switch, bool | None)
    return switch if isinstance(switch, bool) else None, None, is_plain
