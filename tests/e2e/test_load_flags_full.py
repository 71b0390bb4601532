"""Every way of loading, under the real argument parser of the installed vLLM."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="the extra `cpu` or `gpu` is not installed: vLLM's parser is untried",
    ),
]
PROGRAM = """
import json, sys
from serving.engine.flags import arguments
from serving.engine.hardware import CpuPlan
from serving.engine.spec import engine_spec
from serving.engine.vllm_adapter import parse

found = []
for fields in json.load(sys.stdin):
    spec = engine_spec({"model_name": "m", "model_path": "/m", "secret_path": "/s"} | fields)
    plan = CpuPlan("bfloat16", 2) if spec.device == "cpu" else None
    options, engine_args = parse(arguments(spec, plan))
    found.append([
        engine_args.load_format, engine_args.safetensors_load_strategy,
        bool(engine_args.enable_lora),
        engine_args.trust_remote_code, engine_args.worker_cls,
    ])
print("FOUND " + json.dumps(found))
"""
CPU, GPU = (
    "serving.engine.vllm_worker.ExactCPUWorker",
    "serving.engine.vllm_gpu_worker.MeasuredWorker",
)
CASES = [
    ({"load": "auto"}, ["safetensors", None, False, False, CPU]),
    ({"load": "prefetch"}, ["safetensors", "prefetch", False, False, CPU]),
    ({"load": "eager", "lora": {"rank_max": 64}}, ["safetensors", "eager", True, False, CPU]),
    ({"load": "lazy", "device": "gpu"}, ["safetensors", None, False, False, GPU]),
    ({"load": "runai_streamer", "device": "gpu", "model_path": "s3://b/m"},
     ["runai_streamer", None, False, False, GPU]),
    ({"load": "fastsafetensors", "device": "gpu", "trust_remote_code": "its own attention"},
     ["fastsafetensors", None, False, True, GPU]),
]  # fmt: skip


def test_vllm_takes_every_way_of_loading() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([fields for fields, _ in CASES]),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    assert json.loads(line.removeprefix("FOUND ")) == [wanted for _, wanted in CASES]
