"""What the scrape reads from live state: depths, ages, breakers. Nothing is kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from models.tokens import TokenRatio
from serving.admission import Admission
from serving.budgets import gauges as budget_gauges
from serving.budgets.keeper import Keeper
from serving.fleet import Fleet
from serving.ledger.drain import Drainer
from serving.limits.sharing import Sharing
from serving.logs import RequestLog
from serving.metrics import Gauges, Labels
from serving.waiting import Queue

Series = tuple[str, str, Labels, dict[Labels, float]]


class Live(NamedTuple):
    """What the scrape looks at."""

    admission: Admission
    queue: Queue
    fleet: Fleet
    drainer: Drainer
    log: RequestLog
    ratios: Mapping[str, TokenRatio]
    sharing: Sharing
    budgets: Keeper


def gauges(live: Live) -> Gauges:
    """A function that reads all gauges."""

    def read() -> Iterable[Series]:
        now_s = asyncio.get_running_loop().time()
        yield from _models(live, live.queue.snapshot(now_s))
        yield from _targets(live.admission, now_s)
        yield from _own(live, now_s)
        away: dict[Labels, float] = {
            (one.name,): float(bool(one.away)) for one in live.sharing.renewers
        }
        text = "1 while this store of limits does not answer and each pod counts its own share"
        yield "ballast_limits_away", text, ("store",), away
        yield from budget_gauges.series(live.budgets)

    return read


def _own(live: Live, now_s: float) -> Iterable[Series]:
    """The gateway's own health, one number each."""
    drainer, age_s = live.drainer, now_s - live.fleet.view.observed_s
    policy_s = max(0.0, now_s - live.fleet.policy_at_s)
    values: tuple[tuple[str, str, float], ...] = (
        ("fleet_view_age_seconds", "Since every source answered", age_s),
        ("policy_age_seconds", "Since the directory was read well", policy_s),
        ("journal_lag_bytes", "Not yet in the ledger", drainer.lag_bytes),
        ("journal_corrupt_segments", "Put aside since the start", drainer.corrupt_segments),
        ("ledger_failing", "1 while the ledger refuses", bool(drainer.last_error)),
        ("log_lines_dropped", "Request lines lost since the start", live.log.dropped),
        ("tickets_out", "Issued less released", live.admission.issued - live.admission.released),
    )
    for name, text, value in values:
        yield f"ballast_{name}", text, (), {(): float(value)}


def _models(live: Live, held: Mapping[str, tuple[int, int, float]]) -> Iterable[Series]:
    view, admission, ratios = live.fleet.view, live.admission, live.ratios
    rows = {model: held.get(model, (0, 0, 0.0)) for model in ratios}
    yield _series("ballast_queue_depth", "Calls held", {m: r[0] for m, r in rows.items()})
    yield _series("ballast_queue_tokens", "Tokens held", {m: r[1] for m, r in rows.items()})
    oldest_s = {m: r[2] for m, r in rows.items()}
    yield _series("ballast_queue_oldest_seconds", "Age of the oldest held call", oldest_s)
    yield _series("ballast_running", "Tickets out", {m: admission.running(m) for m in ratios})
    engines = {m: len(view.replicas.get(m, ())) for m in ratios}
    yield _series("ballast_replicas", "Engines in the view", engines)
    troubles = {m: float(m in live.fleet.troubles) for m in ratios}
    yield _series("ballast_engine_not_starting", "1 while starts fail; /fleet says why", troubles)
    learnt = {m: r.ascii for m, r in ratios.items()}
    yield _series("ballast_tokens_per_byte", "Learnt for ASCII prompts", learnt)


def _targets(admission: Admission, now_s: float) -> Iterable[Series]:
    columns: dict[str, tuple[str, dict[Labels, float]]] = {
        "ballast_target_unfinished": ("Our calls under way", {}),
        "ballast_target_waiting": ("Waiting there, by its own report", {}),
        "ballast_target_running": ("Running there, by its own report", {}),
        "ballast_target_kv_use_ratio": ("KV memory in use", {}),
        "ballast_target_breaker_open": ("1 while its breaker is open", {}),
    }
    for target, state in admission.state.items():
        load = state.load
        row = (state.unfinished, load.waiting, load.running, load.kv_use,
               state.open_until_s > now_s)  # fmt: skip
        for (_, values), value in zip(columns.values(), row, strict=True):
            values[target,] = float(value)
    for name, (text, values) in columns.items():
        yield name, text, ("target",), values
    margins: dict[Labels, float] = {k: m for k, (m, _, _) in admission.margins.told(now_s).items()}
    text = "Spreads beyond p90 that engines must keep, learnt from late calls"
    yield "ballast_placement_margin", text, ("model", "class"), margins


def _series(name: str, text: str, values: Mapping[str, float]) -> Series:
    return name, text, ("model",), {(m,): v for m, v in values.items()}
