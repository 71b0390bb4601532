"""The one-machine stack as its user meets it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

MODEL = "smollm2-135m-instruct"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def fetch(url: str, key: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of one request."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_models_were_listed_while_the_engine_was_loading(stack: Any) -> None:
    assert stack.early["status"] == "loading"


def test_an_early_chat_was_told_at_once_when_to_return(stack: Any) -> None:
    status, headers, body = stack.early["chat"]
    assert status == 503
    assert 1 <= int(headers["retry-after"]) <= 600
    assert json.loads(body)["error"]["code"] == "engine_loading"


def test_the_start_prints_url_key_and_a_curl_that_works(stack: Any) -> None:
    lines = stack.early["log"].splitlines()
    command = next(line for line in lines if line.startswith("curl "))
    assert any(line.strip() and stack.url in line for line in lines)
    assert any(stack.key in line for line in lines)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert MODEL in done.stdout


def test_tokenize_reaches_the_engine(stack: Any) -> None:
    status, answer = fetch(
        f"{stack.url}/tokenize", stack.key, {"model": MODEL, "prompt": "hello world"}
    )
    assert status == 200
    assert answer["count"] >= 2


@pytest.mark.parametrize(
    "path",
    ["/v1/load_lora_adapter", "/scale_elastic_ep", "/metrics", "/internal/load", "/health",
     "/collective_rpc", "/pause", "/v1/audio/voices", "/inference/v1/generate"],
)  # fmt: skip
def test_no_other_engine_route_is_reachable(stack: Any, path: str) -> None:
    status, answer = fetch(f"{stack.url}{path}", stack.key, {"model": MODEL})
    assert status == 404
    assert answer["error"]["code"] in ("not_found", "unsupported_surface")


def test_an_engine_refuses_without_the_deployment_secret(stack: Any) -> None:
    fleet = stack.get(f"{stack.ops}/fleet")["models"][MODEL]["replicas"]
    assert fleet
    status, _ = fetch(f"http://{fleet[0]['address']}/v1/models", stack.key)
    assert status == 401


def test_every_request_has_its_row_and_the_law_holds(stack: Any) -> None:
    status, headers, _ = stack.chat(max_tokens=4)
    assert status == 200
    wanted = headers["x-request-id"]

    def row() -> Any:
        with sqlite3.connect(f"file:{stack.state}/ledger.sqlite?mode=ro", uri=True) as books:
            return books.execute(
                "SELECT outcome, attempts, completion_tokens FROM requests WHERE request_id = ?",
                (wanted,),
            ).fetchone()

    until_s = time.monotonic() + 20
    while row() is None and time.monotonic() < until_s:
        time.sleep(0.2)
    assert row() == ("ok", 1, 4)


def test_metrics_and_signals_are_on_the_ops_listener(stack: Any) -> None:
    with urllib.request.urlopen(f"{stack.ops}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert 'ballast_requests_total{class="patient"' in text
    assert "ballast_first_token_seconds_bucket" in text or "ballast_queue_depth" in text
    signals = stack.get(f"{stack.ops}/signals")
    assert signals["version"] == 1
    assert set(signals["models"][MODEL]) >= {"running", "queued", "shed_total", "burst_total"}
    assert stack.get(f"{stack.ops}/readyz")["status"] == "ok"


def test_the_controller_observes_and_only_proposes(stack: Any) -> None:
    seen = stack.get(f"{stack.controller}/decisions")
    assert seen


def test_a_second_up_is_refused_while_the_first_runs(stack: Any) -> None:
    environ = os.environ | {"XDG_STATE_HOME": str(stack.state.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "ballast", "up"],
        env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode != 0
    assert str(stack.process.pid) in done.stdout + done.stderr


def test_status_shows_the_fleet(stack: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ballast", "status", "--json",
         "--config", str(stack.state.parent / "config.yaml")],
        env=os.environ | {"XDG_STATE_HOME": str(stack.state.parent)},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert MODEL in done.stdout
