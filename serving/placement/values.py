"""What placement is told beside the fleet: routes of names, pressure of models, pace of providers.

Values only. Knows no call, no target and no record: `records` builds on this file.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PolicyName(StrEnum):
    """How a name's calls choose among the targets that all hard rules allow."""

    LOCAL_FIRST = "local-first"
    COST_FIRST = "cost-first"
    LATENCY_FIRST = "latency-first"

    __hash__ = str.__hash__


class Arm(msgspec.Struct, frozen=True):
    """One side of a percentage split."""

    name: str
    percent: int
    toward: str = ""
    """`own` or an offering's id; empty is whoever the policy would choose."""
    model: str = ""
    """One of our models; empty is the name's own."""
    fallback: str = ""
    """The model that answers where this one's cannot; empty is none."""


class Rule(msgspec.Struct, frozen=True):
    """Sends calls of a kind to another of our models, or toward a target. All that is said must
    hold; the first rule that does counts."""

    name: str
    model: str = ""
    toward: str = ""
    tokens_min: int = 0
    """Of the prompt, as estimated from its bytes."""
    tokens_max: int = 1 << 62
    has_tools: bool | None = None
    language: str = ""
    """`zh`, `en` or `other`, by the script of the prompt; empty is any."""
    header: str = ""
    """Name, in small letters."""
    value: str = ""
    is_cascade: bool = False
    """Only while `model` could begin at once; else the call stays with its own."""


class Ceilings(msgspec.Struct, frozen=True):
    """What may go to third parties at most, of one model; 0 is no bound."""

    share: float = 0.0
    """Of its tokens in the last hour."""
    hour_micro: int = 0
    day_micro: int = 0
    """Millionths of a US dollar, in the last 60 minutes and 24 hours; of all pods."""
    name: str = ""
    """The public name whose ceilings they are."""


class Route(msgspec.Struct, frozen=True):
    """How calls to one public name are placed."""

    model: str = ""
    policy: PolicyName = PolicyName.LOCAL_FIRST
    shadow: PolicyName | None = None
    """A policy that is asked too, and whose answer is only written down."""
    arms: tuple[Arm, ...] = ()
    rules: tuple[Rule, ...] = ()
    second_micro: float = 1000.0
    """What a second until the first token is worth to `latency-first`, millionths of a dollar."""
    ceilings: Ceilings | None = None
    is_thinking: bool = False
    """Its own engine thinks before it answers, whatever one says."""
    tier_max: int = 1
    """Substitutes that tenants without a word of their own are content with."""
    context_tokens: int = 1 << 62
    is_closed: bool = False
    """An adapter whose calls are to be refused rather than kept waiting."""


PLAIN = Route()
"""Stands for a name nobody said anything about."""


class Spill(msgspec.Struct, frozen=True):
    """Whether a model's calls leave before they would be late, and how many of them."""

    pressure: float = 0.0
    """Predicted wait before prefill / the interactive class's time to the first token."""
    share: float = 0.0
    """Of the calls that may leave, cheapest to move first; 0 is not spilling."""
    above_s: float = -1.0
    """Since when the pressure has been above the high mark; -1 is not."""
    below_s: float = -1.0
    """Since when it has been below the low mark."""


CALM = Spill()
