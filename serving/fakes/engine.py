"""A simulated vLLM engine: our `EngineReplica`'s HTTP without a GPU, with stated timing.

`python -m serving.fakes.engine --port 9000 --profile qwen3-32b-fp8-h100`, or `start_engine` in a
test's own loop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from models.capacity import PROFILES
from serving.fakes.engine_app import Engine
from serving.fakes.engine_settings import EngineSettings
from serving.fakes.server import Served, run_process, serve

__all__ = ["EngineSettings", "main", "start_engine"]

_KILLED = 137
"""Exit code of a process killed by SIGKILL, as a shell shows it."""


async def start_engine(
    settings: EngineSettings | None = None, die: Callable[[], None] | None = None
) -> Served:
    """Start an engine in the running loop; `url` includes its prefix. The caller closes it.

    `die` plays the end of the process (`die_after_requests`); by default listener and connections
    are dropped.
    """
    settings = settings or EngineSettings()
    await asyncio.sleep(settings.start_delay_s)
    engine = Engine(settings)
    served = await serve(engine.app(), settings.host, settings.port, settings.prefix)
    engine.die = die or served.kill
    return served


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a process until SIGTERM; prints one JSON line when listening."""
    parser = _parser()
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value != ""}
    path = given.pop("secret_file", None)
    try:
        if path:
            given["secrets"] = tuple(Path(path).read_text(encoding="utf-8").split())
        settings = EngineSettings(**given)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return run_process(lambda: start_engine(settings, die=lambda: os._exit(_KILLED)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving.fakes.engine", description=__doc__)
    default = {field.name: field.default for field in fields(EngineSettings)}
    texts = {
        "model": "name it serves",
        "profile": f"timing and memory: {', '.join(PROFILES)}",
        "host": "address to bind",
        "prefix": "route prefix such as /m/NAME",
    }
    for name, text in texts.items():
        parser.add_argument(f"--{name}", default=default[name], help=text)
    parser.add_argument("--secret-file", help="accepted x-ballast-secret values, one a line")
    for name, kind, text in (
        ("port", int, "0 = any free port"),
        ("time-scale", float, "0.1 = ten times faster than stated"),
        ("start-delay-s", float, "seconds before it listens"),
        ("max-num-seqs", int, "sequences in a batch; default the profile's"),
        ("max-queued-reqs", int, "sequences waiting and running; default twice the batch"),
        ("max-queued-tokens", int, "prompt tokens in prefill; default no limit"),
        ("max-model-len", int, "context, tokens"),
        ("output-tokens", int, "where answers end by themselves; default 32 to 256 by hash"),
        ("die-after-requests", int, "dies when one more generation request arrives"),
    ):
        field = name.replace("-", "_")
        parser.add_argument(f"--{name}", type=kind, default=default[field], help=text)
    for flag in ("prefix-caching", "prompt-tokens-details"):
        field = flag.replace("-", "_")
        parser.add_argument(
            f"--enable-{flag}", dest=field, default=default[field],
            action=argparse.BooleanOptionalAction, help="as vLLM's",
        )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
