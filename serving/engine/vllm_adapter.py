"""Every vLLM import of Ballast, in one place, so that an upgrade is one file and one test.

vLLM is imported inside `open_engine`, after its environment is set: it reads some variables at
import. tests/unit/test_engine_vllm_contract.py asserts the names and parameters used here.
"""

import multiprocessing
import time
from argparse import Namespace
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any, NamedTuple

from serving.engine.asgi import App
from serving.engine.load import EngineMeter
from serving.engine.vllm_cpu import inspect_models_here, use_pillow_without_torchvision
from serving.engine.vllm_resume import following


class EngineDeadError(RuntimeError):
    """The engine core has died; the replica must be replaced."""


class StartFacts(NamedTuple):
    """How the engine came up."""

    gpu: str
    """`2x NVIDIA H200`, or `cpu`."""
    tasks: frozenset[str]
    """What the model can be asked for: generate, embed, score, ..."""
    stages: dict[str, float]
    """Seconds of start, load, compile and warm_up."""


class Engine:
    """One running AsyncLLM and vLLM's own OpenAI app around it."""

    def __init__(self, llm: Any, app: Any, meter: EngineMeter, facts: "StartFacts") -> None:
        self.app: App = app
        self.meter = meter
        self.start = facts
        self._llm = llm
        self._models = app.state.openai_serving_models

    def unfinished(self) -> int:
        """Requests waiting or running."""
        return int(self._llm.get_num_unfinished_requests())

    def queued_tokens(self) -> int:
        """Prompt tokens of requests still in prefill, as vLLM's admission counts them."""
        return int(self._llm.get_num_queued_tokens())

    def is_dead(self) -> bool:
        """True once the core process is gone or reported a fatal error."""
        return bool(self._llm.errored)

    def max_model_len(self) -> int:
        """Tokens of prompt and answer together."""
        return int(self._llm.model_config.max_model_len)

    async def load_adapter(self, name: str, folder: str) -> str:
        """Make a LoRA adapter a model name; why it could not be, or ""."""
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        asked = LoadLoRAAdapterRequest(lora_name=name, lora_path=folder)
        return _refusal(await self._models.load_lora_adapter(asked))

    async def unload_adapter(self, name: str) -> str:
        """Forget an adapter and free its room; why it could not be, or ""."""
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        known = self._models.lora_requests.get(name)
        refusal = _refusal(
            await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
        )
        if known is not None and not refusal:
            await self._llm.remove_lora(known.lora_int_id)
        return refusal

    def adapters(self) -> dict[str, str]:
        """The folder of each loaded adapter, by its name."""
        return {name: str(r.lora_path) for name, r in self._models.lora_requests.items()}

    def close(self, grace_s: float = 1.0) -> None:
        """End the engine core, by force after `grace_s`; running requests fail."""
        self._llm.shutdown(timeout=grace_s)


def preload_core() -> None:
    """Begin importing vLLM in the process the engine core will be forked from.

    The core normally starts importing when the front end has finished; side by side they take
    half as long. For CPU engines only: a GPU's core must be spawned.
    """
    multiprocessing.set_forkserver_preload(["vllm.v1.engine.core", "serving.engine.vllm_worker"])
    forkserver.ensure_running()


async def open_engine(
    arguments: list[str], *, core_is_preloaded: bool, begun_s: float | None = None
) -> Engine:
    """Start an engine from `vllm serve` flags. Blocks its loop for tens of seconds.

    `begun_s`: monotonic time from which the stage `start` counts; None is now.
    """
    import vllm.v1.engine.utils as engine_utils
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.v1.engine.async_llm import AsyncLLM

    if core_is_preloaded:
        # vLLM forces "spawn" inside Ray actors, because fork would copy the actor's threads. The
        # fork server is a fresh process without any.
        engine_utils.get_mp_context = lambda: multiprocessing.get_context("forkserver")
        use_pillow_without_torchvision()
        inspect_models_here()
    begun_s = time.monotonic() if begun_s is None else begun_s
    options, engine_args = parse(arguments)
    meter = EngineMeter()
    llm = following(AsyncLLM).from_engine_args(engine_args, stat_loggers=[_stat_logger(meter)])
    try:
        tasks = await llm.get_supported_tasks()
        app = build_app(options, tasks, llm.model_config)
        # vLLM's error handler stops `server` when the engine is dead; Serve's health check does.
        app.state.server = SimpleNamespace(should_exit=False)
        await init_app_state(llm, app.state, options, tasks)
        facts = StartFacts(_device(llm), frozenset(tasks), await _stages(llm, begun_s))
    except BaseException:
        llm.shutdown(timeout=1.0)
        raise
    return Engine(llm, app, meter, facts)


async def _stages(llm: Any, begun_s: float) -> dict[str, float]:
    """The slowest worker's time for each stage, and what no worker accounts for as `start`."""
    told: list[dict[str, float]] = await llm.collective_rpc("stage_seconds")
    stages = {stage: max(seconds[stage] for seconds in told) for stage in told[0]}
    rest_s = time.monotonic() - begun_s - sum(stages.values())
    return {"start": max(0.0, rest_s)} | stages


def _device(llm: Any) -> str:
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return "cpu"
    count = llm.vllm_config.parallel_config.world_size
    return f"{count}x {current_platform.get_device_name()}"


def _refusal(answer: Any) -> str:
    """vLLM answers its LoRA calls with a text, or with an error response."""
    error = getattr(answer, "error", None)
    return "" if error is None else str(error.message)


def parse(arguments: list[str]) -> tuple[Namespace, Any]:
    """vLLM's parsed options and its AsyncEngineArgs; a bad flag raises SystemExit."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    options = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    validate_parsed_serve_args(options)
    return options, AsyncEngineArgs.from_cli_args(options)


def _stat_logger(meter: EngineMeter) -> Any:
    """A factory for vLLM's stat logger interface that feeds `meter`, per engine core output."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class MeterLogger(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

        def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
            if scheduler_stats is None:
                meter.record(None, None)
            else:
                meter.record(scheduler_stats.num_running_reqs, scheduler_stats.kv_cache_usage)

        def log_engine_initialized(self) -> None: ...

    return MeterLogger
