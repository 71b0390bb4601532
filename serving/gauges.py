"""What the scrape reads from live state: depths, ages, breakers. Nothing is kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from models.tokens import TokenRatio
from serving.admission import Admission
from serving.fleet import Fleet
from serving.ledger.drain import Drainer
from serving.metrics import Gauges, Labels
from serving.waiting import Queue

Series = tuple[str, str, Labels, dict[Labels, float]]


def gauges(
    admission: Admission, queue: Queue, fleet: Fleet, drainer: Drainer,
    ratios: Mapping[str, TokenRatio],
) -> Gauges:  # fmt: skip
    """A function that reads all gauges."""

    def read() -> Iterable[Series]:
        now_s = asyncio.get_running_loop().time()
        yield from _models(queue.snapshot(now_s), admission, fleet, ratios)
        yield from _targets(admission, now_s)
        age_s = now_s - fleet.view.observed_s
        yield "ballast_fleet_view_age_seconds", "Age of the view", (), {(): age_s}
        yield "ballast_journal_lag_bytes", "Not yet in the ledger", (), {(): drainer.lag_bytes}
        failing = float(bool(drainer.last_error))
        yield "ballast_ledger_failing", "1 while the ledger refuses", (), {(): failing}
        tickets = admission.issued - admission.released
        yield "ballast_tickets_out", "Issued less released", (), {(): tickets}

    return read


def _models(
    held: Mapping[str, tuple[int, int, float]], admission: Admission, fleet: Fleet,
    ratios: Mapping[str, TokenRatio],
) -> Iterable[Series]:  # fmt: skip
    view = fleet.view
    rows = {model: held.get(model, (0, 0, 0.0)) for model in ratios}
    yield _series("ballast_queue_depth", "Calls held", {m: r[0] for m, r in rows.items()})
    yield _series("ballast_queue_tokens", "Tokens held", {m: r[1] for m, r in rows.items()})
    oldest_s = {m: r[2] for m, r in rows.items()}
    yield _series("ballast_queue_oldest_seconds", "Age of the oldest held call", oldest_s)
    yield _series("ballast_running", "Tickets out", {m: admission.running(m) for m in ratios})
    engines = {m: len(view.replicas.get(m, ())) for m in ratios}
    yield _series("ballast_replicas", "Engines in the view", engines)
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


def _series(name: str, text: str, values: Mapping[str, float]) -> Series:
    return name, text, ("model",), {(m,): v for m, v in values.items()}
