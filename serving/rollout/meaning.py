"""What starting a rollout would mean, in a sentence with its code and numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.worded import Worded, joined
from serving.rollout.gap import Gap


class Meant(NamedTuple):
    """What is known before it starts."""

    old: str
    new: str
    gap: Gap | None
    """In place only."""
    has_engines: bool
    """Of the new model."""
    stay: Sequence[str]
    """Keys that may not call the new model."""
    ceilings: str
    """What becomes of the bound on third parties; empty where it stays."""


def words(found: Meant) -> str:
    """All of it."""
    told = [_first(found)]
    if found.stay:
        template = "{count} keys may not call {new} and stay on {old}"
        told.append(
            Worded("rollout.stay", template, count=len(found.stay), new=found.new, old=found.old)
        )
    if found.ceilings:
        told.append(found.ceilings)
    return joined(told)


def _first(found: Meant) -> str:
    if found.gap is not None:
        return said(found.gap)
    if found.has_engines:
        template = "nothing is moved before an engine of the new model is there"
        return Worded("rollout.plan_waits", template)
    template = "{new} has no engine of ours: third parties serve it from the first call"
    return Worded("rollout.plan_outside", template, new=found.new)


def said(gap: Gap) -> str:
    """A gap in a sentence."""
    template = (
        "for about {seconds} s no engine answers: of {calls} calls expected {share} go to third"
        " parties at {hour} USD an hour ({usd} USD in all), {waiting} wait and {refused} are"
        " refused{first}"
    )
    told: str = Worded(
        "rollout.gap", template, seconds=f"{gap.gap_s:.0f}", calls=f"{gap.calls:.0f}",
        share=f"{gap.external_share:.0%}", hour=f"{gap.usd_per_hour:.2f}", usd=f"{gap.usd:.4f}",
        waiting=f"{gap.waiting:.0f}", refused=f"{gap.refused:.0f}", first=_kept(gap),
    )  # fmt: skip
    if not gap.unpriced:
        return told
    rate = "no rate to dollars is known for {names}"
    return joined([told, Worded("rollout.no_rate", rate, names=list(gap.unpriced))])


def _kept(gap: Gap) -> str:
    if not gap.kept:
        return ""
    first = gap.kept[0]
    template = ", first of all tenant {tenant}'s key {key} ({why})"
    return Worded(
        "rollout.gap_first", template, tenant=first.tenant, key=first.key, why=first.why
    )  # fmt: skip
