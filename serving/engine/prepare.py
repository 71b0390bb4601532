"""Makes weights ready in a process of its own, which neither blocks a loop nor outlives its owner.

Used by the cluster before it deploys, and by a replica for adapters, and for weights that nobody
has brought to its host.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.start_time import Cache, Row
from serving.engine.loading import Load
from serving.engine.spec import EngineSpec
from serving.engine.weights.demo import Dtype
from serving.engine.weights.resolve import Order

COMPLAINT_CHARS = 2000
OnEvent = Callable[[str, dict[str, Any]], None]


class NotPreparedError(Exception):
    """The weights cannot be had; the message is the fetcher's own."""


class Prepared(NamedTuple):
    """Weights on this host."""

    path: str
    load: Load
    is_cold: bool
    bytes_fetched: int
    seconds: float


async def prepare(order: Order, spec: EngineSpec, on_event: OnEvent) -> Prepared:
    """Run the fetcher; `on_event` hears how far it is. Raises NotPreparedError."""
    process = await asyncio.create_subprocess_exec(
        *command(order, spec), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaint = asyncio.create_task(process.stderr.read())
    found: Prepared | None = None
    try:
        async for line in process.stdout:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            event = fields.pop("event")
            if event == "resolved":
                found = Prepared(**fields)
            else:
                on_event(event, fields)
        await process.wait()
        said = (await complaint).decode("utf-8", errors="replace").strip()
    finally:
        complaint.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if found is None:
        raise NotPreparedError(said[-COMPLAINT_CHARS:] or "the fetcher ended without a word")
    return found


def order_of(spec: EngineSpec, cache_dir: str, dtype: Dtype) -> Order:
    """What an engine's spec asks of the fetcher."""
    # vLLM's own flag may say it too: then no weights are wanted.
    is_dummy = "dummy" in " ".join(spec.extra_args)
    return Order(
        spec.model_path, Path(spec.cache_dir or cache_dir), dtype=dtype, manifest=spec.manifest,
        load="dummy" if is_dummy else spec.load, with_code=spec.trust_remote_code is not None,
    )  # fmt: skip


def command(order: Order, spec: EngineSpec) -> list[str]:
    """The fetcher's command line. Holds no credentials: those are read from where the settings
    say, or inherited."""
    settings = msgspec.json.encode(spec.weights).decode()
    words = [sys.executable, "-m", "serving.engine.weights", "--json", "--settings", settings]
    words += ["--cache", str(order.cache), "--kind", order.kind, "--load", order.load]
    words += ["--dtype", order.dtype]
    if order.with_code:
        words.append("--with-code")
    if order.manifest:
        words += ["--manifest", order.manifest]
    for path, sha256 in order.sums:
        words += ["--sha256", f"{path}={sha256}"]
    return [*words, order.source]


def fetch_row(model: str, fetched: Prepared, at_ms: int) -> Row:
    """The fetch as a stage; it is of no GPU."""
    cache: Cache = "cold" if fetched.is_cold else "warm"
    return Row(model, "", cache, "fetch", fetched.seconds, at_ms)
