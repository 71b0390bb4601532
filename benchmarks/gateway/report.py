"""Figures of rounds into minimum, median, maximum, ratios and tables. Pure.

A ratio is taken within one round and only then summarised: drift between rounds cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.gateway.machine import Provenance

REFERENCE = "vllm-router"


class Round(msgspec.Struct, frozen=True):
    """One gateway in one round. CPU is the whole process tree's, user and system."""

    gateway: str
    number: int
    requests: int
    """Plain ones in the measured load, all answered."""
    streams: int
    events_per_stream: float
    cpu_ms_request: float
    cpu_ms_request_user: float
    cpu_ms_request_system: float
    cpu_ms_request_ledger: float | None
    """Part of `cpu_ms_request` off the main thread: the ledger's drain. None: keeps no ledger."""
    cpu_ms_stream: float
    cpu_us_chunk_net: float
    """(stream - request) / 66: what one more coalesced event costs."""
    added_ms_request: float
    """Added p50 at concurrency 1."""
    added_ms_head: float
    """To the head of a stream. A router that passes it on before any content came shows less here;
    Ballast sends it with the first content, when it can no longer try another target."""
    added_ms_first_byte: float
    """To the first byte of a stream's body."""
    rps: float
    """At the load's concurrency; all share the machine, so no measure of capacity."""
    streams_per_s: float
    rss_mib: float


class Spread(msgspec.Struct, frozen=True):
    """Over rounds."""

    minimum: float
    median: float
    maximum: float


class Gate(msgspec.Struct, frozen=True):
    """What a figure of ours must not exceed."""

    metric: str
    maximum: float
    is_ratio: bool
    text: str


GATES = (
    Gate("cpu_ms_request", 1.5, True, "CPU per request, ratio to vllm-router"),
    Gate("cpu_us_chunk_net", 1.0, True, "CPU per coalesced chunk (net), ratio to vllm-router"),
    Gate("added_ms_request", 0.4, False, "added p50 to a request, ms"),
    Gate("added_ms_first_byte", 0.5, False, "added p50 to the first streamed byte, ms"),
)
METRICS = {
    "cpu_ms_request": "CPU ms / request",
    "cpu_ms_request_ledger": "of it ledger drain",
    "cpu_us_chunk_net": "CPU us / chunk, net",
    "added_ms_request": "added ms, request",
    "added_ms_head": "added ms, head",
    "added_ms_first_byte": "added ms, first byte",
    "rss_mib": "RSS MiB",
}
RATIOS = (
    "cpu_ms_request",
    "cpu_us_chunk_net",
    "added_ms_request",
    "added_ms_head",
    "added_ms_first_byte",
)
Table = dict[str, dict[str, Spread]]


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    origin: Provenance
    rounds: list[Round]
    summary: Table
    """Gateway -> metric -> spread over rounds."""
    ratios: Table
    """Gateway -> metric -> spread of the ratio to vllm-router; empty without it."""


def spread(values: Sequence[float]) -> Spread:
    """Minimum, median (the higher of two), maximum."""
    ordered = sorted(values)
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1])


def summarise(rounds: Sequence[Round]) -> tuple[Table, Table]:
    """(summary, ratios) of a run."""
    names = list(dict.fromkeys(r.gateway for r in rounds))
    base = {r.number: r for r in rounds if r.gateway == REFERENCE}
    summary: Table = {}
    ratios: Table = {}
    for name in names:
        own = [r for r in rounds if r.gateway == name]
        summary[name] = {
            metric: spread(values)
            for metric in METRICS
            if (values := [v for r in own if (v := getattr(r, metric)) is not None])
        }
        if name == REFERENCE:
            continue
        pairs = [(r, base[r.number]) for r in own if r.number in base]
        ratios[name] = {
            metric: spread(values)
            for metric in RATIOS
            if (
                values := [
                    round(getattr(r, metric) / getattr(b, metric), 3)
                    for r, b in pairs
                    if getattr(b, metric) > 0
                ]
            )
        }
    return summary, {name: table for name, table in ratios.items() if table}


def markdown(report: Report) -> str:
    """The table for `docs/benchmarks.md`, with where it comes from."""
    head = ["gateway", *METRICS.values()]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, found in report.summary.items():
        version = report.origin.versions.get(name, "")
        cells = [_cell(found.get(metric)) for metric in METRICS]
        lines.append(_row([f"{name} {version}".strip(), *cells]))
    rounds = max((r.number for r in report.rounds), default=0)
    lines += ["", f"Each cell: median (minimum to maximum) over {rounds} rounds.", ""]
    lines += _gates(report)
    return "\n".join([*lines, "", *origin(report.origin)])


def _gates(report: Report) -> list[str]:
    lines = [_row(["gate", "limit", "measured", "holds"]), _row(["---"] * 4)]
    for gate in GATES:
        table = report.ratios if gate.is_ratio else report.summary
        found = table.get("ballast", {}).get(gate.metric)
        verdict = "not measured" if found is None else _holds(found, gate)
        lines.append(_row([gate.text, f"{gate.maximum:g}", _cell(found), verdict]))
    return lines


def _holds(found: Spread, gate: Gate) -> str:
    """The median decides; a maximum beyond the limit is said."""
    if found.median > gate.maximum:
        return "no"
    return "yes" if found.maximum <= gate.maximum else "yes, not in every round"


def origin(found: Provenance) -> list[str]:
    """Lines that say where figures come from."""
    versions = ", ".join(f"{k} {v}" for k, v in found.versions.items())
    load = " ".join(f"{v:.2f}" for v in found.load_before)
    dirty = " with changes" if found.is_dirty else ""
    where = (
        f"{found.at}, commit {found.commit[:12]}{dirty}; {found.cpu_model}, {found.cores} cores, "
        f"Linux {found.kernel}, load average before {load}; {versions}."
    )
    return [f"`{found.command}`", "", where]


def _cell(found: Spread | None) -> str:
    if found is None:
        return "-"
    if found.minimum == found.maximum:
        return f"{found.median:g}"
    return f"{found.median:g} ({found.minimum:g} to {found.maximum:g})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def filled(page: str, name: str, text: str) -> str:
    """The page with what stands between its markers `name` replaced. Raises ValueError."""
    opening, closing = f"<!-- figures: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = page.partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended:
        raise ValueError(f"the page has no markers {opening} ... {closing}")
    return f"{before}{opening}\n\n{text}\n\n{closing}{after}"
