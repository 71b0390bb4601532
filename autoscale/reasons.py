"""Why a decision is as it is: sentences with their code and numbers, told in either language by
whoever shows them (`models/reasons`); in journal and logs they are English. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from autoscale.records import Supply
from autoscale.windows import Flow
from models.worded import Worded

NO_GATEWAY: Final[str] = Worded("scale.no_gateway", "no data: no gateway answered")
STALE: Final[str] = Worded(
    "scale.stale",
    "no data: gateways answered, but no report was made within 10 s of now by this machine's clock",
)
NO_SUPPLY: Final[str] = Worded("scale.no_supply", "no data: replicas unknown")
ACCOUNT: Final[str] = Worded("scale.account", "account")
LATE: Final[str] = Worded("scale.late", "calls wait, were late or refused")
HELD: Final[str] = Worded("scale.held", "calls are held and no replica is there")
BOUND: Final[str] = Worded("scale.bound", "calls that may not leave were refused")
SPARE: Final[str] = Worded(
    "scale.spares", "no API: more are ordered than needed, to have one sooner"
)
PARTIAL: Final[str] = Worded("scale.keeps", "partial data never takes away")
BUDGET: Final[str] = Worded("scale.budget", "budget")
EDGE_TOLD: Final = 0.95
"""Above it the capacity model is right enough."""


def bounds(least: int, most: int) -> str:
    """The plan's bounds moved the count."""
    return Worded("scale.bounds", "bounds {least} to {most}", least=least, most=most)


@lru_cache(256)
def stands(total: int, partial: int, edge: str = "") -> str:
    """What is wanted is there."""
    note = missing(partial)
    return Worded("scale.ready", "{total} wanted and ready{edge}{note}", total=total, edge=edge,
                  note=note)  # fmt: skip


def ordered(
    why: str, wanted: Mapping[str, int], partial: int, edge: str = "", spare: int = 0
) -> str:
    """So many of each pool; `spare` of them are more than the number decided."""
    return _ordered(why, tuple(wanted.items()), partial, edge, spare)


@lru_cache(256)
def _ordered(
    why: str, wanted: tuple[tuple[str, int], ...], partial: int, edge: str, spare: int
) -> str:
    """An order stands for many ticks, until it is there: its sentence is made once."""
    pools = tuple(f"{n} {pool}" for pool, n in wanted) or Worded("scale.none", "none")
    note = missing(partial)
    if spare:
        template = "; {count} of them until others are ready or their paid hour ends{note}"
        note = Worded("scale.spare", template, count=spare, note=note)
    return Worded("scale.ordered", "{why}: {pools}{edge}{note}", why=why, pools=pools, edge=edge,
                  note=note)  # fmt: skip


def at_edge(pool: str, share: float, error: float) -> str:
    """That replicas do less than the capacity model says; empty where they do nearly as much."""
    if share > EDGE_TOLD:
        return ""
    return Worded(
        "scale.edge", "; at its edge a replica of {pool} does {share} (± {error}) of its figure",
        pool=pool, share=f"{share:.0%}", error=f"{error:.0%}",
    )  # fmt: skip


def idle(flow: Flow, supply: Supply, partial: int) -> str:
    """Of a machine of ours: nothing asks for another."""
    template = "nothing waits: {running} running on {ready} ready{note}"
    return Worded("scale.idle", template, running=flow.running, ready=supply.ready,
                  note=missing(partial))  # fmt: skip


def coming(flow: Flow, partial: int) -> str:
    """One was ordered and is not there yet."""
    return Worded("scale.coming", "a replica is coming; {why}", why=_calls(flow, partial))


def few(flow: Flow, supply: Supply, partial: int) -> str:
    """Calls found no place."""
    template = "{ready} ready are too few: {why}"
    return Worded("scale.few", template, ready=supply.ready, why=_calls(flow, partial))


def missing(partial: int) -> str:
    """That gateways did not answer, to stand behind a reason; empty when all did."""
    if not partial:
        return ""
    return Worded("scale.partial", "; partial, {count} source(s) missing", count=partial)


def _calls(flow: Flow, partial: int) -> str:
    return Worded(
        "scale.calls", "queue {queued}, shed {shed}, burst {burst}, running {running}{note}",
        queued=flow.queued, shed=flow.shed, burst=flow.burst, running=flow.running,
        note=missing(partial),
    )  # fmt: skip
