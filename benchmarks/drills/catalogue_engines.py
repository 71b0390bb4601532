"""Drills of our own engines, their nodes and the gateway before them."""

from __future__ import annotations

from typing import Final

from benchmarks.drills.criteria import (
    answered,
    asked,
    count_of,
    done_within,
    ended_within,
    first_within,
    memory_grew,
    refused_with,
    rows_for,
    rows_with,
    tries,
)
from benchmarks.drills.values import (
    CLOSED,
    UNREACHED,
    Drill,
    Engine,
    Fault,
    Provider,
    Topology,
    Wave,
)

PACED: Final = Engine(profile="cpu-embedded", time_scale=0.5, max_num_seqs=16, max_queued_reqs=64)
"""About 80 tokens a second and stream, so that streams are under way for a while."""
KILLED: Final = Drill(
    name="engine-kill",
    meaning="an engine is killed under its streams: the others go on with each of them",
    topology=Topology(engines=(PACED,) * 2),
    load=(
        Wave(name="streams", key="own", rate=8, seconds=3, tokens=60),
        Wave(name="plain", key="own", rate=4, seconds=3, tokens=20, is_stream=False),
    ),
    faults=(Fault(at_s=1.5, act="kill", on="engine:0"),),
    criteria=(
        answered("every call is answered whole", 1.0, asked()),
        rows_with("none was cut", "cut", 0, 0),
        rows_for("some were rescued", "rescue", 1, 36),
    ),
    is_fast=True,
)
PREEMPTED: Final = Drill(
    name="preemption",
    meaning="a node's end is announced: its engine takes no more, ends what it can, and dies",
    topology=Topology(engines=(PACED,) * 3),
    load=(
        Wave(name="streams", key="own", rate=4, seconds=12, tokens=60),
        Wave(name="long", key="own", rate=0.5, seconds=6, tokens=400),
    ),
    faults=(
        Fault(at_s=3, act="behave", on="engine:0", how={"drain": True}),
        Fault(at_s=7, act="kill", on="engine:0"),
        Fault(at_s=9, act="start", on="engine:0"),
    ),
    criteria=(
        answered("every call is answered whole", 1.0, asked()),
        rows_with("none was cut", "cut", 0, 0),
        count_of("nobody saw the engine's own refusal", 0, 0, lambda one: one.status >= 500),
    ),
)
GATEWAY: Final = Drill(
    name="gateway-kill",
    meaning="a gateway is killed in mid traffic and comes back: what was under way is booked as "
            "lost, what nobody heard is no loss, and all else is answered",
    topology=Topology(engines=(PACED,)),
    load=(Wave(name="streams", key="own", rate=8, seconds=6, tokens=20),),
    faults=(
        Fault(at_s=1.5, act="kill", on="gateway:0"),
        Fault(at_s=1.7, act="start", on="gateway:0"),
    ),
    criteria=(
        answered("all that it accepted before and after is answered", 1.0, lambda one: (
            one.end not in (CLOSED, UNREACHED))),
        count_of("some were under way", 1, 30, lambda one: one.end == CLOSED),
        rows_with("they are booked as lost", "gateway_lost", 1, 30),
    ),
    is_fast=True,
)  # fmt: skip
TWO_GATEWAYS: Final = Drill(
    name="gateway-kill-of-two",
    meaning="one of two gateways is killed: the other one serves, its books are settled by its "
            "next life",
    topology=Topology(engines=(PACED, PACED), gateways=2, has_postgres=True),
    load=(Wave(name="streams", key="own", rate=10, seconds=10, tokens=20),),
    faults=(
        Fault(at_s=3, act="kill", on="gateway:0"),
        Fault(at_s=6, act="start", on="gateway:0"),
    ),
    criteria=(
        answered("all but what was under way is answered", 1.0, lambda one: one.end != CLOSED),
        count_of("nobody was left without a gateway", 0, 0, lambda one: one.end == UNREACHED),
        rows_with("what was under way is booked as lost", "gateway_lost", 1, 30),
    ),
    needs=("postgres",),
)  # fmt: skip
COLD: Final = Drill(
    name="cold-start",
    meaning="a burst meets no engine: who may leaves for an API at once, who may not is told when "
            "to come again, and the engine is used as soon as it is there",
    topology=Topology(
        engines=(Engine(profile="cpu-embedded", time_scale=0.2, max_num_seqs=16, starts=False),),
        providers={"alpha": Provider()},
    ),
    load=(
        Wave(name="free", rate=10, seconds=12, tokens=8),
        Wave(name="pinned", key="home", rate=5, seconds=12, tokens=8, tries=8),
    ),
    faults=(Fault(at_s=5, act="start", on="engine:0"),),
    criteria=(
        answered("those that may leave are answered at once", 1.0, asked("free")),
        first_within("within 3 s", 3.0, 0.95, asked("free")),
        answered("the pinned ones are answered in the end", 1.0, asked("pinned")),
        refused_with("until then they are told why and when", (
            "engine_loading", "overloaded", "queue_timeout", "queue_full",
            "deadline_unreachable"), asked("pinned")),
        count_of("the engine serves once it is there", 20, 10_000, asked(
            from_s=9, target="own")),
    ),
)  # fmt: skip
SLOW: Final = Drill(
    name="slow-clients",
    meaning="clients that hardly read, or stop reading: they cost memory within bounds, the second "
            "ones are cut, and nobody else waits",
    topology=Topology(
        engines=(Engine(max_num_seqs=512, max_queued_reqs=1024, output_tokens=30_000),),
        settings={"gateway.limits": {"write_stall_s": 3.0}},
    ),
    load=(
        Wave(name="slow", key="own", rate=10, seconds=2, tokens=2000, read_pause_s=0.1),
        Wave(name="stuck", key="own", rate=3, seconds=2, tokens=28_000, read_pause_s=0.1,
             reads_s=0.5, give_up_s=15),
        Wave(name="others", key="own", rate=10, seconds=15, tokens=8),
    ),
    faults=(),
    criteria=(
        answered("the others are all answered", 1.0, asked("others")),
        # Client, gateway and engine share a machine, and the engine makes all it can at once.
        done_within("within three seconds", 3.0, 0.98, asked("others")),
        answered("who reads slowly gets all of it", 1.0, asked("slow")),
        ended_within("who reads no more is cut", "disconnected", 12.0, 6),
        memory_grew("their answers stay at the engine, not with us", 48.0),
    ),
)  # fmt: skip
HERD: Final = Drill(
    name="thundering-herd",
    meaning="after an outage all come back at the same moment: they are served in turn or told "
            "when, and all are answered in the end",
    topology=Topology(
        engines=(Engine(profile="cpu-embedded", time_scale=0.2, max_num_seqs=8,
                        max_queued_reqs=12),),
    ),
    load=(
        Wave(name="steady", key="own", rate=5, seconds=18, tokens=8, tries=6),
        Wave(name="herd", key="own", rate=1, seconds=1, from_s=8, at_once=120, tokens=8, tries=20),
    ),
    faults=(
        Fault(at_s=3, act="kill", on="engine:0"),
        Fault(at_s=7, act="start", on="engine:0"),
    ),
    criteria=(
        answered("everybody is answered in the end", 1.0, asked()),
        # Whose only engine died under them are told that, and no time: the next try may be well.
        refused_with("a refusal says why and when to come again", (
            "overloaded", "queue_full", "queue_timeout", "engine_loading",
            "deadline_unreachable"), lambda one: one.code != "upstream_unavailable"),
        count_of("few were under way at its end", 0, 15, lambda one: (
            one.code == "upstream_unavailable")),
        answered("10 s after the herd all is as before", 1.0, asked("steady", from_s=16)),
        tries("the herd is not multiplied by us", "", 420, 8.0, 20.0),
    ),
)  # fmt: skip
DRILLS: Final = (KILLED, PREEMPTED, GATEWAY, TWO_GATEWAYS, COLD, SLOW, HERD)
