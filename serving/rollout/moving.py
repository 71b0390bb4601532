"""What else changes for a name that moves to another model: the ceilings on what may leave. Pure.

Ceilings belong to the name of each model, so a call that goes to the new model is bound by that
model's. A rollout may so lift or set a bound on money; whoever starts it is told.
"""

from __future__ import annotations

from serving.placement.values import Ceilings


def ceilings(name: str, old: Ceilings | None, new: Ceilings | None) -> str:
    """What becomes of the bound on third parties, in a sentence; empty where it stays the same."""
    before, after = _said(old), _said(new)
    if before == after:
        return ""
    return f"ceilings for third parties become those of {name}: {after} (now {before})"


def _said(most: Ceilings | None) -> str:
    if most is None:
        return "none"
    parts = []
    if most.share:
        parts.append(f"{most.share:.0%} of its tokens")
    for micro, unit in ((most.hour_micro, "an hour"), (most.day_micro, "a day")):
        if micro:
            parts.append(f"{micro / 1e6:.2f} USD {unit}")
    return ", ".join(parts) or "none"
