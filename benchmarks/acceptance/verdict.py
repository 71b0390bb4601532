"""What the hour came to: money, and whether the engine is what its card says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from models.capacity import Profile, step_s
from models.worded import Worded, joined, packed

LOADS = ((1, 1_000), (8, 1_000), (32, 1_000))
"""Sequences at once, and context of each: what a step takes there is compared."""
OFF = 0.15
"""The target for extrapolated predictions (docs/capacity.md): a card that is further off misleads
whoever plans with it."""


class Rent(msgspec.Struct, frozen=True):
    """What an hour costs."""

    gpu_hour: float
    gpus: int
    currency: str


class Compared(msgspec.Struct, frozen=True):
    """One figure, milliseconds."""

    what: str
    card: float
    seen: float
    said: Mapping[str, Any] | None = None
    """`what` for a reader of another language."""

    @property
    def off(self) -> float:
        """Seen against the card: 0.1 = a tenth slower than it says."""
        return self.seen / self.card - 1.0 if self.card > 0 else 0.0


def compared(profile: Profile, learnt: Mapping[str, Any]) -> list[Compared]:
    """Steps at a few loads, and a thousand tokens of prompt."""
    found = [
        Compared(
            Worded(
                "acceptance.step",
                "step with {sequences} at once, {context} tokens each",
                sequences=sequences,
                context=f"{context:,}",
            ),
            step_s(profile, sequences, sequences * context, 0) * 1e3,
            _step_ms(learnt, sequences, sequences * context),
        )
        for sequences, context in LOADS
    ]
    prompt = Compared(Worded("acceptance.prompt", "a thousand tokens of prompt"),
                      profile.per_prefill_token_s * 1e6, learnt["per_kilo_prefill_ms"])  # fmt: skip
    return [msgspec.structs.replace(one, said=packed(one.what)) for one in (*found, prompt)]


def _step_ms(learnt: Mapping[str, Any], sequences: int, context: int) -> float:
    experts = learnt["experts_ms"] * (1.0 - (1.0 - learnt["touched"]) ** sequences)
    shared = learnt["per_sequence_ms"] * sequences
    return float(
        learnt["base_ms"] + experts + shared + learnt["per_kilo_context_ms"] * context / 1e3
    )


def judged(rows: list[Compared], rate: float | None, wanted: float) -> tuple[bool, str]:
    """Whether it is accepted, and why (not)."""
    slow = [row for row in rows if row.off > OFF]
    fast = [row for row in rows if row.off < -OFF]
    why: list[str] = [
        Worded("acceptance.apart", "{what}: {off} against the card", what=row.what,
               off=f"{row.off:+.0%}")
        for row in (*slow, *fast)
    ]  # fmt: skip
    held = "" if rate is None else f"{rate:.3g}"
    if rate is None:
        why.append(Worded("acceptance.no_rate", "no rate within the goal was found"))
    elif rate < wanted:
        template = "{rate} requests/s within the goal, {wanted} are wanted"
        why.append(Worded("acceptance.slow", template, rate=held, wanted=f"{wanted:.3g}"))
    is_good = not slow and rate is not None and rate >= wanted
    if is_good and not why:
        alike: str = Worded("acceptance.no_card", "no card given")
        if rows:
            template = "all {count} figures within {share} of the card"
            alike = Worded("acceptance.alike", template, count=len(rows), share=f"{OFF:.0%}")
        template = "{alike}; {rate} requests/s within the goal"
        return True, Worded("acceptance.good", template, alike=alike, rate=held)
    if is_good:
        template = "faster than the card says: put the calibration that was written into use"
        why.append(Worded("acceptance.faster", template))
    return is_good, joined(why)


def cost(rent: Rent, seconds: float) -> float:
    """Of so long, in the rent's currency."""
    return rent.gpu_hour * rent.gpus * seconds / 3600


def per_mtok(rent: Rent, output_tokens_per_s: float) -> float | None:
    """A million output tokens at a rate that is held; None where there is none. Prompts are in the
    same rent."""
    if output_tokens_per_s <= 0:
        return None
    return rent.gpu_hour * rent.gpus / 3600 / output_tokens_per_s * 1e6
