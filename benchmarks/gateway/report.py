"""Figures of visits into minimum, median, maximum, ratios, gates and tables. Pure.

A ratio is taken within one round and only then summarised: drift between rounds cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from benchmarks.gateway import own, peers
from benchmarks.gateway.figures import Effort, Visit, metrics
from benchmarks.gateway.machine import Provenance

REFERENCE = peers.VLLM_ROUTER
FIRST_P99_MS_MAX = 3.0
BUSY_LOAD_PER_CORE = 0.5
BUSY = "**Others were busy on this machine**: absolute figures are too high and ratios are wide."


class Spread(msgspec.Struct, frozen=True):
    """Over rounds."""

    minimum: float
    median: float
    maximum: float


class Gate(NamedTuple):
    """What a figure of ours must not exceed; `base`: it is a ratio to that gateway's."""

    gateway: str
    metric: str
    maximum: float
    text: str
    base: str = ""


GATES = (
    Gate(own.BALLAST, "small_ms", 1.0, "CPU per request, 4 KiB, relay", REFERENCE),
    Gate(own.BALLAST, "large_ms", 1.0, "CPU per request, 90 KiB, relay", REFERENCE),
    Gate(own.GUARD, "small_ms", 1.4, "CPU per request, 4 KiB, guard inspecting", REFERENCE),
    Gate(own.GUARD, "large_ms", 1.4, "CPU per request, 90 KiB, guard inspecting", REFERENCE),
    Gate(own.BALLAST, "chunk_us", 0.7, "CPU per coalesced chunk, relay", REFERENCE),
    Gate(own.BALLAST, "apart_us", 1.2, "CPU per chunk 20 ms apart, relay", REFERENCE),
    Gate(own.BALLAST, "first_p50_ms", 0.6, "added first byte p50, ms"),
    Gate(own.BALLAST, "first_p99_ms", FIRST_P99_MS_MAX, "added first byte p99, ms"),
    Gate(own.BALLAST, "open_kib", 100.0, "memory of an open stream, KiB"),
    Gate(own.BALLAST, "open_faults", 0.0, "slow streams cut, lost or reordered"),
    Gate(own.TWO, "small_ms", 1.05, "CPU per request, two processes", own.BALLAST),
)
COST = {
    "small_ms": "CPU ms / request, 4 KiB",
    "aside_ms": "of it ledger drain",
    "large_ms": "CPU ms / request, 90 KiB",
    "slope_us": "CPU us / KiB of prompt",
    "chunk_us": "CPU us / chunk, coalesced",
    "apart_us": "CPU us / chunk, 20 ms apart",
}
FELT = {
    "first_p50_ms": "added first byte p50, ms",
    "first_p99_ms": "p99, ms",
    "core_percent": "at % of a core",
    "start_s": "start-up, s",
    "idle_mib": "RSS idle, MiB",
    "open_kib": "KiB / open stream",
    "open_streams": "of streams",
    "many_streams": "slow streams checked",
    "many_faults": "faults",
    "many_gap_s": "longest silence, s",
    "many_us": "CPU us / event",
}
RATIOS = ("small_ms", "large_ms", "chunk_us", "apart_us")
Table = dict[str, dict[str, Spread]]


class Report(msgspec.Struct, frozen=True):
    """A whole comparison; it grows by a visit at a time."""

    sittings: list[Provenance]
    """One for each time that the command was started."""
    effort: Effort
    gateways: list[str]
    rounds: int
    visits: list[Visit]


def spread(values: Sequence[float]) -> Spread:
    """Minimum, median (the higher of two), maximum."""
    ordered = sorted(values)
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1])


def summarised(visits: Sequence[Visit]) -> Table:
    """Gateway -> metric -> spread over rounds."""
    out: Table = {}
    for name in _names(visits):
        own_rows = [metrics(visit) for visit in visits if visit.gateway == name]
        keys = dict.fromkeys(key for row in own_rows for key in row)
        out[name] = {key: spread([row[key] for row in own_rows if key in row]) for key in keys}
    return out


def _names(visits: Sequence[Visit]) -> list[str]:
    """Ballast, its peers, then how else Ballast was started."""
    found = dict.fromkeys(visit.gateway for visit in visits)
    return sorted(found, key=lambda name: (name in own.BESIDE, name != own.BALLAST))


def ratio(visits: Sequence[Visit], gateway: str, base: str, metric: str) -> Spread | None:
    """Of two gateways' figures within each round; None without a round that has both."""
    found = {(v.gateway, v.number): metrics(v).get(metric) for v in visits}
    values = []
    for number in dict.fromkeys(visit.number for visit in visits):
        ours, theirs = found.get((gateway, number)), found.get((base, number))
        if ours is not None and theirs is not None and theirs > 0:
            values.append(round(ours / theirs, 3))
    return spread(values) if values else None


class Verdict(NamedTuple):
    """A gate and what was found."""

    text: str
    maximum: float
    found: Spread | None

    @property
    def holds(self) -> bool | None:
        """The median decides; None: not measured."""
        return None if self.found is None else self.found.median <= self.maximum

    def word(self) -> str:
        """As the table says it."""
        if self.found is None:
            return "not measured"
        if self.found.median > self.maximum:
            return "no"
        return "yes" if self.found.maximum <= self.maximum else "yes, not in every round"


def verdicts(visits: Sequence[Visit]) -> list[Verdict]:
    """Every gate, judged."""
    table, out = summarised(visits), []
    for gate in GATES:
        maximum = gate.maximum
        if gate.base:
            found = ratio(visits, gate.gateway, gate.base, gate.metric)
            text = f"{gate.text}, ratio to {gate.base}"
        else:
            found, text = table.get(gate.gateway, {}).get(gate.metric), gate.text
        if gate.metric == "first_p99_ms":
            rust = [
                table[n][gate.metric].median for n in peers.RUST if gate.metric in table.get(n, {})
            ]
            maximum = max(maximum, min(rust, default=0.0))
        out.append(Verdict(text, maximum, found))
    return out


def markdown(report: Report) -> str:
    """The tables for `docs/benchmarks.md`, with where they come from."""
    visits, versions = report.visits, report.sittings[0].versions
    table = summarised(visits)
    lines = [
        *_table(table, COST, versions),
        "",
        *_ratios(visits),
        "",
        *_table(table, FELT, versions),
    ]
    rounds = max((visit.number for visit in visits), default=0)
    over = f"over {rounds} rounds; a single figure: one round, or all alike"
    lines += ["", f"Each cell: median (minimum to maximum) {over}.", ""]
    lines += [_row(["gate", "limit", "measured", "holds"]), _row(["---"] * 4)]
    for verdict in verdicts(visits):
        cells = [verdict.text, f"{verdict.maximum:g}", _cell(verdict.found), verdict.word()]
        lines.append(_row(cells))
    failed = [f"- {v.gateway}, round {v.number}: {v.failed}" for v in visits if v.failed]
    lines += ["", *([*failed, ""] if failed else [])]
    lines += [f"- `{name}`: {said}" for name, said in own.SAID.items() if name in table]
    for sitting in report.sittings:
        lines += ["", *origin(sitting)]
    return "\n".join(lines)


def _table(table: Table, columns: dict[str, str], versions: dict[str, str]) -> list[str]:
    lines = [_row(["gateway", *columns.values()]), _row(["---"] * (len(columns) + 1))]
    for name, found in table.items():
        if any(metric in found for metric in columns):
            cells = [_cell(found.get(metric)) for metric in columns]
            lines.append(_row([f"{name} {versions.get(name, '')}".strip(), *cells]))
    return lines


def _ratios(visits: Sequence[Visit]) -> list[str]:
    names = [name for name in _names(visits) if name != REFERENCE]
    head = [f"ratio to {REFERENCE} in the round", *(COST[metric] for metric in RATIOS)]
    lines = [_row(head), _row(["---"] * len(head))]
    for name in names:
        found = [ratio(visits, name, REFERENCE, metric) for metric in RATIOS]
        if any(found):
            lines.append(_row([name, *(_cell(one) for one in found)]))
    return lines


def origin(found: Provenance) -> list[str]:
    """Lines that say where figures come from."""
    versions = ", ".join(f"{k} {v}" for k, v in found.versions.items())
    load = " ".join(f"{v:.2f}" for v in found.load_before)
    dirty = " with changes" if found.is_dirty else ""
    where = (
        f"{found.at}, commit {found.commit[:12]}{dirty}; {found.cpu_model}, {found.cores} cores, "
        f"Linux {found.kernel}, load average before {load}; {versions}."
    )
    busy = [] if found.load_before[0] <= BUSY_LOAD_PER_CORE * found.cores else ["", BUSY]
    return [f"`{found.command}`", "", where, *busy]


def _cell(found: Spread | None) -> str:
    if found is None:
        return "-"
    if found.minimum == found.maximum:
        return _short(found.median)
    return f"{_short(found.median)} ({_short(found.minimum)} to {_short(found.maximum)})"


def _short(value: float) -> str:
    """Three figures, thousands whole."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
