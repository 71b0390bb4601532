"""The statements of both stores. Pure. Written with `?`; PostgreSQL takes `%s`."""

from __future__ import annotations

from typing import Any

from serving.quality.base import Found, encode_drifts, encode_run
from serving.quality.values import Run

ADD = (
    "INSERT INTO quality_runs (model, target, prompt, at_ms, is_baseline, facts)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model, target, prompt, at_ms) DO NOTHING"
)
RUNS = (
    "SELECT facts FROM (SELECT at_ms, is_baseline, facts FROM quality_runs"
    " WHERE model = ? AND target = ? ORDER BY is_baseline DESC, at_ms DESC LIMIT ?) AS latest"
    " ORDER BY at_ms"
)
CONCLUDE = (
    "INSERT INTO quality_found (model, target, at_ms, drifts) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (model, target) DO UPDATE SET at_ms = excluded.at_ms, drifts = excluded.drifts"
)
FOUND = "SELECT model, target, at_ms, drifts FROM quality_found ORDER BY model, target"
FORGET = "DELETE FROM quality_runs WHERE model = ? AND target = ?"
UNFOUND = "DELETE FROM quality_found WHERE model = ? AND target = ?"
TRIM = "DELETE FROM quality_runs WHERE at_ms < ? AND is_baseline = 0"


def added(run: Run) -> tuple[Any, ...]:
    """The values of ADD."""
    return run.model, run.target, run.prompt, run.at_ms, int(run.is_baseline), encode_run(run)


def concluded(found: Found) -> tuple[Any, ...]:
    """The values of CONCLUDE."""
    return found.model, found.target, found.at_ms, encode_drifts(found.drifts)
