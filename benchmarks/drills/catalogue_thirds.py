"""Drills of third parties: slow, refusing, unpaid."""

from __future__ import annotations

from typing import Final

from benchmarks.drills.criteria import (
    answered,
    asked,
    count_of,
    first_within,
    refused_with,
    tries,
    tries_per_request,
)
from benchmarks.drills.values import Drill, Engine, Fault, Provider, Topology, Wave

TWO: Final = Topology(providers={"alpha": Provider(), "beta": Provider()})
"""Two third parties and no engine: what a PoC has."""
BUSY: Final = ("overloaded", "upstream_unavailable", "queue_full", "deadline_unreachable",
               "queue_timeout")  # fmt: skip

BROWN_OUT: Final = Drill(
    name="brown-out",
    meaning="a provider becomes slow without failing: it is known within seconds, and calls go to "
            "the other one",
    topology=Topology(providers={"alpha": Provider(ttft_ms=20), "beta": Provider(ttft_ms=20)}),
    load=tuple(
        # A tenant alone could be what is slow: two say that the provider is.
        Wave(name=key, key=key, rate=2, seconds=22, tokens=4) for key in ("plain", "other")
    ),
    faults=(
        Fault(at_s=6, act="behave", on="provider:alpha", how={"ttft_ms": 6500}),
    ),
    criteria=(
        answered("every call is answered", 1.0, asked()),
        first_within("from 10 s after the brown-out on, within 1 s", 1.0, 0.9, asked(
            from_s=16, until_s=22)),
        count_of("the slow one is left alone meanwhile", 0, 2, asked(
            from_s=16, until_s=22, target="alpha")),
    ),
)  # fmt: skip
STORM: Final = Drill(
    name="rate-limit-storm",
    meaning="a provider answers 429 to everything for a while; nobody knocks on and on",
    topology=TWO,
    load=(Wave(name="calls", rate=30, seconds=4, tokens=4),),
    faults=(
        Fault(at_s=0.7, act="behave", on="provider:alpha", how={"default": "rate_limit"}),
        Fault(at_s=3.0, act="behave", on="provider:alpha", how={"default": "ok"}),
    ),
    criteria=(
        answered("every call is answered, by the other one", 1.0, asked()),
        tries("Retry-After is kept: a handful of knocks", "alpha", 12, 0.8, 2.8),
        tries_per_request("retries are few", 1.25),
    ),
    is_fast=True,
)
ALL_STORM: Final = Drill(
    name="rate-limit-everywhere",
    meaning="all providers answer 429: calls are refused clearly, and answered when it is over",
    topology=TWO,
    load=(Wave(name="calls", rate=15, seconds=12, tokens=4),),
    faults=(
        *(Fault(at_s=2, act="behave", on=f"provider:{name}", how={"default": "rate_limit"})
          for name in ("alpha", "beta")),
        *(Fault(at_s=6, act="behave", on=f"provider:{name}", how={"default": "ok"})
          for name in ("alpha", "beta")),
    ),
    criteria=(
        refused_with("a refusal says why and when to come again", BUSY, asked()),
        answered("all is well 3 s after it is over", 1.0, asked(from_s=9)),
        answered("all was well before", 1.0, asked(until_s=1.8)),
        tries("hardly a knock while both say no", "", 15, 2.5, 6.0),
    ),
)  # fmt: skip
UNPAID: Final = Drill(
    name="out-of-money",
    meaning="an account is empty: one call finds out, the next ones do not knock, nothing is lost",
    topology=TWO,
    load=(Wave(name="calls", rate=20, seconds=5, tokens=4),),
    faults=(
        Fault(at_s=1.0, act="behave", on="provider:alpha", how={"default": "out_of_money_openai"}),
    ),
    criteria=(
        answered("every call is answered, by the other account", 1.0, asked()),
        tries("nobody knocks once it is known", "alpha", 4, 1.1, 5.0),
        count_of("all went to the other one", 60, 100, asked(from_s=1.5, target="beta")),
    ),
)
PINNED: Final = Drill(
    name="residency-overload",
    meaning="three times what the engine bears, part of it pinned to the premises: that part is "
            "served or refused, and not one call of it leaves",
    topology=Topology(
        engines=(Engine(profile="cpu-embedded", max_num_seqs=4, max_queued_reqs=6),),
        providers={"alpha": Provider()},
        settings={"fleet.poll_s": 0.2},
    ),
    load=(
        Wave(name="pinned", key="home", rate=4, seconds=12, tokens=32),
        Wave(name="free", key="plain", rate=4, seconds=12, tokens=32),
    ),
    faults=(),
    criteria=(
        count_of("some pinned calls are refused: it is an overload", 1, 47, lambda one: (
            one.wave == "pinned" and one.status == 503)),
        refused_with("their refusals say why and when", BUSY, asked("pinned")),
        answered("the free ones are all answered", 1.0, asked("free")),
        count_of("some of them by the third party", 1, 48, asked("free", target="alpha")),
        # Their tenant's rows are read, not the targets that clients were told.
        count_of("no pinned answer names a third party", 0, 0, asked("pinned", target="alpha")),
    ),
)  # fmt: skip
DRILLS: Final = (BROWN_OUT, STORM, ALL_STORM, UNPAID, PINNED)
