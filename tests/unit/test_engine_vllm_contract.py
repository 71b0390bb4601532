"""The names of vLLM and Ray that serving/engine leans on, read from the installed source.

Nothing is imported: vLLM's import takes many seconds and warns. A failure here means that an
upgrade moved something; the file named in the test is where to mend it.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

VLLM = [
    ("entrypoints/launchers/app.py", "build_app", {"args", "supported_tasks", "model_config"}),
    (
        "entrypoints/launchers/api_server/app_state.py",
        "init_app_state",
        {"engine_client", "state", "args", "supported_tasks"},
    ),
    ("entrypoints/launchers/cli_args.py", "make_arg_parser", {"parser"}),
    ("entrypoints/launchers/cli_args.py", "validate_parsed_serve_args", {"args"}),
    ("utils/argparse_utils.py", "FlexibleArgumentParser", set()),
    ("engine/arg_utils.py", "AsyncEngineArgs", set()),
    ("engine/arg_utils.py", "EngineArgs.from_cli_args", {"args"}),
    ("v1/engine/async_llm.py", "AsyncLLM.from_engine_args", {"engine_args", "stat_loggers"}),
    ("v1/engine/async_llm.py", "AsyncLLM.get_num_unfinished_requests", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.get_num_queued_tokens", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.get_supported_tasks", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.generate", {"prompt", "sampling_params", "request_id"}),
    (
        "v1/engine/detokenizer.py",
        "IncrementalDetokenizer.from_new_request",
        {"tokenizer", "request"},
    ),
    (
        "v1/engine/detokenizer.py",
        "BaseIncrementalDetokenizer.update",
        {"new_token_ids", "stop_terminated"},
    ),
    (
        "v1/engine/detokenizer.py",
        "BaseIncrementalDetokenizer.get_next_output_text",
        {"finished", "delta"},
    ),
    ("v1/engine/detokenizer.py", "IncrementalDetokenizer.num_output_tokens", set()),
    ("outputs.py", "CompletionOutput.stop_reason", set()),
    ("outputs.py", "RequestOutput.__init__", {"num_cached_tokens", "num_cache_creation_tokens"}),
    ("sampling_params.py", "SamplingParams.clone", set()),
    ("sampling_params.py", "SamplingParams.stop_token_ids", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.errored", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.shutdown", {"timeout"}),
    (
        "v1/metrics/loggers.py",
        "StatLoggerBase.record",
        {"scheduler_stats", "iteration_stats", "mm_cache_stats", "engine_idx"},
    ),
    ("v1/metrics/loggers.py", "StatLoggerBase.log_engine_initialized", set()),
    ("v1/metrics/stats.py", "SchedulerStats.num_running_reqs", set()),
    ("v1/metrics/stats.py", "SchedulerStats.kv_cache_usage", set()),
    ("v1/attention/backends/cpu_attn.py", "_get_attn_isa", {"dtype", "block_size"}),
    *(
        (
            "model_executor/layers/rotary_embedding/base.py",
            f"RotaryEmbedding.{name}",
            {"positions", "query", "key"},
        )
        for name in ("forward_cpu", "forward_native")
    ),
    ("v1/worker/cpu_worker.py", "CPUWorker", set()),
    ("v1/worker/gpu_worker.py", "Worker.load_model", set()),
    ("v1/worker/gpu_worker.py", "Worker.determine_available_memory", set()),
    ("v1/worker/gpu_worker.py", "Worker.initialize_from_config", {"kv_cache_config"}),
    ("v1/worker/gpu_worker.py", "Worker.compile_or_warm_up_model", set()),
    ("v1/worker/worker_base.py", "CompilationTimes.language_model", set()),
    ("v1/worker/worker_base.py", "CompilationTimes.encoder", set()),
    ("v1/engine/async_llm.py", "AsyncLLM.collective_rpc", {"method"}),
    ("v1/engine/async_llm.py", "AsyncLLM.remove_lora", {"lora_id"}),
    ("platforms/interface.py", "Platform.get_device_name", set()),
    ("entrypoints/serve/lora/protocol.py", "LoadLoRAAdapterRequest.lora_path", set()),
    ("entrypoints/serve/lora/protocol.py", "UnloadLoRAAdapterRequest.lora_name", set()),
    (
        "entrypoints/openai/models/serving.py",
        "OpenAIServingModels.load_lora_adapter",
        {"request"},
    ),
    (
        "entrypoints/openai/models/serving.py",
        "OpenAIServingModels.unload_lora_adapter",
        {"request"},
    ),
    ("utils/system_utils.py", "get_mp_context", set()),
    ("model_executor/models/registry.py", "_run_in_subprocess", {"fn"}),
]
TWINS = [
    ("qwen2_vl", "smart_resize", "Qwen2VLImageProcessorPil"),
    ("glm4v", "smart_resize", "Glm4vImageProcessorPil"),
]
RAY = [
    ("_private/services.py", "start_ray_process", {"command", "process_type"}),
    ("_private/ray_constants.py", "PROCESS_TYPE_DASHBOARD", set()),
    ("_private/ray_constants.py", "ENABLE_RAY_CLUSTERS_ENV_VAR", set()),
    ("dashboard/modules/serve/serve_head.py", "ServeHead", set()),
    ("serve/_private/constants.py", "RAY_SERVE_ENABLE_DIRECT_INGRESS", set()),
    ("serve/_private/constants.py", "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", set()),
    ("serve/_private/constants.py", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", set()),
    ("serve/_private/replica.py", "SERVE_BUILD_ASGI_APP_METHOD", set()),
    ("serve/_private/replica.py", "ReplicaActor", set()),
    ("serve/api.py", "ingress", {"app"}),
]


@pytest.mark.parametrize(("file", "name", "parameters"), VLLM, ids=lambda value: str(value)[-40:])
def test_vllm_still_has(file: str, name: str, parameters: set[str]) -> None:
    assert_defined(root_of("vllm"), file, name, parameters)


@pytest.mark.parametrize(("file", "name", "parameters"), RAY, ids=lambda value: str(value)[-40:])
def test_ray_still_has(file: str, name: str, parameters: set[str]) -> None:
    assert_defined(root_of("ray"), file, name, parameters)


@pytest.mark.parametrize(("name", "function", "processor"), TWINS)
def test_transformers_still_has_pillow_twins(name: str, function: str, processor: str) -> None:
    file = f"models/{name}/image_processing_pil_{name}.py"
    assert_defined(root_of("transformers"), file, function, {"height", "width"})
    assert_defined(root_of("transformers"), file, processor, set())


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("_private/worker.py", "self.actors = {}"),
        ("serve/_private/replica.py", "self._shutting_down = True"),
        ("serve/_private/replica.py", "self._replica_impl"),
        ("scripts/scripts.py", "get_ray_client_dependency_error()"),
        ("dashboard/dashboard.py", '"--modules-to-load"'),
    ],
)
def test_ray_source_still_says(file: str, text: str) -> None:
    assert text in (root_of("ray") / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "flag",
    ["--max-num-queued-reqs", "--max-num-queued-tokens", "--worker-cls", "--served-model-name",
     "--load-format", "--safetensors-load-strategy", "--trust-remote-code", "--enable-lora",
     "--max-loras", "--max-lora-rank", "--max-cpu-loras"],
)  # fmt: skip
def test_vllm_still_has_the_flag(flag: str) -> None:
    source = (root_of("vllm") / "engine/arg_utils.py").read_text(encoding="utf-8")
    options = (root_of("vllm") / "entrypoints/launchers/cli_args.py").read_text(encoding="utf-8")
    assert f'"{flag}"' in source + options


def test_vllm_still_has_the_load_formats() -> None:
    root = root_of("vllm")
    formats = (root / "model_executor/model_loader/__init__.py").read_text(encoding="utf-8")
    strategies = (root / "config/load.py").read_text(encoding="utf-8")
    for name in ("safetensors", "runai_streamer", "fastsafetensors"):
        assert f'"{name}"' in formats
    assert 'SafetensorsLoadStrategy: TypeAlias = Literal["lazy", "eager", "prefetch"' in strategies


def test_vllm_still_has_the_lora_ranks() -> None:
    source = (root_of("vllm") / "config/lora.py").read_text(encoding="utf-8")
    assert "MaxLoRARanks = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]" in source


def test_vllm_still_keeps_its_models_on_the_app_state() -> None:
    path = root_of("vllm") / "entrypoints/launchers/api_server/app_state.py"
    assert "state.openai_serving_models = " in path.read_text(encoding="utf-8")


def root_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed (extra `cpu` or `gpu`): its contract is unchecked")
    return Path(spec.origin).parent


def assert_defined(root: Path, file: str, name: str, parameters: set[str]) -> None:
    body: list[ast.stmt] = ast.parse((root / file).read_text(encoding="utf-8")).body
    *classes, last = name.split(".")
    for label in classes:
        body = next(n.body for n in body if isinstance(n, ast.ClassDef) and n.name == label)
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == last:
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            assert parameters <= {argument.arg for argument in arguments}
            return
        if last in bound_names(node):
            return
    pytest.fail(f"{file} no longer defines {name}")


def bound_names(node: ast.stmt) -> set[str]:
    """Names a class, import or assignment statement binds."""
    if isinstance(node, ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom | ast.Import):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()
