"""`ballast simulate`: what our policy and others would have cost on a trace, beside the optimum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ballast import ledger_trace, simulate_page
from ballast.admin_flags import Config
from ballast.messages import Said, named, say
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show, write_page
from ballast.problem import ProblemError
from ballast.running import settings_of
from ballast.simulate_run import Result, Wish, collect

if TYPE_CHECKING:
    from autoscale.contest import Run

SEEDS_MAX = 50
COLUMNS = ("policy", "cost / optimum", "spread", "starts", "own share", "kept", "saved")
Traces = Annotated[
    list[str] | None, typer.Argument(help="FILE, FILE@2d-7d or FILE@2d-7d*8 (Parquet or CSV).")
]
Tune = Annotated[
    list[str] | None,
    typer.Option(help="Traces to tune the baselines on; without any they stay out."),
]
Price = Annotated[
    list[str] | None, typer.Option(help="Change of the ratio: second=ratio, as 43200=0.8.")
]
ApiMost = Annotated[
    float, typer.Option(help="Replicas' work the API takes at once; 0: any.", min=0)
]
Outage = Annotated[
    list[str] | None, typer.Option(help="API down, seconds from the start: 3600-4200.")
]
Credit = Annotated[
    list[str] | None,
    typer.Option(help="Paid at the API: replica-hours=second it lapses, as 20=43200; --requests."),
]
TRUST = Wish(()).trust
Trust = Annotated[float, typer.Option(help="In the forecast; 0: none.", min=0, max=0.99)]
Insurance = Annotated[
    float, typer.Option(help="As controller.scaling.insurance, for our policy.", min=0, max=1)
]
TakenPerHour = Annotated[
    float, typer.Option(help="How often a running replica is taken away (spot).", min=0, max=60)
]
LedgerDays = Annotated[
    int, typer.Option(help="Replay so many days of our own ledger.", min=0, max=366)
]


@contextmanager
def traces_of(given: list[str], days: int, model: str, config: Path | None) -> Iterator[list[str]]:
    """The addresses of traces; the ledger's requests, where `days` are asked for, as a file that
    is gone afterwards. Raises ProblemError."""
    if not days:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        wanted = ledger_trace.Wanted(days, model)
        address = ledger_trace.write(settings_of(config), wanted, Path(folder) / "ledger.csv")
        yield [*given, address]


def table(result: Result) -> Table:
    """For people: means over seeds, and the spread where there is one."""
    title = say(
        "simulate.title", trace=result.trace, ratio=f"{result.ratio:g}",
        mean=f"{result.mean:.2f}", most=f"{result.most:.1f}",
    )  # fmt: skip
    found = Table(title=title, title_justify="left")
    for name in COLUMNS:
        head = named("simulate.column", name, spoken())
        found.add_column(head, justify="left" if name == "policy" else "right")
    rows: dict[str, list[Run]] = {}
    for run in result.runs:
        rows.setdefault(run.policy, []).append(run)
    for runs in sorted(rows.values(), key=lambda row: mean(r.cost for r in row)):
        costs = [run.cost for run in runs]
        found.add_row(
            simulate_page.called(runs[0]),
            f"{mean(costs):.3f}",
            simulate_page.span(costs) if max(costs) - min(costs) > 5e-4 else "",
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
        raise ProblemError(
            Said("simulate.bad.flag", flag="--ratios", text=repr(text)),
            Said("simulate.bad.numbers"),
        ) from None
    if not all(0 < ratio < 1000 for ratio in found):
        raise ProblemError(
            Said("simulate.bad.flag", flag="--ratios", text=repr(text)),
            Said("simulate.bad.ratio_bounds"),
        )
    return found


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the command. `guard` turns problems into words."""

    @app.command()
    @guard
    def simulate(
        traces: Traces = None,
        ratios: Annotated[
            str, typer.Option(help="API price of a full replica's work over the replica's.")
        ] = "1.5,3,6",
        tune: Tune = None,
        seeds: Annotated[int, typer.Option(min=1, max=SEEDS_MAX)] = 5,
        ready_s: Annotated[float, typer.Option(help="Order to service.", min=1, max=3600)] = 180.0,
        ready_cv: Annotated[
            float, typer.Option(help="Its spread over its mean.", min=0, max=2)
        ] = 0.0,
        fail_rate: Annotated[
            float, typer.Option(help="Share of orders that never come.", min=0, max=1)
        ] = 0.0,
        outage: Outage = None,
        price: Price = None,
        api_most: ApiMost = 0.0,
        credit: Credit = None,
        taken_per_hour: TakenPerHour = 0.0,
        insurance: Insurance = 0.0,
        profile: Annotated[str, typer.Option(help="Profile of a replica.")] = Wish(()).profile,
        batch: Annotated[int, typer.Option(help="Sequences of a full one.", min=1)] = 64,
        trust: Trust = TRUST,
        requests: Annotated[
            bool, typer.Option("--requests", help="One by one, through the gateway's routing.")
        ] = False,
        ledger_days: LedgerDays = 0,
        ledger_model: Annotated[str, typer.Option(help="Of them, those of one model.")] = "",
        html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
        config: Config = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say what scaling would have cost on a trace, ours and other laws, beside the optimum."""
        if not traces and not ledger_days:
            raise ProblemError(Said("simulate.bad.no_trace"), Said("simulate.bad.name_trace"))
        with traces_of(traces or [], ledger_days, ledger_model, config) as addresses:
            wish = Wish(
                tuple(addresses), _ratios(ratios), tuple(tune or ()), seeds, ready_s, ready_cv,
                fail_rate, tuple(outage or ()), tuple(price or ()), api_most, profile, batch,
                trust, requests, taken_per_hour, insurance, tuple(credit or ()), html is not None,
            )  # fmt: skip
            results = _told(wish, as_json=as_json)
        if html is not None:
            write_page(html, simulate_page.made(results))


def _told(wish: Wish, *, as_json: bool) -> list[Result]:
    """All results; tables are printed as they come."""
    if as_json:
        found = list(collect(wish))
        print_json(found)
        return found
    found = []
    for result in collect(wish):
        found.append(result)
        show(table(result), *(say("simulate.note", note=note) for note in result.notes))
    return found
