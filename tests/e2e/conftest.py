"""One real stack for all e2e tests: `ballast up` with the embedded model, as a user starts it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

READY_S = 420.0
"""75-110 s quiet; four times that on a busy machine."""
STOP_S = 60.0
MODEL = "smollm2-135m-instruct"


class Stack:
    """A running `ballast up`."""

    def __init__(self, process: subprocess.Popen[str], state: Path, ports: tuple[int, int, int]):
        self.process = process
        self.state = state
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.ops = f"http://127.0.0.1:{ports[1]}"
        self.controller = f"http://127.0.0.1:{ports[2]}"
        self.early: dict[str, Any] = {}
        """What the gateway said before the engine was there."""

    @property
    def key(self) -> str:
        return (self.state / "demo-key").read_text(encoding="utf-8").strip()

    def get(self, url: str, key: str = "") -> Any:
        request = urllib.request.Request(url)
        if key:
            request.add_header("authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def chat(self, **fields: Any) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one plain chat."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hi."}]} | fields
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def status(self) -> str:
        """What `/v1/models` says of the model."""
        listed = self.get(f"{self.url}/v1/models", self.key)["data"]
        return str(next(m for m in listed if m["id"] == MODEL)["ballast"]["status"])


def eventually(check: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until `check` holds; fail naming `what` when it does not in time."""
    until_s = time.monotonic() + within_s
    while not check():
        if time.monotonic() > until_s:
            pytest.fail(f"not within {within_s:.0f} s: {what}")
        time.sleep(0.25)


def free_ports(count: int) -> tuple[int, ...]:
    """Ports nobody listens on now."""
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = tuple(holder.getsockname()[1] for holder in holders)
    for holder in holders:
        holder.close()
    return ports


def start(state_home: Path, config: dict[str, Any], log: Path) -> Stack:
    """`ballast up` in a session of its own."""
    public, ops, controller = free_ports(3)
    tree = config | {
        "gateway": {"port": public, "ops_port": ops} | config.get("gateway", {}),
        "controller": {"ops_port": controller} | config.get("controller", {}),
    }
    path = state_home / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    environ = os.environ | {"XDG_STATE_HOME": str(state_home), "NO_COLOR": "1", "COLUMNS": "200"}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ballast", "up", "--config", str(path)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    return Stack(process, state_home / "ballast", (public, ops, controller))


def answers(stack: Stack) -> bool:
    """Whether the gateway lists the model."""
    assert stack.process.poll() is None, "`ballast up` ended"
    try:
        return bool(stack.status())
    except (OSError, urllib.error.URLError):
        return False


def stop(stack: Stack) -> list[psutil.Process]:
    """Ctrl-C; the processes that outlived it."""
    tree = psutil.Process(stack.process.pid).children(recursive=True)
    stack.process.send_signal(signal.SIGINT)
    stack.process.wait(STOP_S)
    return psutil.wait_procs(tree, timeout=5)[1]


SECRETS = ("demo-key", "admin-key", "secret", "pepper", "review-key", "audit-key.pem", "ray_token")


def leaks(state: Path) -> list[str]:
    """Which secret stands in which log of a stack, after all that its tests did."""
    told = []
    for log in [*(state / "logs").rglob("*.log"), *state.glob("*.log")]:
        text = log.read_bytes()
        for name in SECRETS:
            words = [w for w in (state / name).read_bytes().split(b"\n") if len(w) > 20]
            words = [w for w in words if not w.startswith(b"-----")]
            told += [f"{name} in {log.name}" for word in words if word in text]
    return told


@pytest.fixture(scope="session")
def patience() -> Callable[[Callable[[], bool], str], None]:
    """Wait for what takes as long as an engine's start."""
    return lambda check, what: eventually(check, READY_S, what)


@pytest.fixture(scope="session")
def stacks() -> SimpleNamespace:
    """What a test needs that starts a stack of its own."""
    return SimpleNamespace(
        start=start, stop=stop, answers=answers, eventually=eventually, READY_S=READY_S, MODEL=MODEL
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, ready; ended by Ctrl-C, which must leave no process behind."""
    for package in ("ray", "vllm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: `make install` brings the extra `cpu`")
    home = tmp_path_factory.mktemp("stack")
    log = home / "up.log"
    running = start(home, {}, log)
    try:
        eventually(lambda: answers(running), 60, f"the gateway lists its model; see {log}")
        running.early["status"] = running.status()
        running.early["chat"] = running.chat(max_tokens=4)
        eventually(lambda: running.status() == "ready", READY_S, f"the engine is up; see {log}")
        running.early["log"] = log.read_text(encoding="utf-8")
        yield running
        left = stop(running)
        assert not left, f"Ctrl-C left {left}"
        assert leaks(running.state) == []
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
