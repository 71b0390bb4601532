"""Policies against a trace: ours (the very `step` of the controller) and the baselines, beside the
optimum in hindsight. Fluid: demand flows in bins, nothing queues, what does not fit is sent to the
API or, while that is down, lost. It says what a policy costs, not what a caller waits for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from autoscale import baselines, oracle
from autoscale.arrivals import BIN_S, Trace
from autoscale.course import Point, Recorder
from autoscale.memory import Memory
from autoscale.policy import Api, Plan, Policy, Pool
from autoscale.records import Demand, Samples, Scale, Signals, Supply
from autoscale.step import step
from autoscale.work import Work
from autoscale.world import Scenario, Spent, World

OURS = "Ballast"
HOUR_MICRO = 3_600_000_000
"""A million micro-units a second: rounding is nothing beside it. Only the ratio matters."""
MOST = 64
EPOCH_MS = 1_767_225_600_000
"""2026-01-01, a midnight: a trace's zero is one."""
MODEL = "m"
NOTHING = 1e-9


class Run(msgspec.Struct, frozen=True):
    """One policy on one trace in one world."""

    policy: str
    seed: int
    cost: float
    """Against the optimum."""
    starts: int
    own_share: float
    """Of the work."""
    kept: float
    """Share of the work that was served at all."""
    saved: float
    """Against sending all to the API, as a share of that."""
    bins_per_s: float
    """Of simulation."""
    course: tuple[Point, ...] = ()
    """How it went, where that was asked for."""


class Bench(msgspec.Struct, frozen=True):
    """Everything that one comparison needs."""

    trace: Trace
    work: Work
    scenario: Scenario
    trust: float = 0.5
    is_recorded: bool = False
    """The first seed of each policy keeps its course."""

    @property
    def demand(self) -> list[float]:
        """In replicas, by bin."""
        tokens = self.trace.prompt * self.work.prompt_token_s
        tokens = tokens + self.trace.output * self.work.output_token_s
        return [float(d) for d in tokens / BIN_S]

    def recorder(self, seed: int) -> Recorder | None:
        """For the first seed, where courses are asked for."""
        if not self.is_recorded or seed != 1:
            return None
        return Recorder(self.trace.prompt.size * BIN_S, BIN_S)

    @property
    def start(self) -> float:
        """Bins from order to service."""
        return self.scenario.ready_s / BIN_S


def policy_of(bench: Bench) -> Policy:
    """What the production `step` is told: one pool and the API's price at the scenario's ratio."""
    micro = HOUR_MICRO / 3600 * bench.scenario.ratio * 1e6
    api = Api(round(bench.work.prompt_token_s * micro), round(bench.work.output_token_s * micro))
    pool = Pool("pool", hour_micro=HOUR_MICRO, ready_s=bench.scenario.ready_s, most=MOST)
    return Policy((Plan(MODEL, 64, (pool,), api, bench.work),), trust=bench.trust)


class Ours:
    """Feeds `step` what a gateway would say."""

    def __init__(self, bench: Bench) -> None:
        self._policy = policy_of(bench)
        self._memory = Memory()
        self._start_ms = EPOCH_MS + round(bench.trace.start_s * 1e3)
        self._at_ms = self._start_ms
        self._totals = [0.0] * 6
        self._refused = 0

    def wanted(
        self, tokens: tuple[float, float], shares: tuple[float, float, float], world: World
    ) -> int:
        """The controller's wish after a bin. `shares` of its work were served, sent to the API and
        lost."""
        self._at_ms += round(BIN_S * 1e3)
        totals, (own, api, lost) = self._totals, shares
        for i, share in enumerate((own, lost, api)):
            totals[2 * i] += tokens[0] * share
            totals[2 * i + 1] += tokens[1] * share
        self._refused += lost > 0.0
        served_in, served_out, shed_in, shed_out, burst_in, burst_out = map(int, totals)
        demand = Demand(
            shed_total=self._refused,
            served_prompt_total=served_in, served_output_total=served_out,
            shed_prompt_total=shed_in, shed_output_total=shed_out,
            burst_prompt_total=burst_in, burst_output_total=burst_out,
        )  # fmt: skip
        return self.asked(demand, world.ready, world.ordered)

    def asked(self, demand: Demand, ready: int, ordered: int) -> int:
        """The wish, when a gateway reports this demand; a hold leaves what is ordered."""
        report = Signals("simulated", 1, self._at_ms, {MODEL: demand})
        samples = Samples(self._at_ms, (report,), (), {MODEL: Supply(ready)})
        outcome = step(samples, self._memory, self._policy)
        self._memory = outcome.memory
        (decision,) = outcome.decisions
        return decision.replicas if isinstance(decision, Scale) else ordered

    def at(self, now_s: float) -> None:
        """Set the clock, in seconds from the trace's start."""
        self._at_ms = self._start_ms + round(now_s * 1e3)


def run_ours(bench: Bench, seed: int, recorder: Recorder | None = None) -> Spent:
    """Our policy, one seed."""
    world, ours = World(bench.scenario, seed), Ours(bench)
    for prompt, output, demand in zip(
        bench.trace.prompt.tolist(), bench.trace.output.tolist(), bench.demand, strict=True
    ):
        own, api = world.pass_bin(demand)
        if recorder is not None:
            _note(recorder, world, demand, (own, api))
        lost = demand - own - api
        lost = lost if lost > NOTHING else 0.0
        shares = (own / demand, api / demand, lost / demand) if demand else (0.0, 0.0, 0.0)
        world.want(ours.wanted((prompt, output), shares, world))
    return world.spent


def _note(recorder: Recorder, world: World, demand: float, done: tuple[float, float]) -> None:
    own, api = done
    recorder.note(world.now_s, (demand, float(world.ready), 0.0), (own, demand, own + api, demand))


def run_baseline(
    bench: Bench, seed: int, law: tuple[str, float], recorder: Recorder | None = None
) -> Spent:
    """Another law, one seed."""
    name, target = law
    world, scaler = World(bench.scenario, seed), baselines.SCALERS[name](target)
    wanted = 0
    for demand in bench.demand:
        done = world.pass_bin(demand)
        if recorder is not None:
            _note(recorder, world, demand, done)
        wanted = min(scaler.wanted(baselines.Seen(demand, world.ready, wanted)), MOST)
        world.want(wanted)
    return world.spent


def tuned(benches: Sequence[Bench]) -> Mapping[str, float]:
    """Each baseline's best target on these traces, to be used on others: that of the least cost
    against the optimum, on average."""
    best = [oracle.optimum(b.demand, b.scenario.ratio, b.start).cost for b in benches]
    found = {}
    for name in baselines.SCALERS:
        grid: Sequence[float] = baselines.TARGETS
        if name == "fixed + spill":
            grid = baselines.COUNTS
        elif name == "all API":
            grid = (1.0,)
        costs = {
            target: sum(
                run_baseline(bench, 0, (name, target)).cost / least
                for bench, least in zip(benches, best, strict=True)
            )
            for target in grid
        }
        found[name] = min(costs, key=lambda target: costs[target])
    return found


def compare(bench: Bench, seeds: Sequence[int], targets: Mapping[str, float]) -> list[Run]:
    """All policies, and the hindsights as rows of their own."""
    demand, ratio = bench.demand, bench.scenario.ratio
    best = oracle.optimum(demand, ratio, bench.start)
    count, fixed = oracle.best_fixed(demand, ratio, bench.start)
    total = sum(demand)
    rows = [
        _hindsight("optimum in hindsight", best, best.cost, total, ratio),
        _hindsight(f"best fixed ({count}) + API, hindsight", fixed, best.cost, total, ratio),
    ]
    laws = [(OURS, 0.0), *targets.items()]
    return rows + [one(bench, seed, law, best.cost) for law in laws for seed in seeds]


def one(bench: Bench, seed: int, law: tuple[str, float], best: float) -> Run:
    """One policy, one seed; `best` is the optimum's cost."""
    began_s, recorder = time.perf_counter(), bench.recorder(seed)
    if law[0] == OURS:
        spent = run_ours(bench, seed, recorder)
    else:
        spent = run_baseline(bench, seed, law, recorder)
    speed = len(bench.demand) / (time.perf_counter() - began_s)
    return with_course(_row(law[0], seed, (spent, speed), best, bench.scenario.ratio), recorder)


def with_course(run: Run, recorder: Recorder | None) -> Run:
    """The row with what was recorded."""
    if recorder is None:
        return run
    return msgspec.structs.replace(run, course=tuple(recorder.points))


def _hindsight(name: str, found: oracle.Best, best: float, total: float, ratio: float) -> Run:
    saved = 1.0 - found.cost / (total * ratio) if total else 0.0
    share = found.own / total if total else 0.0
    return Run(name, 0, found.cost / best if best else 1.0, found.starts, share, 1.0, saved, 0.0)


def _row(name: str, seed: int, done: tuple[Spent, float], best: float, ratio: float) -> Run:
    spent, speed = done
    total = spent.own_work + spent.api_work + spent.lost_work
    if not total:
        return Run(name, seed, 1.0, spent.starts, 0.0, 1.0, 0.0, speed)
    return Run(
        policy=name,
        seed=seed,
        cost=spent.cost / best,
        starts=spent.starts,
        own_share=spent.own_work / total,
        kept=1.0 - spent.lost_work / total,
        saved=1.0 - spent.cost / (total * ratio),
        bins_per_s=speed,
    )
