"""What else changes for a name that moves to another model: the ceilings on what may leave. Pure.

Ceilings belong to the name of each model, so a call that goes to the new model is bound by that
model's. A rollout may so lift or set a bound on money; whoever starts it is told.
"""

from __future__ import annotations

from models.worded import Worded
from serving.placement.values import Ceilings


def ceilings(name: str, old: Ceilings | None, new: Ceilings | None) -> str:
    """What becomes of the bound on third parties, in a sentence; empty where it stays the same."""
    before, after = _said(old), _said(new)
    if before == after:
        return ""
    template = "ceilings for third parties become those of {name}: {after} (now {before})"
    return Worded("rollout.ceilings", template, name=name, after=after, before=before)


def _said(most: Ceilings | None) -> str:
    parts: list[str] = []
    if most is not None and most.share:
        template = "{share} of its tokens"
        parts.append(Worded("rollout.of_tokens", template, share=f"{most.share:.0%}"))
    if most is not None and most.hour_micro:
        usd = f"{most.hour_micro / 1e6:.2f}"
        parts.append(Worded("rollout.usd_hour", "{usd} USD an hour", usd=usd))
    if most is not None and most.day_micro:
        usd = f"{most.day_micro / 1e6:.2f}"
        parts.append(Worded("rollout.usd_day", "{usd} USD a day", usd=usd))
    if not parts:
        return Worded("rollout.no_ceilings", "none")
    return Worded("list", "{parts}", parts=parts)
