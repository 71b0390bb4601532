"""The ops listener: probes, metrics, demand signals, the fleet and the latest decisions.

For loopback and cluster networks only; holds no secret and no prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, Response

from serving.admission import Admission
from serving.logs import RequestLog, utc_ms
from serving.metrics import Metrics
from serving.observer import Observer
from serving.records import FleetView, Price
from serving.waiting import Queue


class Facts(NamedTuple):
    """What the ops listener reads; built by the composition root."""

    instance: str
    started_ms: int
    models: tuple[str, ...]
    view: Callable[[], FleetView]
    admission: Admission
    queue: Queue
    observer: Observer
    metrics: Metrics
    log: RequestLog
    clock: Callable[[], float]
    faults: Callable[[], list[str]]
    """Reasons why new work would be refused now."""
    away: Callable[[], Mapping[str, str]]
    """Why a source of the fleet, or a store of limits, does not answer, by its name."""
    troubles: Callable[[], Mapping[str, str]] = dict
    """Why engines of a model did not start, by model."""
    drifting: Callable[[], frozenset[str]] = frozenset
    """Offerings that canaries say have changed."""


def build(facts: Facts) -> FastAPI:
    """The ops application."""
    app = FastAPI(title="Ballast ops", docs_url=None, redoc_url=None)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        faults = facts.faults()
        response.status_code = 503 if faults else 200
        status = "draining" if "draining" in faults else "refusing" if faults else "ok"
        return {"status": status, "reasons": faults}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(facts.metrics.render(), media_type="text/plain; version=0.0.4")

    @app.get("/signals")
    async def read_signals() -> Response:
        return _json(signals(facts))

    @app.get("/fleet")
    async def read_fleet() -> Response:
        return _json(fleet(facts))

    @app.get("/decisions")
    async def decisions(limit: int = 50, request_id: str = "") -> Response:
        lines = list(facts.log.recent)
        if request_id:
            lines = [line for line in lines if getattr(line, "request_id", "") == request_id]
        return _json({"decisions": lines[-max(1, min(limit, 256)) :][::-1]})

    return app


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")


def signals(facts: Facts) -> dict[str, Any]:
    """Demand as the controller reads it, version 1."""
    view, now_s = facts.view(), facts.clock()
    held, demand = facts.queue.snapshot(now_s), facts.observer.demand
    models = {}
    for name in facts.models:
        calls, tokens, oldest_s = held.get(name, (0, 0, 0.0))
        models[name] = {
            "running": max(0, facts.admission.running(name) - demand.filling(name)),
            "queued": calls,
            "queued_tokens": tokens,
            "oldest_wait_s": round(oldest_s, 3),
            **demand.totals(name),
            "is_shut": _is_shut(facts, view, name, now_s),
        }
    return {
        "version": 1,
        "instance": facts.instance,
        "started": facts.started_ms,
        "at": utc_ms(),
        "models": models,
    }


def _is_shut(facts: Facts, view: FleetView, model: str, now_s: float) -> bool:
    """Whether calls of a model could leave, but every third party passes for absent."""
    rows = view.offerings.get(model, ())
    return bool(rows) and all(facts.admission.is_shut(row.id, now_s) for row in rows)


def fleet(facts: Facts) -> dict[str, Any]:
    """The view in words: what could serve a call now, and why not."""
    view, now_s, troubles = facts.view(), facts.clock(), facts.troubles()
    models: dict[str, Any] = {}
    for name in facts.models:
        pending = view.pending.get(name)
        models[name] = {
            "replicas": [
                {"id": r.id, "address": f"{r.host}:{r.port}{r.prefix}", "limit": r.limit}
                | _state(facts, r.id, now_s)
                for r in view.replicas.get(name, ())
            ],
            "offerings": [
                {
                    "id": o.id,
                    "jurisdiction": o.label.jurisdiction,
                    "price": _price(o.price),
                    "is_drifting": o.id in facts.drifting(),
                }
                | _state(facts, o.id, now_s)
                for o in view.offerings.get(name, ())
            ],
            "spill_share": round(view.spills[name].share, 2) if name in view.spills else 0.0,
            "expected_in_s": None if pending is None else round(pending.expected_s - now_s, 1),
            "trouble": troubles.get(name),
        }
    age_s = round(now_s - view.observed_s, 3)
    return {"seq": view.seq, "age_s": age_s, "away": dict(facts.away()), "models": models}


def _price(price: Price) -> dict[str, Any]:
    return {
        "currency": price.currency,
        "input_micro_per_mtok": price.input_micro_per_mtok,
        "output_micro_per_mtok": price.output_micro_per_mtok,
        "cached_micro_per_mtok": price.cached_micro_per_mtok,
    }


def _state(facts: Facts, target_id: str, now_s: float) -> dict[str, Any]:
    state = facts.admission.state.get(target_id)
    if state is None:
        return {}
    breaker = "closed"
    if state.open_until_s:
        breaker = "open" if now_s < state.open_until_s else "half-open"
    return {
        "unfinished": state.unfinished,
        "waiting": state.load.waiting,
        "running": state.load.running,
        "kv": round(state.load.kv_use, 4),
        "breaker": breaker,
        "scale": round(state.scale, 3),
    }
