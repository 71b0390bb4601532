"""Who is visited when, what of a comparison is left, and what can be gone on with. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.gateway import own
from benchmarks.gateway.peers import LITELLM
from benchmarks.gateway.report import Report


class Unlike(Exception):  # noqa: N818 - a state of the file
    """The report that is there is of something else."""


def order(peers: Sequence[str], number: int) -> list[str]:
    """Who is visited in a round: those that gates compare next to each other. LiteLLM only in the
    first: it is so far off that one figure says it, and its visit is the longest."""
    few = [name for name in peers if name != LITELLM or number == 1]
    return [own.TWO, own.BALLAST, *few[:1], own.GUARD, own.POLICIES, *few[1:]]


def left(report: Report) -> list[tuple[int, str]]:
    """(round, gateway) of the visits that are to come."""
    others = [name for name in report.gateways if name not in own.SAID]
    done = {(visit.number, visit.gateway) for visit in report.visits}
    every = range(1, report.rounds + 1)
    due = [(number, name) for number in every for name in order(others, number)]
    return [one for one in due if one not in done]


def gone_on(before: Report, now: Report) -> Report:
    """An earlier report with what this sitting adds. A round that broke off is measured anew, for
    its ratios compare neighbours in time. Raises Unlike: figures of two commits, machines or
    efforts have no common table."""
    then, here = before.sittings[0], now.sittings[0]
    same = {
        "commit": (then.commit, here.commit),
        "machine": (then.cpu_model, here.cpu_model),
        "versions": (then.versions, here.versions),
        "effort": (before.effort, now.effort),
        "gateways": (before.gateways, now.gateways),
    }
    for what, (old, new) in same.items():
        if old != new:
            raise Unlike(f"it is of another {what}: {old} there, {new} now")
    broken = {number for number, _ in left(before)}
    kept = [visit for visit in before.visits if visit.number not in broken]
    joined = msgspec.structs.replace(now, visits=kept, sittings=before.sittings)
    if not left(joined):
        return joined
    return msgspec.structs.replace(joined, sittings=[*before.sittings, here])
