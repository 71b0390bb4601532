"""The one-machine cluster in the foreground: Ray, Serve, engines; prints one JSON line per event.

`python -m serving.engine.cluster up --state DIR --spec FILE` runs until SIGTERM or SIGINT, then
ends every process it started. Ray's death is noticed and mended by starting it anew.
`down --state DIR` ends a running `up`. Imports neither ray nor vllm.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from serving.engine import processes, ray_head, weights
from serving.engine.hardware import cpu_flags, plan_cpu
from serving.engine.serve_rest import AppStatus, ServeApi, ServeError
from serving.engine.spec import ClusterSpec, EngineSpec, SpecError, cluster_spec

STATE_FILE = "cluster.json"
POLL_S = 0.5
RAY_UP_S_MAX = 180.0
STOP_GRACE_S = 6.0
EXIT_BAD_SPEC = 3
EXIT_FAILED = 4


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
        self._dashboard_port = spec.dashboard_port or ray_head.free_port()
        self._proxy_port = spec.proxy_port or ray_head.free_port()
        self._deaths = 0

    async def run(self) -> None:
        """Bring the cluster up, watch it, and start again when Ray dies."""
        weights_ready = asyncio.create_task(asyncio.to_thread(self._resolve_engines))
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
        head = ray_head.start_ray(self._spec, self._state, self._token_path, self._dashboard_port)
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
                if before is None or before[0] != phase or (
                    phase == "ready" and before[1].addresses != status.addresses
                ):
                    self._report(phase, status)
                    seen[status.name] = (phase, status)
            ready = {name for name, (phase, _) in seen.items() if phase == "ready"}
            if len(ready) == len(engines):
                self._deaths, deadline_s = 0, float("inf")
            elif time.monotonic() > deadline_s:
                late = sorted({engine.model_name for engine in engines} - ready)
                raise ClusterFailedError(f"not ready in time: {', '.join(late)}")
            await asyncio.sleep(POLL_S)

    async def _statuses(self, api: ServeApi) -> list[AppStatus]:
        try:
            return list((await api.statuses()).values())
        except (ServeError, aiohttp.ClientError, TimeoutError):
            return []  # Ray's death is seen by its process; a slow head is no news.

    def _report(self, phase: str, status: AppStatus) -> None:
        if phase == "failed":
            raise ClusterFailedError(f"{status.name}: {status.message}")
        fields: dict[str, Any] = {"model": status.name}
        if phase == "ready":
            fields["addresses"] = list(status.addresses)
        elif status.message:
            fields["reason"] = status.message
        self._events.emit(phase, **fields)

    def _resolve_engines(self) -> tuple[EngineSpec, ...]:
        return tuple(self._resolve(engine) for engine in self._spec.engines)

    def _resolve(self, engine: EngineSpec) -> EngineSpec:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        plan = plan_cpu(cpu_flags(cpuinfo), os.cpu_count() or 1)
        wanted = plan.dtype if engine.dtype == "auto" else engine.dtype
        dtype: weights.Dtype = "float32" if wanted == "float32" else "bfloat16"
        started_s = time.monotonic()
        path = weights.resolve(engine.model_path, Path(self._spec.cache_dir), dtype)
        self._events.emit(
            "weights_ready",
            model=engine.model_name,
            path=path,
            seconds=round(time.monotonic() - started_s, 2),
        )
        return msgspec.structs.replace(engine, model_path=path)


def phase_of(status: AppStatus) -> str:
    """The event a status stands for."""
    if status.addresses:
        return "ready"
    if status.status == "DEPLOY_FAILED":
        return "failed"
    if "STARTING" in status.replica_states:
        return "loading"
    return "unready" if status.status in ("RUNNING", "UNHEALTHY") else "replica_starting"


async def up(spec: ClusterSpec, state: Path) -> int:
    """Run the cluster until SIGTERM or SIGINT; the exit code."""
    events = Events()
    processes.become_subreaper()
    running = asyncio.create_task(Cluster(spec, state, events).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    code = 0
    try:
        await running
    except asyncio.CancelledError:
        events.emit("stopping")
    except (ClusterFailedError, weights.WeightsError) as error:
        events.emit("failed", reason=str(error))
        code = EXIT_FAILED
    finally:
        left = await processes.end_tree(STOP_GRACE_S)
        events.emit("stopped", left=left)
    return code


def run_up(state: Path, spec_path: Path) -> int:
    """Check the spec, hold the state folder's lock, run."""
    try:
        spec = cluster_spec(spec_path.read_bytes())
    except (OSError, SpecError) as error:
        sys.stderr.write(f"{spec_path}: {error}\n")
        return EXIT_BAD_SPEC
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (other := read_owner(state)) is not None:
        sys.stderr.write(f"{state} is in use by process {other.pid}\n")
        return EXIT_FAILED
    me = processes.identify(os.getpid())
    (state / STATE_FILE).write_text(json.dumps(me), encoding="utf-8")
    try:
        return asyncio.run(up(spec, state))
    finally:
        (state / STATE_FILE).unlink(missing_ok=True)


def run_down(state: Path, limit_s: float) -> int:
    """End the `up` that holds `state` and wait for it."""
    owner = read_owner(state)
    if owner is None:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + limit_s
    while processes.is_alive(owner):
        if time.monotonic() > deadline_s:
            sys.stderr.write(f"process {owner.pid} has not ended\n")
            return EXIT_FAILED
        time.sleep(0.1)
    return 0


def read_owner(state: Path) -> processes.ProcessIdentity | None:
    """The live process that runs `up` on this state folder."""
    try:
        pid, started = json.loads((state / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    owner = processes.ProcessIdentity(pid, started)
    return owner if processes.is_alive(owner) else None


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.engine.cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down"):
        command = commands.add_parser(name)
        command.add_argument("--state", required=True, type=Path, help="folder of this cluster")
        if name == "up":
            command.add_argument("--spec", required=True, type=Path, help="ClusterSpec as JSON")
    options = parser.parse_args(argv)
    state: Path = options.state.expanduser().resolve()
    if options.command == "down":
        return run_down(state, limit_s=20.0)
    return run_up(state, options.spec)


if __name__ == "__main__":
    sys.exit(main())
