"""Turns an EngineSpec into vLLM's command line and environment. Pure."""

import json

from serving.engine.adapter_spec import LoraLimits
from serving.engine.hardware import CpuPlan
from serving.engine.loading import load_environment, load_flags
from serving.engine.spec import EngineSpec

CPU_WORKER = "serving.engine.vllm_worker.ExactCPUWorker"
GPU_WORKER = "serving.engine.vllm_gpu_worker.MeasuredWorker"


def arguments(spec: EngineSpec, plan: CpuPlan | None) -> list[str]:
    """The `vllm serve` flags of `spec`; `plan` is given for a CPU engine."""
    dtype = plan.dtype if plan and spec.dtype == "auto" else spec.dtype
    flags = [
        *("--model", spec.model_path),
        *("--served-model-name", spec.model_name),
        *("--dtype", dtype),
        *("--max-num-seqs", str(spec.max_num_seqs)),
        *("--max-num-queued-reqs", str(spec.max_num_queued_reqs)),
        *("--max-num-queued-tokens", str(spec.max_num_queued_tokens)),
        *("--gpu-memory-utilization", str(spec.memory_fraction)),
        "--enable-prompt-tokens-details",
        "--disable-fastapi-docs",
        *load_flags(spec.load, spec.device),
    ]
    if spec.max_model_len is not None:
        flags += ["--max-model-len", str(spec.max_model_len)]
    if spec.enforce_eager:
        flags.append("--enforce-eager")
    if spec.runner != "auto":
        flags += ["--runner", spec.runner]
    if spec.hf_overrides:
        flags += ["--hf-overrides", json.dumps(spec.hf_overrides)]
    if spec.reasoning_parser is not None:
        flags += ["--reasoning-parser", spec.reasoning_parser]
    if spec.tool_parser is not None and spec.runner != "pooling":
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tool_parser]
        flags += ["--tool-strict-level", spec.tool_strict_level]
    if spec.device == "cpu":
        # One process for core and worker: no shared-memory hop per token, one import less.
        flags += ["--distributed-executor-backend", "uni", "--worker-cls", CPU_WORKER]
    else:
        flags += ["--worker-cls", GPU_WORKER]
    if spec.trust_remote_code:
        flags.append("--trust-remote-code")
    if spec.takes_adapters:
        limits = spec.lora or LoraLimits()
        flags += ["--enable-lora", "--max-lora-rank", str(limits.rank_max)]
        flags += ["--max-loras", str(limits.batch_max)]
        flags += ["--max-cpu-loras", str(max(limits.batch_max, limits.kept_max))]
    return [*flags, *spec.extra_args]


def environment(spec: EngineSpec, plan: CpuPlan | None) -> dict[str, str]:
    """Variables vLLM reads at import or when it starts its core; set before importing it."""
    common = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"} | spec.environment
    common |= load_environment(spec.model_path, spec.weights)
    if spec.device == "gpu" or plan is None:
        return common
    threads = str(spec.threads or plan.threads)
    return common | {
        "VLLM_CPU_KVCACHE_SPACE": str(spec.kv_cache_gib),
        # Without it vLLM's CPU platform turns the executor "uni" back into "mp".
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": threads,
        "VLLM_PLUGINS": "",  # none of ours; looking for them costs start-up time
    }
