"""Simulations as the command asks for them: traces, worlds and policies from flags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import msgspec
from rich.progress import Progress

from autoscale.work import of_profile
from ballast.messages import Said, say
from ballast.problem import ProblemError, worded
from models import profiles
from serving.finance.values import FinanceError, Grant

if TYPE_CHECKING:
    from autoscale.contest import Run
    from autoscale.request_runs import Case
    from autoscale.simulate import Bench


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
    prices: tuple[str, ...] = ()
    api_most: float = 0.0
    """Replicas' work that the API takes at once; 0: any."""
    profile: str = "qwen3-32b-fp8-h100"
    batch: int = 64
    trust: float = 0.5
    is_by_request: bool = False
    taken_per_hour: float = 0.0
    insurance: float = 0.0
    credits: tuple[str, ...] = ()
    is_recorded: bool = False
    """Courses for plots are kept."""


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
    contest = _load()
    seeds = range(1, wish.seeds + 1)
    trained = [bench_of(trace, wish.ratios[0], wish) for trace in wish.tune]
    benches = [
        (bench_of(trace, ratio, wish), ratio, trace)
        for trace in wish.traces
        for ratio in wish.ratios
    ]
    targets: dict[float, Any] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task(say("simulate.running"), total=len(benches))
        for bench, ratio, address in benches:
            if trained and ratio not in targets:
                targets[ratio] = contest.tuned([_at(one, ratio) for one in trained])
            known = targets.get(ratio, {"all API": 1.0})
            notes = bench.trace.notes
            if wish.is_by_request:
                from autoscale import request_edge, request_runs

                case = case_of(bench, wish, address)
                runs = request_runs.compare(case, seeds, known)
                notes = (*notes, request_edge.said(case.edge.share))
            else:
                runs = contest.compare(bench, seeds, known)
            demand = bench.demand
            progress.advance(task)
            yield Result(bench.trace.name, notes, ratio, mean(demand), max(demand), runs)


def _load() -> Any:
    try:
        from autoscale import contest
    except ImportError as error:
        raise ProblemError(
            Said("simulate.bad.needs", name=error.name), Said("plan.install")
        ) from None
    return contest


def bench_of(text: str, ratio: float, wish: Wish) -> Bench:
    """A trace in a world at one price. Raises ProblemError."""
    from autoscale.arrivals import TraceError, asked, load
    from autoscale.simulate import MOST, Bench
    from autoscale.world import Scenario

    try:
        trace = load(asked(text))
    except TraceError as error:
        raise ProblemError(worded(error), Said("plan.mend_trace")) from None
    try:
        work = of_profile(profiles.named(profiles.spelled(wish.profile)), wish.batch)
    except ValueError as error:
        raise _bad("--profile", worded(error), "see_profiles") from None
    scenario = Scenario(
        ratio, wish.ready_s, wish.ready_cv, wish.fail_rate, wish.taken_per_hour,
        _outages(wish.outages),
        _prices(wish.prices), wish.api_most or float("inf"),
    )  # fmt: skip
    if wish.credits and not wish.is_by_request:
        raise ProblemError(
            Said("simulate.bad.credit_by_request"), Said("simulate.bad.add_requests")
        )
    bench = Bench(trace, work, scenario, wish.trust, wish.insurance, wish.is_recorded)
    if (peak := max(bench.demand, default=0.0)) > MOST:  # the optimum would have more, and win
        raise ProblemError(
            Said("simulate.bad.too_much", trace=text, peak=f"{peak:.4g}", most=MOST),
            Said("simulate.bad.scale_down"),
        )
    return bench


def case_of(bench: Bench, wish: Wish, address: str) -> Case:
    """A trace of single requests. Raises ProblemError."""
    from autoscale.arrivals import TraceError, asked
    from autoscale.request_runs import case_of as made

    try:
        given = _credits(wish.credits)
        return made(bench, asked(address), profiles.named(wish.profile), wish.batch, given)
    except TraceError as error:
        raise ProblemError(worded(error), Said("simulate.bad.one_by_one")) from None


def _bad(flag: str, text: str, remedy: str) -> ProblemError:
    what = Said("simulate.bad.flag", flag=flag, text=text)
    return ProblemError(what, Said(f"simulate.bad.{remedy}"))


def _at(bench: Bench, ratio: float) -> Bench:
    """The same world at another price, where nothing happens to the API."""
    scenario = msgspec.structs.replace(
        bench.scenario, ratio=ratio, outages=(), prices=(), api_most=float("inf")
    )
    return msgspec.structs.replace(bench, scenario=scenario, is_recorded=False)


def _prices(texts: Sequence[str]) -> tuple[tuple[float, float], ...]:
    found = []
    for text in texts:
        when, _, ratio = text.partition("=")
        try:
            change = (float(when), float(ratio))
        except ValueError:
            raise _bad("--price", repr(text), "price") from None
        if change[0] < 0 or not 0 <= change[1] < 1000:
            raise _bad("--price", repr(text), "price_bounds")
        found.append(change)
    return tuple(sorted(found))


def _credits(texts: Sequence[str]) -> tuple[Grant, ...]:
    from autoscale.request_api import credit

    found = []
    for text in texts:
        hours, _, until = text.partition("=")
        try:
            found.append(credit(float(hours), float(until)))
        except (ValueError, OverflowError, FinanceError) as error:
            what = Said("simulate.bad.because", flag="--credit", text=repr(text), why=worded(error))
            raise ProblemError(what, Said("simulate.bad.credit")) from None
    return tuple(found)


def _outages(texts: Sequence[str]) -> tuple[tuple[float, float], ...]:
    found = []
    for text in texts:
        first, _, last = text.partition("-")
        try:
            span = (float(first), float(last))
        except ValueError:
            raise _bad("--outage", repr(text), "outage") from None
        if not 0 <= span[0] < span[1]:
            what = Said("simulate.bad.backwards", text=repr(text))
            raise ProblemError(what, Said("simulate.bad.swap"))
        found.append(span)
    return tuple(found)
