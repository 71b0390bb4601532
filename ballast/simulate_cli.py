"""`ballast simulate`: what our policy and others would have cost on a trace, beside the optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.progress import Progress
from rich.table import Table

from autoscale.work import of_profile
from ballast.printing import print_json, show
from ballast.problem import ProblemError
from models import profiles

if TYPE_CHECKING:
    from autoscale.simulate import Bench, Run

SEEDS_MAX = 50


class Wish(msgspec.Struct, frozen=True):
    """What the flags ask for."""

    traces: tuple[str, ...]
    ratios: tuple[float, ...] = (1.5, 3.0, 6.0)
    tune: tuple[str, ...] = ()
    seeds: int = 5
    ready_s: float = 180.0
    ready_cv: float = 0.0
    fail_rate: float = 0.0
    outages: tuple[str, ...] = ()
    profile: str = "qwen3-32b-fp8-h100"
    batch: int = 64
    trust: float = 0.5
    is_by_request: bool = False


class Result(msgspec.Struct, frozen=True):
    """One table."""

    trace: str
    notes: tuple[str, ...]
    ratio: float
    mean: float
    """Demand in replicas."""
    most: float
    runs: list[Run]


def collect(wish: Wish) -> Iterable[Result]:
    """Simulate each trace at each ratio. Raises ProblemError."""
    simulate = _load()
    seeds = range(1, wish.seeds + 1)
    trained = [_bench(trace, wish.ratios[0], wish) for trace in wish.tune]
    benches = [
        (_bench(trace, ratio, wish), ratio, trace) for trace in wish.traces for ratio in wish.ratios
    ]
    targets: dict[float, Any] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("simulating", total=len(benches))
        for bench, ratio, address in benches:
            if trained and ratio not in targets:
                targets[ratio] = simulate.tuned([_at(one, ratio) for one in trained])
            known = targets.get(ratio, {"all API": 1.0})
            if wish.is_by_request:
                runs = _by_request(bench, wish, known, address)
            else:
                runs = simulate.compare(bench, seeds, known)
            demand = bench.demand
            progress.advance(task)
            trace = bench.trace
            yield Result(trace.name, trace.notes, ratio, mean(demand), max(demand), runs)


def _load() -> Any:
    try:
        from autoscale import simulate
    except ImportError as error:
        raise ProblemError(
            f"the simulator needs {error.name}", "install Ballast with the extra `reports`"
        ) from None
    return simulate


def _bench(text: str, ratio: float, wish: Wish) -> Bench:
    from autoscale.arrivals import TraceError, asked, load
    from autoscale.simulate import Bench
    from autoscale.world import Scenario

    try:
        trace = load(asked(text))
    except TraceError as error:
        raise ProblemError(str(error), "mend the trace, or name another one") from None
    try:
        work = of_profile(profiles.named(profiles.spelled(wish.profile)), wish.batch)
    except ValueError as error:
        raise ProblemError(f"--profile: {error}", "see `ballast models list`") from None
    scenario = Scenario(
        ratio, wish.ready_s, wish.ready_cv, wish.fail_rate, 0.0, _outages(wish.outages)
    )
    return Bench(trace, work, scenario, wish.trust)


def _by_request(bench: Bench, wish: Wish, targets: Any, address: str) -> list[Run]:
    """Each request through the gateway's routing; engines as large as the batch, told how long
    answers are on average, as an operator would."""
    from autoscale.arrivals import TraceError, asked, rows
    from autoscale.calls import Setup
    from autoscale.request_runs import Case, compare

    try:
        found = rows(asked(address))
    except TraceError as error:
        raise ProblemError(str(error), "name a trace of single requests") from None
    profile = msgspec.structs.replace(
        profiles.named(wish.profile),
        max_num_seqs=wish.batch,
        mean_output_tokens=max(1, round(mean(row[2] for row in found))),
    )
    scenario = bench.scenario
    setup = Setup(profile, wish.batch, ready_s=wish.ready_s,
                  ready_cv=max(wish.ready_cv, 0.01), outages=scenario.outages)  # fmt: skip
    return compare(Case(bench, found, setup), range(1, wish.seeds + 1), targets)


def _at(bench: Bench, ratio: float) -> Bench:
    """The same world at another price, without outages."""
    scenario = msgspec.structs.replace(bench.scenario, ratio=ratio, outages=())
    return msgspec.structs.replace(bench, scenario=scenario)


def _outages(texts: Sequence[str]) -> tuple[tuple[float, float], ...]:
    found = []
    for text in texts:
        first, _, last = text.partition("-")
        try:
            span = (float(first), float(last))
        except ValueError:
            raise ProblemError(f"--outage: {text!r}", "write it in seconds, as 3600-4200") from None
        if not 0 <= span[0] < span[1]:
            raise ProblemError(f"--outage: {text!r} ends before it begins", "swap the two")
        found.append(span)
    return tuple(found)


def table(result: Result) -> Table:
    """For people: means over seeds, and the spread where there is one."""
    title = (
        f"{result.trace}: r = {result.ratio:g}, demand {result.mean:.2f} replicas on average,"
        f" {result.most:.1f} at most"
    )
    found = Table(title=title, title_justify="left")
    for name in ("policy", "cost / optimum", "spread", "starts", "own share", "kept", "saved"):
        found.add_column(name, justify="left" if name == "policy" else "right")
    rows: dict[str, list[Run]] = {}
    for run in result.runs:
        rows.setdefault(run.policy, []).append(run)
    for name, runs in sorted(rows.items(), key=lambda row: mean(r.cost for r in row[1])):
        costs = [run.cost for run in runs]
        found.add_row(
            name,
            f"{mean(costs):.3f}",
            f"{min(costs):.3f} to {max(costs):.3f}" if max(costs) - min(costs) > 5e-4 else "",
            f"{mean(r.starts for r in runs):.0f}",
            f"{mean(r.own_share for r in runs):.1%}",
            f"{mean(r.kept for r in runs):.2%}",
            f"{mean(r.saved for r in runs):.1%}",
        )
    return found


def _ratios(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ProblemError(f"--ratios: {text!r}", "write numbers, as 1.5,3,6") from None
    if not all(0 < ratio < 1000 for ratio in found):
        raise ProblemError(f"--ratios: {text!r}", "above 0 and below 1000")
    return found


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the command. `guard` turns problems into words."""

    @app.command()
    @guard
    def simulate(
        traces: Annotated[
            list[str], typer.Argument(help="FILE, FILE@2d-7d or FILE@2d-7d*8 (Parquet or CSV).")
        ],
        ratios: Annotated[
            str, typer.Option(help="API price of a full replica's work over the replica's.")
        ] = "1.5,3,6",
        tune: Annotated[
            list[str] | None,
            typer.Option(help="Traces to tune the baselines on; without any they stay out."),
        ] = None,
        seeds: Annotated[int, typer.Option(min=1, max=SEEDS_MAX)] = 5,
        ready_s: Annotated[float, typer.Option(help="Order to service.", min=1, max=3600)] = 180.0,
        ready_cv: Annotated[
            float, typer.Option(help="Its spread over its mean.", min=0, max=2)
        ] = 0.0,
        fail_rate: Annotated[
            float, typer.Option(help="Share of orders that never come.", min=0, max=1)
        ] = 0.0,
        outage: Annotated[
            list[str] | None, typer.Option(help="API down, seconds from the start: 3600-4200.")
        ] = None,
        profile: Annotated[str, typer.Option(help="Profile of a replica.")] = Wish(()).profile,
        batch: Annotated[int, typer.Option(help="Sequences of a full one.", min=1)] = 64,
        trust: Annotated[
            float, typer.Option(help="In the forecast; 0: none.", min=0, max=0.99)
        ] = Wish(()).trust,
        requests: Annotated[
            bool, typer.Option("--requests", help="One by one, through the gateway's routing.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say what scaling would have cost on a trace, ours and other laws, beside the optimum."""
        wish = Wish(
            tuple(traces), _ratios(ratios), tuple(tune or ()), seeds, ready_s, ready_cv, fail_rate,
            tuple(outage or ()), profile, batch, trust, requests,
        )  # fmt: skip
        if as_json:
            print_json(list(collect(wish)))
            return
        for result in collect(wish):
            show(table(result), *(f"note: {note}" for note in result.notes))
