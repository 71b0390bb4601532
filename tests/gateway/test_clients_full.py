"""The real packages, unmodified, against a gateway process with a simulated engine and provider.

Each runs in an environment of its own (`benchmarks/clients/environments.py`), made the first time
and kept. A registry that cannot be reached fails the test: a client nobody ran is not supported.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.clients import environments

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]
CLIENTS = environments.clients()
RUN_S_MAX = 120.0
MODELS = [
    {"name": "m", "profile": "instant", "context_tokens": 32768},
    {"name": "api", "context_tokens": 32768, "offerings": ["alpha/big"]},
    {"name": "vectors", "profile": "instant", "surfaces": ["embeddings"]},
]
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches prices when it is imported
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "LANGSMITH_TRACING": "false",
    "CI": "true",
}
"""What keeps clients from calling home."""


def _environ(live, kit, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CLIENT_URL": f"{live.url}/v1",
        "CLIENT_KEY": kit.key_of("main"),
        "PYTHONUTF8": "1",
    } | QUIET


@pytest.mark.parametrize(
    "client",
    [pytest.param(c, id=name, marks=[pytest.mark.server] if c.is_node else [])
     for name, c in CLIENTS.items()],
)  # fmt: skip
def test_a_real_client_does_all_it_can_do(client, run_live, kit, tmp_path):
    if client.is_node and shutil.which("npm") is None:
        pytest.skip("npm and Node 20 or later are not installed")
    command = environments.make(client)
    checks: list[str] = []

    async def check(live, stack, tree) -> None:
        tree["fleet"]["static"] = [
            {"model": name, "url": served.url, "limit": 64}
            for name, served in zip(("m", "vectors"), stack.engines, strict=True)
        ]
        await live.start(tree)
        await live.ready()
        process = await asyncio.create_subprocess_exec(
            *command, env=_environ(live, kit, tmp_path), cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, complained = await asyncio.wait_for(process.communicate(), RUN_S_MAX)
        finally:
            if process.returncode is None:
                process.kill()
        told = _told(said)
        faults = {name: fault for name, fault in told.items() if fault}
        assert not faults, f"{faults}\n{complained.decode(errors='replace')[-3000:]}"
        assert {"chat", "stream", "tools", "stream_tools"} <= set(told)
        assert process.returncode == 0
        await _all_is_booked(live)
        checks.extend(sorted(told))

    run_live(
        check, engines=[kit.engine(), kit.engine(model="vectors")],
        providers={"alpha": kit.provider()}, models=MODELS, wait_s=RUN_S_MAX + 60,
    )  # fmt: skip
    if folder := os.environ.get("CLIENT_RESULTS"):  # for `python -m benchmarks.clients pages`
        result = {"versions": client.versions, "checks": checks}
        Path(folder, f"{client.name}.json").write_text(json.dumps(result), "utf-8")


def _told(said: bytes) -> dict[str, str]:
    """Fault by check; other lines are the package's own talk, which may share ours."""
    lines = [line[line.index('{"check"') :] for line in said.decode().split("\n")
             if '{"check"' in line]  # fmt: skip
    return {found["check"]: found["fault"] for found in map(json.loads, lines)}


async def _all_is_booked(live) -> None:
    """Nothing a client sent was found wrong, and the law holds on all of it."""
    seen = (await live.get("/decisions")).json["decisions"]
    assert seen
    assert {row["outcome"] for row in seen} == {"ok"}
    await live.rows(len(seen))
