"""Whether a third party's model can answer a call as asked. Pure; before any load or price.

A call is never answered differently because it overflowed: what a target does not know of the body
keeps it out, and so do other weights where they would change what the caller stores.
"""

from __future__ import annotations

from typing import Final

from serving.codecs.sound import Sound
from serving.placement.values import Route
from serving.records import POOLED, Call, Caller, LatencyClass, Offering, Surface, Target

UNFIT: Final = {
    "surface": "it does not speak the call's surface",
    "adapter": "it does not have the adapter",
    "batch": "its price is for lines of batches alone",
    "weights": "vectors and scores of other weights cannot be compared",
    "tier": "it has other weights, which the tenant has not allowed",
    "context": "prompt and answer do not fit into its context",
    "sound": "the file is larger or longer than it takes, or in another container",
    "members": "it does not know all members of the body",
    "thinking": "it cannot be kept from thinking, so nothing is to be seen in time for `live`",
}
_POOLED, _TOKENIZE, _LIVE = POOLED, Surface.TOKENIZE, LatencyClass.LIVE


class Asked:
    """What a call asks of any target, looked up once."""

    __slots__ = ("is_live", "is_pooled", "sound", "tier_max", "tokens", "wanted")

    def __init__(self, call: Call, caller: Caller, route: Route, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.tokens = call.prompt_tokens + (call.max_tokens or 0)
        self.sound = call.sound
        self.is_pooled = call.surface in _POOLED
        self.is_live = call.latency_class is _LIVE
        self.tier_max = caller.policy.tier_max or route.tier_max


def unfit(offering: Offering, call: Call, asked: Asked) -> str:
    """Why it is no candidate; empty when it is one."""
    if call.surface not in offering.surfaces or call.surface is _TOKENIZE:
        return "surface"
    if offering.vendor and not call.batch:
        return "batch"
    if asked.is_pooled and not offering.is_same_weights:
        return "weights"
    if offering.tier > asked.tier_max:
        return "tier"
    if asked.tokens > offering.context_tokens:
        return "context"
    if asked.sound is not None and not hears(offering, asked.sound):
        return "sound"
    if not asked.wanted <= offering.speaks:
        return "members"
    return "thinking" if asked.is_live and offering.is_thinking else ""


def hears(offering: Offering, sound: Sound) -> bool:
    """Whether it takes a file of that size, length and container."""
    takes = offering.hearing
    return (
        takes is not None
        and sound.container in takes.containers
        and len(sound.data) <= takes.bytes_max
        and sound.tokens <= takes.tokens_max
    )


def weights(target: Target) -> str:
    """What an answer's header says of its weights: `own`, or of a third party's `same` (proven by
    its row), `declared` (the owner's word), `tier2`, `tier3`."""
    if not isinstance(target, Offering):
        return "own"
    if target.tier > 1:
        return f"tier{target.tier}"
    return "same" if target.is_same_weights else "declared"
