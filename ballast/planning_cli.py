"""`ballast plan`: what would it cost, and when does self-hosting pay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ballast import models_ask as ask
from ballast import planning_page, planning_run, planning_tables, planning_values
from ballast.messages import Said
from ballast.planning_values import Scenario
from ballast.printing import print_json, show, write_page
from ballast.problem import ProblemError, worded


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the command. `guard` turns problems into words."""

    @app.command("plan")
    @guard
    def plan(
        scenario: Annotated[
            Path | None, typer.Argument(help="Scenario file (YAML); else the packaged one.")
        ] = None,
        model: Annotated[str, typer.Option(help="Card to serve, instead of the file's.")] = "",
        trace: Annotated[
            str, typer.Option(help="FILE[@FROM-UNTIL]: shape of the load, and mean request.")
        ] = "",
        day: Annotated[str, typer.Option(help="Prices of that day; else today's.")] = "",
        report: Annotated[
            bool, typer.Option("--report", help="Only the design report's table and its flaws.")
        ] = False,
        models: Annotated[
            bool,
            typer.Option("--models", help="All models that somebody sells: which are worth it."),
        ] = False,
        html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
        assumptions: Annotated[
            bool, typer.Option("--assumptions", help="Print the scenario file to copy and change.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say what API, hosted, hybrid and own GPUs cost over the years, and when they pay."""
        if html is not None and (report or models):
            raise ProblemError(Said("plan.whole_page"), Said("plan.leave_out"))
        wish = planning_values.load(scenario)
        if assumptions:
            _assumed(wish, scenario or planning_values.FOLDER / "today.yaml", as_json)
            return
        if model:
            wish = wish.model_copy(update={"model": model})
        if trace:
            wish = _shaped(wish, trace)
        known, asked_day = ask.knowledge(None), ask.day_of(day)
        if report:
            found = planning_run.past(known, asked_day)
            _out(found, planning_tables.past(found), as_json)
        elif models:
            worths = planning_run.worths(wish, known, asked_day)
            _out(worths, [planning_tables.worths(worths, wish.currency)], as_json)
        else:
            planned = planning_run.run(wish, known, asked_day)
            _out(planned, planning_tables.tables(planned), as_json)
            if html is not None:
                write_page(html, planning_page.made(planned))


def _assumed(wish: Scenario, file: Path, as_json: bool) -> None:
    """The scenario's own file, whose comments are worth reading."""
    if as_json:
        print_json(wish.model_dump(mode="json"))
    else:
        typer.echo(file.read_text(encoding="utf-8"))


def _out(value: Any, parts: Any, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        show(*parts)


def _shaped(scenario: Scenario, address: str) -> Scenario:
    """The scenario with the week and the mean request of a trace. Raises ProblemError."""
    try:
        from autoscale.arrivals import TraceError, asked
        from autoscale.shape import of_trace
    except ImportError as error:
        raise ProblemError(
            Said("plan.traces_need", name=error.name), Said("plan.install")
        ) from None
    try:
        shape = of_trace(asked(address))
    except TraceError as error:
        raise ProblemError(worded(error), Said("plan.mend_trace")) from None
    load = planning_values.Shape(
        hours=shape.hours, days=shape.days, spread=min(3.0, shape.spread), source=shape.source
    )
    request = planning_values.Request(
        prompt_tokens=shape.prompt, output_tokens=shape.output,
        cached_share=scenario.request.cached_share, source=shape.source,
    )  # fmt: skip
    return scenario.model_copy(update={"load": load, "request": request})
