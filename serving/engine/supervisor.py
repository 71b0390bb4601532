"""Keeps one Ray head and its Serve applications up, and says what happens.

Ray's death is noticed by its process and mended by starting it anew, on the same REST port, and
deploying again. A replica's death is Serve's to mend; it is only reported.
"""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from serving.engine import processes, ray_head
from serving.engine.hardware import cpu_flags, plan_cpu
from serving.engine.serve_rest import AppStatus, ServeApi, ServeError
from serving.engine.spec import EMBEDDED, ClusterSpec, EngineSpec

POLL_S = 0.5
REASON_CHARS_MAX = 300
RAY_UP_S_MAX = 180.0
STOP_GRACE_S = 4.0


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
        """Report changes of state until Ray dies or an application fails to deploy."""
        seen: dict[str, tuple[str, AppStatus]] = {}
        deadline_s = time.monotonic() + self._spec.startup_s_max
        while True:
            if not head.is_alive():
                raise RayLostError("Ray's head has ended")
            for status in await self._statuses(api):
                phase = phase_of(status)
                before = seen.get(status.name)
                if (
                    before is None
                    or before[0] != phase
                    or (phase == "ready" and before[1].addresses != status.addresses)
                ):
                    self._report(phase, status)
                    seen[status.name] = (phase, status)
            ready = {name for name, (phase, _) in seen.items() if phase == "ready"}
            if len(ready) == len(engines):
                self._deaths, deadline_s = 0, float("inf")
            elif time.monotonic() > deadline_s:
                late = sorted({engine.model_name for engine in engines} - ready)
                raise ClusterFailedError(f"not ready in time: {', '.join(late)}")
            processes.reap_orphans()
            await asyncio.sleep(POLL_S)

    async def _statuses(self, api: ServeApi) -> list[AppStatus]:
        try:
            return list((await api.statuses()).values())
        except (ServeError, aiohttp.ClientError, TimeoutError):
            return []  # Ray's death is seen by its process; a slow head is no news.

    def _report(self, phase: str, status: AppStatus) -> None:
        if phase == "failed":
            raise ClusterFailedError(f"{status.name}: {brief(status.message)}")
        fields: dict[str, Any] = {"model": status.name}
        if phase == "ready":
            fields["addresses"] = list(status.addresses)
        elif status.message:
            fields["reason"] = brief(status.message)
        self._events.emit(phase, **fields)

    async def _resolve_engines(self) -> tuple[EngineSpec, ...]:
        return tuple([await self._resolve(engine) for engine in self._spec.engines])

    async def _resolve(self, engine: EngineSpec) -> EngineSpec:
        """In a process of its own, which ends with the cluster even amid a conversion."""
        started_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.engine.weights", "--cache", self._spec.cache_dir),
            *("--dtype", checkpoint_dtype(engine), engine.model_path),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, complaint = await process.communicate()
        if process.returncode:
            raise ClusterFailedError(f"{engine.model_name}: {complaint.decode().strip()[-2000:]}")
        path = output.decode().strip()
        seconds = round(time.monotonic() - started_s, 2)
        self._events.emit("weights_ready", model=engine.model_name, path=path, seconds=seconds)
        strict = "parameter" if engine.model_path == EMBEDDED else engine.tool_strict_level
        return msgspec.structs.replace(engine, model_path=path, tool_strict_level=strict)


def checkpoint_dtype(engine: EngineSpec) -> str:
    """In which of the two dtypes the embedded checkpoint is kept for this engine."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    plan = plan_cpu(cpu_flags(cpuinfo), os.cpu_count() or 1)
    wanted = plan.dtype if engine.dtype == "auto" else engine.dtype
    return "float32" if wanted == "float32" else "bfloat16"


def phase_of(status: AppStatus) -> str:
    """The event a status stands for."""
    if status.addresses:
        return "ready"
    if status.status == "DEPLOY_FAILED":
        return "failed"
    if "STARTING" in status.replica_states:
        return "loading"
    return "unready" if status.status in ("RUNNING", "UNHEALTHY") else "replica_starting"


def brief(message: str) -> str:
    """The last line that says something of a failure's text: Ray sends whole tracebacks, coloured.
    All of it stands in the replica's log."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return lines[-1][:REASON_CHARS_MAX] if lines else ""
