"""The start of one engine, in its order: weights, engine, adapters, smoke probe, then ready.

What each stage took is written down for whoever must say when an engine may be expected.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.start_time import Cache, Row, Stage, cache_state
from serving import start_record
from serving.engine.adapters import AdapterError, Adapters
from serving.engine.failed_starts import FailedStarts, pause_s
from serving.engine.flags import arguments, environment
from serving.engine.hardware import CpuPlan
from serving.engine.in_process import post
from serving.engine.loading import is_streamed
from serving.engine.prepare import NotPreparedError, Prepared, fetch_row, order_of, prepare
from serving.engine.probe_spec import Probe
from serving.engine.readiness import NotReadyError, fault, question
from serving.engine.spec import EngineSpec
from serving.engine.vllm_adapter import Engine, open_engine, preload_core

_log = logging.getLogger(__name__)


class Started(NamedTuple):
    """An engine that may serve."""

    spec: EngineSpec
    engine: Engine
    adapters: Adapters
    stages: dict[str, float]
    """Seconds by stage."""


async def start(spec: EngineSpec, plan: CpuPlan | None) -> Started:
    """Bring an engine up until it may be called ready. Raises NotReadyError with the reason."""
    failures = FailedStarts(spec)
    wait_s = pause_s(failures.count(), spec.starts_max)
    if wait_s:
        fields = {"model": spec.model_name, "failures": failures.count(), "wait_s": wait_s}
        _log.warning("start_paused", extra=fields)
        await asyncio.sleep(wait_s)
    try:
        started = await _start(spec, plan)
    except Exception:
        failures.failed()
        raise
    failures.succeeded()
    return started


async def _start(spec: EngineSpec, plan: CpuPlan | None) -> Started:
    spec, fetched = await bring(spec)
    begun_s = time.monotonic()
    os.environ.update(environment(spec, plan))
    if plan is not None:
        preload_core()
    engine = await open_engine(
        arguments(spec, plan), core_is_preloaded=plan is not None, begun_s=begun_s
    )
    opened_s = time.monotonic()
    try:
        adapters = Adapters(spec, engine, _progress)
        for adapter in spec.adapters:
            await adapters.load(adapter)
        if spec.probe is not None:
            await prove(engine.app, spec.probe, spec.model_name, engine.start.tasks)
    except (AdapterError, NotReadyError) as error:
        engine.close()
        raise _not_ready(spec, str(error)) from error
    except BaseException:
        engine.close()
        raise
    stages = {**engine.start.stages, "probe": time.monotonic() - opened_s}
    remember(spec, engine.start.gpu, stages, fetched)
    return Started(spec, engine, adapters, stages)


async def bring(spec: EngineSpec) -> tuple[EngineSpec, Prepared | None]:
    """Fetch weights that nobody has brought to this host. Raises NotReadyError."""
    if is_streamed(spec.model_path) or await asyncio.to_thread(os.path.isdir, spec.model_path):
        return spec, None
    if not spec.cache_dir:
        raise NotReadyError(f"{spec.model_path} is no folder here, and no cache_dir is set")
    try:
        found = await prepare(order_of(spec, spec.cache_dir, "bfloat16"), spec, _progress)
    except NotPreparedError as error:
        raise _not_ready(spec, str(error)) from error
    source = spec.source or spec.model_path
    return msgspec.structs.replace(
        spec, model_path=found.path, load=found.load, source=source
    ), found


async def prove(app: Any, probe: Probe, model: str, tasks: frozenset[str]) -> None:
    """Ask the engine the probe's question. Raises NotReadyError."""
    asked = question(probe, model, tasks)
    try:
        async with asyncio.timeout(probe.deadline_s):
            answer = await post(app, asked.path, asked.body)
    except TimeoutError:
        raise NotReadyError(f"smoke probe: no answer within {probe.deadline_s:.0f} s") from None
    if reason := fault(probe, asked, answer.status, answer.body):
        raise NotReadyError(f"smoke probe {probe.prompt[:80]!r}: {reason}")


def remember(
    spec: EngineSpec, gpu: str, stages: Mapping[str, float], fetched: Prepared | None
) -> None:
    """Write down what this start took."""
    if not spec.start_times:
        return
    path, now_ms = Path(spec.start_times), time.time_ns() // 1_000_000
    rows = []
    if fetched is not None:
        rows.append(fetch_row(spec.model_name, fetched, now_ms))
    cache = cache_state([*start_record.read(path), *rows], spec.model_name, gpu)
    rows += [_row(spec.model_name, gpu, cache, item, now_ms) for item in stages.items()]
    start_record.append(path, rows)


def _row(model: str, gpu: str, cache: Cache, item: tuple[str, float], at_ms: int) -> Row:
    stage: Stage = msgspec.convert(item[0], Stage)
    return Row(model, gpu, cache, stage, round(item[1], 3), at_ms)


def _not_ready(spec: EngineSpec, reason: str) -> NotReadyError:
    _log.error("replica_not_ready", extra={"model": spec.model_name, "reason": reason})
    return NotReadyError(f"{spec.model_name} is not ready: {reason}")


def _progress(event: str, fields: dict[str, Any]) -> None:
    _log.info(event, extra={"fields": fields})
