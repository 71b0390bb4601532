"""From what one unit costs to what a million people need. Pure arithmetic; every input is named.

What can be multiplied (gateways, engines) is counted; what cannot (one Redis, one database that
writes, one controller, what each gateway does for every engine) is compared with what it can do,
and the fullest comes first.
"""

from __future__ import annotations

import math

import msgspec

DAY_S = 86_400.0
ROW_DAYS, DISK_GB, CORES = 90.0, 1_000.0, 4
"""Default of `ledger.row_days`; a database as one rents it without thinking about it."""


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what. ASSUMED; each is a flag of the command."""

    people: int = 1_000_000
    requests_each: float = 10.0
    """A day."""
    hour_factor: float = 1.81
    """Busiest hour over mean: 21 requests/s of 30 million a month, the load curve of
    `ballast plan`."""
    burst_factor: float = 2.0
    """Busiest ten seconds of that hour over its mean."""
    prompt_tokens: int = 1500
    output_tokens: int = 400
    token_s: float = 0.03
    first_s: float = 1.0
    attempts: float = 1.1
    """Tries of a request."""
    egress_share: float = 0.1
    """Of the requests: one more row, the record before anything leaves."""
    counters: int = 6
    """Rate counters that one call touches: calls and tokens of key, project and tenant."""
    keys: int = 5_000
    """That are in use in the busiest hour: applications, not people."""
    models: int = 50
    gateway_use: float = 0.5
    """Of a core, in the burst: the rest is for the loss of a pod and for latency."""
    replica_use: float = 0.7
    """Of an engine's work, in the busiest hour."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one unit, measured. Microseconds are CPU of one core."""

    request_us: float
    """A gateway's CPU for a plain request, ledger's drain included."""
    chunk_us: float
    """And for an event of a stream that comes by itself."""
    stream_kib: float
    """Resident memory of an open stream."""
    poll_us: float
    """A gateway's CPU for one look at one engine's load."""
    poll_s: float
    """Between two looks."""
    placement_us: float
    """One decision over the targets of one model (`placement_targets`)."""
    placement_targets: int
    redis_us: float
    """Of the server's one thread, for one ask for one counter."""
    redis_every_s: float
    """Between two asks for a counter in use."""
    redis_idle_s: float
    """A counter not touched for so long is not in use."""
    postgres_us: float
    """CPU of the database for the rows of a call; 0 = not measured here."""
    call_bytes: float
    """A finished call in the ledger, indexes included."""
    step_ms: float
    """One decision of the controller over all models."""
    tick_bytes: float
    """Of its journal."""
    tick_s: float
    replica_prompt_s: float
    """Work of a prompt's token, in seconds of one replica."""
    replica_output_s: float


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What the crowd takes."""

    mean_per_s: float
    hour_per_s: float
    burst_per_s: float
    streams: float
    """Open at once, in the burst."""
    events_per_s: float
    gateway_cores: float
    pods: int
    """Gateway processes of one core."""
    memory_mib: float
    """Of the open streams, in all pods."""
    replicas: int
    polls_per_s: float
    redis_per_s: float
    rows_per_day: float
    ledger_gb_per_day: float
    ticks_per_day: float
    journal_gb_per_day: float


class Limit(msgspec.Struct, frozen=True):
    """One thing that cannot simply be multiplied."""

    name: str
    use: float
    """Of what it can do, in the burst; 1 = full."""
    people: float
    """At which it is full, all else alike."""
    why: str
    instead: str


def need(crowd: Crowd, cost: Costs) -> Need:
    """Everything in numbers."""
    day = crowd.people * crowd.requests_each
    mean = day / DAY_S
    hour = mean * crowd.hour_factor
    burst = hour * crowd.burst_factor
    answer_s = crowd.first_s + crowd.output_tokens * crowd.token_s
    cores = burst * (cost.request_us + crowd.output_tokens * cost.chunk_us) / 1e6
    work_s = crowd.prompt_tokens * cost.replica_prompt_s
    work_s += crowd.output_tokens * cost.replica_output_s
    replicas = max(crowd.models, math.ceil(hour * work_s / crowd.replica_use))
    pods = _pods(crowd, cost, cores, replicas)
    rows = day * (1 + crowd.attempts + crowd.egress_share)
    return Need(
        mean_per_s=mean, hour_per_s=hour, burst_per_s=burst, streams=burst * answer_s,
        events_per_s=burst * crowd.output_tokens, gateway_cores=cores, pods=pods,
        memory_mib=burst * answer_s * cost.stream_kib / 1024, replicas=replicas,
        polls_per_s=pods * replicas / cost.poll_s,
        redis_per_s=_asks(crowd, cost, pods, burst), rows_per_day=rows,
        ledger_gb_per_day=day * cost.call_bytes / 1e9, ticks_per_day=DAY_S / cost.tick_s,
        journal_gb_per_day=DAY_S / cost.tick_s * cost.tick_bytes / 1e9,
    )  # fmt: skip


def _pods(crowd: Crowd, cost: Costs, cores: float, replicas: int) -> int:
    """Each looks at every engine, which takes its part of the core before any call does."""
    looking = replicas / cost.poll_s * cost.poll_us / 1e6
    left = max(0.05, crowd.gateway_use - looking)
    return max(2, math.ceil(cores / left) + 1)


def _asks(crowd: Crowd, cost: Costs, pods: int, burst: float) -> float:
    """A counter is asked for by each pod in which a call touched it within the last second; calls
    are spread over the keys evenly, which is the worst."""
    touched = burst / pods * cost.redis_idle_s / crowd.keys
    in_use = crowd.keys * -math.expm1(-touched)
    return pods * in_use * crowd.counters / cost.redis_every_s


def limits(crowd: Crowd, cost: Costs) -> list[Limit]:
    """Fullest first."""
    found = need(crowd, cost)
    looking = found.replicas / cost.poll_s * cost.poll_us / 1e6
    choosing = found.burst_per_s / found.pods * cost.placement_us / 1e6
    rows = found.burst_per_s * cost.postgres_us / 1e6
    disk = found.ledger_gb_per_day * ROW_DAYS / DISK_GB
    shares = [
        ("Redis, one thread", found.redis_per_s * cost.redis_us / 1e6,
         "each gateway asks for each counter in use ten times a second",
         ("counters spread over several Redis by their key (a bucket is one key: nothing else "
          "changes), and longer slices for keys far below their limit")),
        ("looks at engines, of each gateway's core", looking / crowd.gateway_use,
         "each gateway asks every engine for its load each second: gateways times engines",
         ("gateways in cells that own a part of the engines each, or one reader per cell that "
          "hands all reports on in one answer")),
        ("choosing a target, of each gateway's core", choosing / crowd.gateway_use,
         "every target of the model is looked at for every call",
         "a few targets drawn by lot and the best of these, above some hundred targets of a model"),
        (f"the ledger's disk, {DISK_GB:,.0f} GB for {ROW_DAYS:.0f} days of rows", disk,
         "every call's rows are kept whole for `ledger.row_days`",
         ("fewer days of rows (sums stay, and exports go to an object store), tables cut by day so "
          "that old days are dropped whole")),
        ("PostgreSQL, of four cores", rows / CORES,
         "every call's rows go to one database that writes",
         "a database per cell; sums are made in each and added"),
        ("the controller, of its tick", cost.step_ms / 1e3 / cost.tick_s,
         "one process decides for all models, one after the other",
         "a controller per cell: models share nothing but the budget"),
    ]  # fmt: skip
    made = [
        Limit(name, use, crowd.people / use if use else math.inf, why, instead)
        for name, use, why, instead in shares
    ]
    return sorted(made, key=lambda one: -one.use)
