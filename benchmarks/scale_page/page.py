"""The tables of docs/scale.md, from costs and what they come to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.gateway.report import COST
from benchmarks.scale_page.carry import Costs, Crowd, Limit, Need
from benchmarks.scale_page.fleet_day import Size, Told

_ROW = re.compile(r"^\| ballast \| (.+) \|$", re.MULTILINE)
_NUMBER = re.compile(r"[\d.]+")
UNITS = {
    "request_us": "gateway CPU of a plain request, us",
    "chunk_us": "and of a stream's event that comes by itself, us",
    "stream_kib": "gateway memory of an open stream, KiB",
    "poll_us": "gateway CPU of a look at one engine's load, us",
    "placement_us": "decision over the targets of a model, us",
    "redis_us": "Redis, one ask for one counter, us of its CPU",
    "postgres_us": "PostgreSQL, rows of one call, us of its CPU",
    "call_bytes": "a finished call in the ledger (SQLite), bytes",
    "step_ms": "controller, one decision over all models, ms",
    "tick_bytes": "and its line in the journal, bytes",
}


class Unfilled(Exception):  # noqa: N818 - a state of the page
    """docs/benchmarks.md does not hold the figures that are taken from it."""


def from_benchmarks(text: str) -> tuple[float, float]:
    """Microseconds of a request and of an event apart, from the filled page. Raises Unfilled."""
    row = _ROW.search(text)
    cells = row[1].split(" | ") if row else []
    found = [_NUMBER.match(cell) for cell in cells]
    if len(cells) != len(COST):
        raise Unfilled("docs/benchmarks.md has no row of ballast: run `benchmarks.gateway fill`")
    of = dict(zip(COST, found, strict=True))
    request, apart = of["small_ms"], of["apart_us"]
    if request is None or apart is None:
        raise Unfilled("docs/benchmarks.md lacks figures of ballast: run `benchmarks.gateway fill`")
    return float(request[0]) * 1e3, float(apart[0])


def costs_table(cost: Costs, spread: Mapping[str, str]) -> list[str]:
    """What was measured, with its spread."""
    lines = ["| of one unit | median | lowest to highest |", "| --- | --- | --- |"]
    for name, words in UNITS.items():
        value = getattr(cost, name)
        told = f"{value:,.4g}" if value else "not measured here"
        lines.append(f"| {words} | {told} | {spread.get(name, '-')} |")
    return lines


def needs_table(crowd: Crowd, found: Need) -> list[str]:
    """What the crowd takes."""
    rows = {
        "requests/s: mean, busiest hour, burst":
            f"{found.mean_per_s:,.0f}, {found.hour_per_s:,.0f}, {found.burst_per_s:,.0f}",
        "streams open in the burst": f"{found.streams:,.0f}",
        "their events a second": f"{found.events_per_s:,.0f}",
        "gateway cores at work in the burst": f"{found.gateway_cores:,.1f}",
        f"gateway pods (one core, {crowd.gateway_use:.0%} used, one may be lost)":
            f"{found.pods:,}",
        "memory of the streams, all pods": f"{found.memory_mib:,.0f} MiB",
        f"engines (of {crowd.models} models, {crowd.replica_use:.0%} used in the busiest hour)":
            f"{found.replicas:,}",
        "looks at engines, all gateways": f"{found.polls_per_s:,.0f} a second",
        "Redis operations": f"{found.redis_per_s:,.0f} a second",
        "ledger rows": f"{found.rows_per_day:,.0f} a day, {found.ledger_gb_per_day:,.1f} GB",
        "controller ticks": f"{found.ticks_per_day:,.0f} a day, "
                            f"{found.journal_gb_per_day:,.1f} GB of journal",
    }  # fmt: skip
    lines = [f"| {crowd.people:,} people | |", "| --- | --- |"]
    return lines + [f"| {name} | {value} |" for name, value in rows.items()]


def limits_table(limits: list[Limit]) -> list[str]:
    """What is fullest, first."""
    lines = ["| | used in the burst | full at | why | what replaces it |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for place, one in enumerate(limits, 1):
        full = f"{one.people / 1e6:,.1f} million" if one.use else "not measured"
        name = f"**{one.name}**" if place <= 3 else one.name
        lines.append(f"| {place}. {name} | {one.use:.1%} | {full} | {one.why} | {one.instead} |")
    return lines


def fleet_lines(size: Size, told: Told) -> list[str]:
    """What the simulated hours came to."""
    rows = {
        "ticks, decisions, of these left as they were":
            f"{told.ticks:,}, {told.decisions:,}, {told.held / told.decisions:.0%}",
        "work done by own engines, by the API, by nobody":
            f"{told.own_share:.1%}, {told.api_share:.1%}, {told.lost_share:.1%}",
        "replica-hours, of these at work": f"{told.replica_hours:,.0f}, {told.use:.0%}",
        "replicas ordered at once, most": f"{told.most:,} of {size.replicas_most:,} allowed",
        "starts": f"{told.starts:,}",
        "cost in replica-hours: ours, each model's own peak all the time, all by API":
            f"{told.cost:,.0f}, {told.cost_even:,.0f}, {told.cost_api:,.0f}",
        "one decision over all models, ms of CPU: median, most":
            f"{told.step_ms:.1f}, {told.step_ms_most:.1f}",
    }  # fmt: skip
    what = f"{size.models} models, {size.hours:g} hours from {size.from_hour:g}:00"
    lines = [f"| {what} | |", "| --- | --- |"]
    return lines + [f"| {name} | {value} |" for name, value in rows.items()]
