"""One policy against a trace: ours (the very `step` of the controller) or a baseline. Fluid: demand
flows in bins, nothing queues, what does not fit is sent to the API or, where that does not take it,
lost. It says what a policy costs, not what a caller waits for.
"""

from __future__ import annotations

import msgspec

from autoscale import baselines
from autoscale.arrivals import BIN_S, Trace
from autoscale.course import Recorder
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
BIN_MS = round(BIN_S * 1e3)


class Bench(msgspec.Struct, frozen=True):
    """Everything that one comparison needs."""

    trace: Trace
    work: Work
    scenario: Scenario
    trust: float = 0.5
    insurance: float = 0.0
    is_recorded: bool = False
    """The first seed of each policy keeps its course."""
    months: int = 0
    """Machines that ours has by the month, as a reserved pool, before it rents by the hour."""
    edge_least: float = 0.5
    """As `controller.scaling`, for ours."""

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
    def ratios(self) -> list[float]:
        """The API's price by bin."""
        return [self.scenario.ratio_at(k * BIN_S) for k in range(self.trace.prompt.size)]

    @property
    def start(self) -> float:
        """Bins from order to service."""
        return self.scenario.ready_s / BIN_S


def policy_of(bench: Bench, ratio: float) -> Policy:
    """What the production `step` is told: one pool, and the API's price at that ratio."""
    micro = HOUR_MICRO / 3600 * ratio * 1e6
    api = Api(round(bench.work.prompt_token_s * micro), round(bench.work.output_token_s * micro))
    pools = [Pool("pool", hour_micro=HOUR_MICRO, ready_s=bench.scenario.ready_s, most=MOST)]
    if bench.months:
        pools.insert(0, Pool("month", "reserved", least=bench.months, most=bench.months))
    plan = Plan(MODEL, 64, tuple(pools), api, bench.work, insurance=bench.insurance)
    return Policy((plan,), trust=bench.trust, edge_least=bench.edge_least)


class Ours:
    """Feeds `step` what a gateway would say."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._policy = policy_of(bench, bench.scenario.ratio)
        self._policies = {bench.scenario.ratio: self._policy}
        self._memory = Memory()
        self._start_ms = EPOCH_MS + round(bench.trace.start_s * 1e3)
        self._at_ms = self._start_ms
        self._served, self._lost, self._sent = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
        """Tokens so far: prompt and output."""
        self._refused = 0

    def wanted(
        self, tokens: tuple[float, float], shares: tuple[float, float, float], world: World
    ) -> int:
        """The controller's wish after a bin. `shares` of its work were served, sent to the API and
        lost."""
        self._at_ms += BIN_MS
        outages = self._bench.scenario.outages
        (prompt, output), (own, api, lost) = tokens, shares
        served, gone, sent = self._served, self._lost, self._sent
        if own:
            served[0] += prompt * own
            served[1] += output * own
        if api:
            sent[0] += prompt * api
            sent[1] += output * api
        if lost:
            gone[0] += prompt * lost
            gone[1] += output * lost
            self._refused += 1
        demand = Demand(
            shed_total=self._refused,
            served_prompt_total=int(served[0]), served_output_total=int(served[1]),
            shed_prompt_total=int(gone[0]), shed_output_total=int(gone[1]),
            burst_prompt_total=int(sent[0]), burst_output_total=int(sent[1]),
            is_shut=bool(outages) and self._bench.scenario.is_away(world.now_s),
        )  # fmt: skip
        return self.asked(demand, world.ready, world.ordered)

    def asked(self, demand: Demand, ready: int, ordered: int) -> int:
        """The wish, when a gateway reports this demand; a hold leaves what is ordered."""
        at_ms = self._at_ms
        report = Signals("simulated", 1, at_ms, {MODEL: demand})
        samples = Samples(at_ms, (report,), (), {MODEL: Supply(ready)})
        policy = self._policy_now() if self._bench.scenario.prices else self._policy
        outcome = step(samples, self._memory, policy)
        self._memory = outcome.memory
        decision = outcome.decisions[0]
        return decision.replicas if isinstance(decision, Scale) else ordered

    def _policy_now(self) -> Policy:
        """With the API's price of now, as settings would have it on that day."""
        ratio = self._bench.scenario.ratio_at((self._at_ms - self._start_ms) / 1e3)
        if ratio not in self._policies:
            self._policies[ratio] = policy_of(self._bench, ratio)
        return self._policies[ratio]

    def at(self, now_s: float) -> None:
        """Set the clock, in seconds from the trace's start."""
        self._at_ms = self._start_ms + round(now_s * 1e3)


def run_ours(bench: Bench, seed: int, recorder: Recorder | None = None) -> Spent:
    """Our policy, one seed."""
    world, ours = World(bench.scenario, seed, bench.months), Ours(bench)
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
    months = baselines.months(name, target)
    world, scaler = World(bench.scenario, seed, months), baselines.SCALERS[name](target)
    wanted = 0
    for demand in bench.demand:
        done = world.pass_bin(demand)
        if recorder is not None:
            _note(recorder, world, demand, done)
        wanted = min(scaler.wanted(baselines.Seen(demand, world.ready, wanted)), MOST)
        world.want(wanted)
    return world.spent
