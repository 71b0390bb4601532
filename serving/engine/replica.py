"""EngineReplica: one engine inside one Ray Serve replica.

Serve places, watches, drains and counts replicas; tokens never pass through it. With direct
ingress the replica's own port serves vLLM's app behind the Gate. Imports ray and vllm only when a
replica is made, so that building the application stays cheap.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from serving.engine.adapter_routes import reply
from serving.engine.asgi import App
from serving.engine.gate import Gate, read_secrets
from serving.engine.hardware import CpuPlan, cpu_flags, plan_cpu
from serving.engine.load import LoadReport, Watchdog
from serving.engine.spec import engine_spec
from serving.engine.starting import Started, start
from serving.engine.vllm_adapter import Engine, EngineDeadError


class EngineReplica:
    """The class Serve instantiates; `args` are the fields of an EngineSpec."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._spec = spec = engine_spec(args)
        self._secrets = read_secrets(Path(spec.secret_path).read_text(encoding="utf-8"))
        self._watchdog = Watchdog(spec.watchdog_s)
        self._engine: Engine | None = None
        self._started: Started | None = None
        self._started_ms = 0
        self._gate: Gate | None = None

    async def __serve_build_asgi_app__(self) -> App:
        """Serve's hook: start the engine inside the replica's loop, return the app to serve.

        Raises NotReadyError, whose reason Serve puts into the deployment's status.
        """
        plan = local_plan() if self._spec.device == "cpu" else None
        self._started = await start(self._spec, plan)
        self._engine = self._started.engine
        self._started_ms = _unix_ms()
        self._gate = Gate(self._engine.app, self._secrets, self)
        return self._gate

    def load(self) -> LoadReport:
        """The engine's load now."""
        engine = self._running()
        return engine.meter.report(engine.unfinished(), engine.queued_tokens(), _unix_ms())

    def is_draining(self) -> bool:
        """True once Serve has told this replica to stop."""
        return is_replica_stopping()

    def facts(self) -> dict[str, Any]:
        """What an engine tells of itself beside its load."""
        started = self._started
        assert started is not None, "the gate is made after the start"
        return {
            "limit": self._spec.max_num_queued_reqs,
            "started": self._started_ms,
            "model": self._spec.model_name,
            "adapters": started.adapters.names,
            "stages": {stage: round(s, 3) for stage, s in started.stages.items()},
        }

    async def adapters(
        self, method: str, name: str, body: bytes
    ) -> tuple[int, dict[str, Any], str]:
        """The internal adapter routes, for the gate."""
        assert self._started is not None, "the gate is made after the start"
        return await reply(self._started.adapters, method, name, body)

    async def check_health(self) -> None:
        """Raises if the engine core is dead, or silent for `watchdog_s` with work to do.

        Serve asks every few seconds, so this is also where a rotated secret is noticed.
        """
        self._refresh_secrets()
        engine = self._running()
        if engine.is_dead():
            raise EngineDeadError("the engine core has died")
        unfinished = engine.unfinished()
        if self._watchdog.is_dead(time.monotonic(), unfinished, engine.meter.steps):
            raise EngineDeadError(
                f"{unfinished} unfinished requests and no engine output "
                f"for {self._spec.watchdog_s:.0f} s"
            )

    def _refresh_secrets(self) -> None:
        """Take over a rotated secret; an empty or unreadable file changes nothing."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = read_secrets(Path(self._spec.secret_path).read_text(encoding="utf-8"))
            if found and self._gate is not None:
                self._gate.accept(found)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Custom metrics, for whoever reads Serve's own view."""
        load = self.load()
        return {
            "running": load.running,
            "waiting": load.waiting,
            "queued_tokens": load.queued_tokens,
        }

    def _running(self) -> Engine:
        assert self._engine is not None, "Serve asks nothing before the app is built"
        return self._engine

    def close(self, grace_s: float = 1.0) -> None:
        """End the engine, by force after `grace_s`; running requests fail."""
        engine = getattr(self, "_engine", None)  # absent if the constructor raised
        if engine is not None:
            engine.close(grace_s)

    def __del__(self) -> None:
        self.close()


def local_plan() -> CpuPlan:
    """The CPU plan for the machine this process may run on."""
    flags = cpu_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return plan_cpu(flags, len(os.sched_getaffinity(0)))


def is_replica_stopping() -> bool:
    """Whether Serve began the graceful shutdown of the replica this process hosts.

    Serve 2.60 tells user code nothing before the drain is over, so this reads the flag of its
    actor; the contract test fails if the flag moves.
    """
    from ray._private.worker import global_worker

    for actor in global_worker.actors.values():
        replica = getattr(actor, "_replica_impl", actor)
        if getattr(replica, "_shutting_down", False):
            return True
    return False


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
