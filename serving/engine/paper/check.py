"""Whether vLLM takes an engine's flags, stage by stage, as far as a machine without a GPU tells.

Each stage is vLLM's own code on the GPU on paper (`cuda.py`); the first that refuses ends the
check with vLLM's words.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Literal, NoReturn, TypeAlias

import msgspec

from serving.engine.paper.build import Built, Cache, build, cache
from serving.engine.paper.cuda import PaperGpu, become

Stage: TypeAlias = Literal["arguments", "parsers", "configuration", "model", "cache"]
STAGES: tuple[Stage, ...] = ("arguments", "parsers", "configuration", "model", "cache")
REFUSALS = (Exception, SystemExit)
"""How vLLM's code says no: in model files, by whatever breaks first; its parsers by leaving."""
WORDS_MAX = 400


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine."""

    id: str
    argv: tuple[str, ...]
    gpu: PaperGpu
    environment: dict[str, str] = {}
    kv_bytes: int = 0
    """Memory for keys and values on each GPU; 0 leaves the last stage out."""
    until: Stage = "cache"


class Verdict(msgspec.Struct, frozen=True):
    """What vLLM said."""

    id: str
    passed: tuple[Stage, ...]
    refused: str = ""
    """Its words at the first stage that is not in `passed`; empty when nothing refused."""
    built: Built | None = None
    cache: Cache | None = None
    settled: dict[str, Any] = {}
    """What vLLM made of the flags that it is known to change."""


def check(question: Question) -> Verdict:
    """Go through the stages."""
    passed: list[Stage] = []
    found = Verdict(question.id, ())
    become(question.gpu)
    os.environ.update(question.environment)
    try:
        for stage, now in _stages(question, found):
            passed.append(stage)
            found = now
    except REFUSALS as error:
        words = f"{type(error).__name__}: {error}".strip()[:WORDS_MAX]
        found = msgspec.structs.replace(found, refused=words)
    finally:
        for name in question.environment:
            os.environ.pop(name, None)
    return msgspec.structs.replace(found, passed=tuple(passed))


def _stages(question: Question, found: Verdict) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    options = _parser().parse_args(list(question.argv))
    validate_parsed_serve_args(options)
    yield "arguments", found
    _registered(options)
    yield "parsers", found
    if question.until == "parsers":
        return
    config = AsyncEngineArgs.from_cli_args(options).create_engine_config()
    found = msgspec.structs.replace(found, settled=_settled(config))
    yield "configuration", found
    if question.until == "configuration":
        return
    built, models = build(config)
    found = msgspec.structs.replace(found, built=built)
    yield "model", found
    if question.kv_bytes and models:
        found = msgspec.structs.replace(found, cache=cache(config, question.kv_bytes))
        yield "cache", found


@functools.cache
def _parser() -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        """Raises where the command line would print and exit."""

        def error(self, message: str) -> NoReturn:
            raise ValueError(message)

    return make_arg_parser(Parser())


def _registered(options: Any) -> None:
    """Raises KeyError for a parser that vLLM does not have."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    if options.tool_call_parser:
        ToolParserManager.get_tool_parser(options.tool_call_parser)
    if options.reasoning_parser:
        ReasoningParserManager.get_reasoning_parser(options.reasoning_parser)


def _settled(config: Any) -> dict[str, Any]:
    scheduler, model = config.scheduler_config, config.model_config
    return {
        "max_model_len": model.max_model_len,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "chunked_prefill": scheduler.enable_chunked_prefill,
        "prefix_caching": config.cache_config.enable_prefix_caching,
        "cache_dtype": str(config.cache_config.cache_dtype),
        "quantization": model.quantization,
        "runner": model.runner_type,
        "is_moe": model.is_moe,
        "is_hybrid": model.is_hybrid,
        "executor": str(config.parallel_config.distributed_executor_backend),
    }
