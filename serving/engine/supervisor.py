"""Keeps one Ray head and its Serve applications up, and says what happens.

Ray's death is noticed by its process and mended by starting it anew, on the same REST port, and
deploying again. A replica's death is Serve's to mend; it is only reported.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from serving import start_record
from serving.engine import processes, ray_head
from serving.engine.hardware import cpu_flags, plan_cpu
from serving.engine.phases import News
from serving.engine.prepare import NotPreparedError, Prepared, fetch_row, order_of, prepare
from serving.engine.probe_spec import Probe
from serving.engine.serve_rest import AppStatus, ServeApi, ServeError
from serving.engine.spec import EMBEDDED, ClusterSpec, EngineSpec
from serving.engine.weights.demo import EMBEDDED_NAME, Dtype

POLL_S = 0.5
RAY_UP_S_MAX = 180.0
STOP_GRACE_S = 4.0
EMBEDDED_PROBE = Probe(prompt="What is the capital of France?", expect="contains:Paris")


class ClusterFailedError(Exception):
    """The cluster cannot come up; the message says why."""


class RayLostError(Exception):
    """Ray's head died; everything it ran is gone."""


class Events:
    """Writes progress: one JSON object per line on stdout."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def emit(self, event: str, **fields: Any) -> None:
        line = {"event": event, "at": time.time_ns() // 1_000_000}
        line["elapsed_s"] = round(time.monotonic() - self._started_s, 2)
        sys.stdout.write(json.dumps(line | fields, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class Cluster:
    """Keeps one Ray head and its applications up until cancelled."""

    def __init__(self, spec: ClusterSpec, state: Path, events: Events) -> None:
        self._spec = spec
        self._state = state
        self._events = events
        self._token_path = ray_head.ensure_token(state)
        self._ray_dir = ray_head.prepare_ray_dir(state)
        self._dashboard_port = spec.dashboard_port or ray_head.free_port()
        self._proxy_port = spec.proxy_port or ray_head.free_port()
        self._deaths = 0

    async def run(self) -> None:
        """Bring the cluster up, watch it, and start again when Ray dies."""
        weights_ready = asyncio.create_task(self._resolve_engines())
        try:
            while True:
                try:
                    await self._run_once(weights_ready)
                except RayLostError as error:
                    self._deaths += 1
                    self._events.emit("ray_lost", reason=str(error), deaths=self._deaths)
                    if self._deaths > self._spec.restarts_max:
                        raise ClusterFailedError("Ray keeps dying; see ray.log") from error
                    await processes.end_tree(STOP_GRACE_S)
                    await asyncio.sleep(min(10.0, self._deaths - 1))
        finally:
            weights_ready.cancel()

    async def _run_once(self, weights_ready: "asyncio.Task[tuple[EngineSpec, ...]]") -> None:
        self._events.emit("ray_starting")
        head = ray_head.start_ray(self._spec, self._state, self._ray_dir, self._dashboard_port)
        if not await ray_head.wait_for_port(self._dashboard_port, head, RAY_UP_S_MAX):
            raise RayLostError("Ray's REST API did not come up")
        url = f"http://{ray_head.LOOPBACK}:{self._dashboard_port}"
        self._events.emit("ray_up", dashboard=url, token_path=str(self._token_path), pid=head.pid)
        engines = await weights_ready
        token = self._token_path.read_text(encoding="utf-8")
        async with ServeApi(url, token) as api:
            await self._deploy(api, head, engines)
            await self._watch(api, head, engines)

    async def _deploy(
        self, api: ServeApi, head: ray_head.RayHead, engines: tuple[EngineSpec, ...]
    ) -> None:
        deadline_s = time.monotonic() + RAY_UP_S_MAX
        while True:
            try:
                await api.deploy(engines, self._proxy_port)
            except (ServeError, aiohttp.ClientError, TimeoutError) as error:
                if not head.is_alive():
                    raise RayLostError("Ray died while Serve started") from error
                if time.monotonic() > deadline_s:
                    raise ClusterFailedError(f"Serve refused the deployment: {error}") from error
                await asyncio.sleep(POLL_S)
            else:
                break
        for engine in engines:
            self._events.emit("app_submitted", model=engine.model_name)

    async def _watch(
        self, api: ServeApi, head: ray_head.RayHead, engines: tuple[EngineSpec, ...]
    ) -> None:
        """Report changes of state until Ray dies.

        An application that Serve has given up stays as it is: others serve on, and trying the same
        start for ever would only hide why it fails.
        """
        news, names = News(), {engine.model_name for engine in engines}
        deadline_s = time.monotonic() + self._spec.startup_s_max
        resting = {engine.model_name for engine in engines if not engine.num_replicas}
        while True:
            if not head.is_alive():
                raise RayLostError("Ray's head has ended")
            resting = {name for name in resting if not await self._has_rested(api, name)}
            for status in await self._statuses(api):
                for event, fields in news.events(status):
                    self._events.emit(event, **fields)
            ready, failed = news.named("ready") | news.named("asleep"), news.named("failed")
            if ready | failed >= names:
                self._deaths, deadline_s = 0 if ready else self._deaths, float("inf")
            elif time.monotonic() > deadline_s:
                late = sorted(names - ready - failed)
                raise ClusterFailedError(f"not ready in time: {', '.join(late)}")
            processes.reap_orphans()
            await asyncio.sleep(POLL_S)

    async def _has_rested(self, api: ServeApi, name: str) -> bool:
        """Ask for no replica of it, once its application is there; whether that was taken."""
        try:
            await api.scale(name, 0)
        except (ServeError, aiohttp.ClientError, TimeoutError):
            return False  # Serve still builds the application
        return True

    async def _statuses(self, api: ServeApi) -> list[AppStatus]:
        try:
            return list((await api.statuses()).values())
        except (ServeError, aiohttp.ClientError, TimeoutError):
            return []  # Ray's death is seen by its process; a slow head is no news.

    async def _resolve_engines(self) -> tuple[EngineSpec, ...]:
        """The engines whose weights are here. One without does not keep the others down."""
        found = await asyncio.gather(*(self._resolve(e) for e in self._spec.engines))
        ready = tuple(engine for engine in found if engine is not None)
        if not ready:
            raise ClusterFailedError("no engine's weights can be had; each says why above")
        return ready

    async def _resolve(self, engine: EngineSpec) -> EngineSpec | None:
        """In a process of its own, which ends with the cluster even amid a conversion."""
        name, times = engine.model_name, self._state / start_record.FILE
        engine = msgspec.structs.replace(
            engine,
            cache_dir=engine.cache_dir or self._spec.cache_dir,
            start_times=engine.start_times or str(times),
        )
        order = order_of(engine, self._spec.cache_dir, checkpoint_dtype(engine))

        def tell(event: str, fields: dict[str, Any]) -> None:
            self._events.emit(event, model=name, **fields)

        try:
            found = await prepare(order, engine, tell)
        except NotPreparedError as error:
            self._events.emit("failed", model=name, reason=str(error))
            return None
        fetched = {"path": found.path, "seconds": round(found.seconds, 2), "cold": found.is_cold}
        self._events.emit("weights_ready", model=name, **fetched)
        row = fetch_row(name, found, time.time_ns() // 1_000_000)
        start_record.append(Path(engine.start_times), [row])
        return resolved(engine, found)


def resolved(engine: EngineSpec, found: Prepared) -> EngineSpec:
    """The spec as it is deployed, with what is known of the embedded model filled in."""
    source = engine.source or engine.model_path
    changes: dict[str, Any] = {"model_path": found.path, "load": found.load, "source": source}
    if engine.model_path == EMBEDDED:
        changes |= {"tool_strict_level": "parameter", "source": EMBEDDED_NAME}
        if engine.probe == Probe():
            changes["probe"] = EMBEDDED_PROBE
    return msgspec.structs.replace(engine, **changes)


def checkpoint_dtype(engine: EngineSpec) -> Dtype:
    """In which of the two dtypes the embedded checkpoint is kept for this engine."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    plan = plan_cpu(cpu_flags(cpuinfo), os.cpu_count() or 1)
    wanted = plan.dtype if engine.dtype == "auto" else engine.dtype
    return "float32" if wanted == "float32" else "bfloat16"
