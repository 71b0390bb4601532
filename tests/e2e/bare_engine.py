"""A real engine behind its gate without Ray, for tests that need many requests and no cluster.

`python bare_engine.py SPEC_JSON PORT`: serves on loopback until SIGTERM; prints one JSON line when
it is ready.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from serving.engine.gate import Gate, read_secrets
from serving.engine.load import LoadReport
from serving.engine.replica import local_plan
from serving.engine.spec import EngineSpec, engine_spec
from serving.engine.starting import Started, start


class _Status:
    """What the gate asks of the replica behind it."""

    def __init__(self, started: Started, spec: EngineSpec) -> None:
        self._engine, self._spec = started.engine, spec

    def load(self) -> LoadReport:
        engine = self._engine
        now_ms = time.time_ns() // 1_000_000
        return engine.meter.report(engine.unfinished(), engine.queued_tokens(), now_ms)

    def is_draining(self) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"limit": self._spec.max_num_queued_reqs, "model": self._spec.model_name}

    async def adapters(
        self, method: str, name: str, body: bytes
    ) -> tuple[int, dict[str, Any], str]:
        return 404, {"message": "no adapters here"}, "not_found"


async def main(spec: EngineSpec, secrets: tuple[bytes, ...], port: int) -> None:
    started = await start(spec, local_plan())
    gate = Gate(started.engine.app, secrets, _Status(started, spec))
    config = uvicorn.Config(gate, host="127.0.0.1", port=port, lifespan="off", log_level="warning")
    print(json.dumps({"event": "ready", "stages": started.stages}), flush=True)
    try:
        await uvicorn.Server(config).serve()
    finally:
        started.engine.close()


if __name__ == "__main__":
    asked = engine_spec(json.loads(sys.argv[1]))
    accepted = read_secrets(Path(asked.secret_path).read_text(encoding="utf-8"))
    asyncio.run(main(asked, accepted, int(sys.argv[2])))
