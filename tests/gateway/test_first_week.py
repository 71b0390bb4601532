"""A newcomer's first minute: a fresh folder, `ballast up --stage poc --try`, an answer, its cost,
a budget that refuses. Real processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]
MINUTE_S = 60.0


def free_ports(count: int) -> list[int]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class Newcomer:
    """Somebody at a terminal, and the stack in another."""

    def __init__(self, folder: Path, **more: Any) -> None:
        keys = {name for name in os.environ if name.endswith("_API_KEY")}
        self._environ = {n: v for n, v in os.environ.items() if n not in keys} | {
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "BALLAST_LANG": "en",
        }
        port, ops, controller = free_ports(3)
        config = folder / "ports.yaml"
        ports = {"gateway": {"port": port, "ops_port": ops}, "controller": {"ops_port": controller}}
        config.write_text(yaml.safe_dump(ports | more), "utf-8")
        self.log = folder / "up.log"
        with self.log.open("w") as log:
            self.up = subprocess.Popen(
                [*self._argv("up", "--stage", "poc", "--try"), "-c", str(config)],
                stdout=log, stderr=log, env=self._environ,
            )  # fmt: skip

    def plays(self, *words: str) -> subprocess.Popen[bytes]:
        """Something beside the stack, in its environment."""
        return subprocess.Popen(self._argv(*words), stdout=subprocess.DEVNULL, env=self._environ)

    def _argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ballast", *words]

    def types(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            self._argv(*words), capture_output=True, text=True, env=self._environ, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    def waits_until(self, mark: str) -> str:
        while mark not in (text := self.log.read_text("utf-8")):
            assert self.up.poll() is None, text
            time.sleep(0.05)
        return text


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    found = Newcomer(tmp_path)
    try:
        yield found
    finally:
        found.up.send_signal(signal.SIGINT)
        found.up.wait(30)


def test_a_newcomer_has_answer_cost_and_a_refusing_budget_in_a_minute(newcomer: Newcomer) -> None:
    began_s = time.monotonic()
    said = newcomer.waits_until("everything is up")
    assert "stage poc" in said
    assert "engine" not in [line.split()[2] for line in said.splitlines() if "process" in line]
    code, answer = newcomer.types("chat", "hello")
    assert code == 0, answer
    assert "simulated-a/simulated-a-chat" in answer
    assert "CNY 0.00" in answer
    first_s = time.monotonic() - began_s
    _, cost = newcomer.types("cost", "--json", "--days", "1")
    (money,) = json.loads(cost)["total"]["money"]
    assert (money["currency"], money["micro"] > 0) == ("CNY", True)
    _asks_both(newcomer)
    newcomer.types("budgets", "set", "poc-month", "0.0001", "--why", "to see it refuse")
    while True:  # every gateway obeys within a second
        code, refused = newcomer.types("chat", "hello")
        if code != 0:
            break
    assert "poc-month" in refused
    newcomer.types("budgets", "set", "poc-month", "100")
    newcomer.types("switch", "throw", "provider", "simulated-a", "--why", "to see its stand-in")
    while "simulated-b/" not in newcomer.types("chat", "hello")[1]:
        assert time.monotonic() - began_s < 2 * MINUTE_S
    spent_s = time.monotonic() - began_s
    print(f"first answer after {first_s:.0f} s, all of it after {spent_s:.0f} s")
    assert first_s < MINUTE_S


def _asks_both(newcomer: Newcomer) -> None:
    """The newcomer's questions, of both providers, with a key that is made and revoked for it."""
    file = newcomer.log.with_name("questions.yaml")
    one = {"id": "hello", "prompt": "Say hello.", "expect": {"contains": ["never"]}}
    file.write_text(yaml.safe_dump([one]), "utf-8")
    arms = ("--arm", "simulated-a/simulated-a-chat", "--arm", "simulated-b/simulated-b-chat")
    code, told = newcomer.types("evaluate", "run", str(file), *arms)
    assert (code, "questions passed" in told) == (0, True), told
    code, told = newcomer.types("evaluate", "gate")
    assert (code, "asked at least 20" in told) == (2, True), told
    keys = json.loads(newcomer.types("keys", "list", "--json")[1])
    assert [row["is_revoked"] for row in keys if row["id"].startswith("evaluation-")] == [True]


def test_a_trace_is_replayed_to_both_sides_and_becomes_a_report(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    model = {"name": "chat", "context_tokens": 32768,
             "offerings": ["simulated-a/simulated-a-chat"]}  # fmt: skip
    static = [{"model": "chat", "url": f"http://127.0.0.1:{port}"}]
    newcomer = Newcomer(tmp_path, models=[model], fleet={"static": static})
    trace, out = tmp_path / "trace.csv", tmp_path / "runs"
    rows = [f"{number / 10},200,20" for number in range(120)]
    trace.write_text("timestamp_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n", "utf-8")
    words = ("poc", "run", "--out", str(out), "--trace", str(trace), "--minutes", "0.1")
    try:
        newcomer.waits_until("everything is up")
        secret = tmp_path / "state" / "ballast" / "secret"
        engine = newcomer.plays("fake", "engine", "--model", "chat", "--port", str(port),
                                "--profile", "instant", "--secret-file", str(secret))  # fmt: skip
        try:
            while "an engine of ours" not in newcomer.types("chat", "hello")[1]:
                time.sleep(0.05)
            code, told = newcomer.types(*words)
            assert (code, "nothing was sent" in told) == (0, True), told
            assert not out.exists()
            killed = newcomer.plays(*words, "--yes")
            while not (out / "own" / "log.txt").exists():
                assert killed.poll() is None
                time.sleep(0.05)
            children = psutil.Process(killed.pid).children()
            killed.kill()
            killed.wait(10)
            assert psutil.wait_procs(children, timeout=30)[1] == [], "they end with their parent"
            code, told = newcomer.types(*words, "--yes", "--json")
            assert code == 0, told
            assert told.count("was left by a replay that was killed") == 3, told
        finally:
            engine.terminate()
            engine.wait(10)
        found = json.loads((out / "api" / "result.json").read_bytes())
        assert found["pin"] == "simulated-a/simulated-a-chat"
        assert found["summary"]["total"]["api_share"] == 1.0
        own = json.loads((out / "own" / "result.json").read_bytes())
        assert own["summary"]["total"]["api_share"] == 0.0
        assert "simulated providers answered" in (out / "poc.html").read_text("utf-8")
        keys = json.loads(newcomer.types("keys", "list", "--json")[1])
        assert [row["is_revoked"] for row in keys if row["id"].startswith("poc-run")] == [True] * 4
        assert "poc-run" not in newcomer.types("budgets", "list")[1]
    finally:
        newcomer.up.send_signal(signal.SIGINT)
        newcomer.up.wait(30)
