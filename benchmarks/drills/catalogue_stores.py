"""Drills of what stands behind a gateway: Redis, PostgreSQL, the network to both, and the clock."""

from __future__ import annotations

from typing import Final

from benchmarks.drills.criteria import answered, asked, done_within, reading, tries
from benchmarks.drills.values import Drill, Engine, Fault, Provider, Topology, Wave

QUICK: Final = Engine()
AWAY: Final = {"metric": "ballast_limits_away"}
REDIS: Final = Drill(
    name="redis-loss",
    meaning="Redis dies and comes back empty: calls go on, each pod counts its share meanwhile",
    topology=Topology(
        engines=(QUICK,),
        gateways=2,
        has_redis=True,
        has_postgres=True,
        key_settings={"allowance": {"requests_per_min": 6000}},
    ),
    load=(Wave(name="calls", key="own", rate=30, seconds=12),),
    faults=(
        Fault(at_s=3, act="kill", on="redis"),
        Fault(at_s=6, act="read", on="gateway:0", how=AWAY | {"as": "away"}),
        Fault(at_s=7, act="start", on="redis"),
        Fault(at_s=11.5, act="read", on="gateway:0", how=AWAY | {"as": "back"}),
    ),
    criteria=(
        answered("every call is answered", 1.0, asked()),
        done_within("nobody waits for Redis", 2.0, 0.98, asked()),
        reading("the gateway says that it is away", "away", 1, 1),
        reading("and that it is back", "back", 0, 0),
    ),
    needs=("redis-server", "postgres"),
)
POSTGRES: Final = Drill(
    name="postgres-loss",
    meaning="PostgreSQL crashes under two gateways and comes back: no call notices, no row is lost",
    topology=Topology(
        engines=(QUICK,), providers={"alpha": Provider()}, gateways=2, has_postgres=True,
    ),
    load=(
        Wave(name="own", key="own", rate=20, seconds=12),
        Wave(name="plain", rate=10, seconds=12),
    ),
    faults=(
        Fault(at_s=3, act="kill", on="postgres"),
        Fault(at_s=5, act="read", on="gateway:0", how={
            "metric": "ballast_ledger_failing", "as": "failing"}),
        Fault(at_s=7, act="start", on="postgres"),
        Fault(at_s=11.5, act="read", on="gateway:0", how={
            "metric": "ballast_ledger_failing", "as": "well"}),
    ),
    criteria=(
        answered("every call is answered", 1.0, asked()),
        done_within("nobody waits for the database", 2.0, 0.98, asked()),
        reading("the gateway says that its ledger is away", "failing", 1, 1),
        reading("and that it is back", "well", 0, 0),
    ),
    needs=("postgres",),
)  # fmt: skip
PARTITION: Final = Drill(
    name="partition",
    meaning="one of two pods loses engines, Redis and database, in silence: after 10 s it sends "
            "nothing to third parties on a policy that may be old; healed, it is as before",
    topology=Topology(
        engines=(QUICK,), providers={"alpha": Provider()}, gateways=2, has_redis=True,
        has_postgres=True, has_links=True,
        key_settings={"allowance": {"requests_per_min": 6000}},
    ),
    load=(
        Wave(name="well", rate=10, seconds=45, gateway=0),
        Wave(name="cut off", rate=4, seconds=45, gateway=1),
    ),
    faults=(
        Fault(at_s=4, act="cut", on="link:1"),
        Fault(at_s=16, act="read", on="provider:alpha", how={"as": "before"}),
        Fault(at_s=26, act="read", on="provider:alpha", how={"as": "after"}),
        Fault(at_s=27, act="heal", on="link:1"),
    ),
    criteria=(
        answered("the other pod answers every call", 1.0, asked("well")),
        done_within("and no slower", 2.0, 0.98, asked("well")),
        done_within("what it holds ends within half a minute", 30.0, 1.0, asked("cut off")),
        # Calls that it holds meanwhile may leave once it is healed.
        tries("after 10 s it sends nothing out", "alpha", 0, 16.0, 26.0),
        answered("healed, it answers again", 1.0, asked("cut off", from_s=37)),
    ),
    needs=("redis-server", "postgres"),
)  # fmt: skip
CLOCK: Final = Drill(
    name="clock-jump",
    meaning="the wall clock jumps an hour ahead and two back: no call notices, no deadline moves, "
            "no row is lost or counted twice",
    topology=Topology(
        engines=(Engine(profile="cpu-embedded", time_scale=0.1, max_num_seqs=16),),
        providers={"alpha": Provider(itl_ms=10)}, has_own_clock=True,
    ),
    load=(
        Wave(name="streams", key="own", rate=6, seconds=9, tokens=40),
        Wave(name="plain", rate=6, seconds=9, tokens=40),
    ),
    faults=(
        Fault(at_s=3, act="jump", on="clock:0", how={"seconds": 3600}),
        Fault(at_s=6, act="jump", on="clock:0", how={"seconds": -3600}),
    ),
    criteria=(
        answered("every call is answered whole", 1.0, asked()),
        done_within("nobody waits for a clock", 6.0, 0.98, asked()),
    ),
    needs=("cc",),
)  # fmt: skip
DRILLS: Final = (REDIS, POSTGRES, PARTITION, CLOCK)
