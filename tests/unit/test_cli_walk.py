"""The README's walk without an account: `up --no-engine` beside a simulated provider, as typed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import yaml

WAIT_S = 60.0
"""For one command."""
WALK_S = 300.0
"""For all commands of a walk: some ten processes in turn, on a machine that is busy."""
BALLAST = (sys.executable, "-m", "ballast")


class Walk:
    """A state folder, three free ports, and what was started on them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # What whoever runs the tests has set (a language, a port, a token) is not the walk's.
        outside = {k: v for k, v in os.environ.items() if not k.startswith("BALLAST_")}
        self.environ = outside | {
            "BALLAST_LANG": "en", "XDG_STATE_HOME": str(home), "XDG_CACHE_HOME": str(home),
            "NO_COLOR": "1", "COLUMNS": "200", "FAKE_KEY": "sk-test", "HF_TOKEN": "hf-secret",
        }  # fmt: skip
        self.started: list[subprocess.Popen[str]] = []
        holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        self.ports = [holder.getsockname()[1] for holder in holders]
        for holder in holders:
            holder.close()

    def config(self, name: str, **more: object) -> str:
        public, ops, controller, _ = self.ports
        tree = {"gateway": {"port": public, "ops_port": ops},
                "controller": {"ops_port": controller}}  # fmt: skip
        path = self.home / name
        path.write_text(yaml.safe_dump(tree | more), encoding="utf-8")
        return str(path)

    def start(self, *arguments: str, until: str) -> tuple[subprocess.Popen[str], list[str]]:
        """A command that stays, and its lines up to the one that holds `until`."""
        process = subprocess.Popen(
            [*BALLAST, *arguments], env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.started.append(process)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if until in line:
                return process, lines
        raise AssertionError(f"{until!r} never came: {lines}")

    def run(self, *arguments: str) -> tuple[int, str]:
        """A command that ends: its exit code and its words."""
        done = subprocess.run(
            [*BALLAST, *arguments], env=self.environ, stdin=subprocess.DEVNULL, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S,
        )  # fmt: skip
        return done.returncode, " ".join(done.stdout.split())

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    walk = Walk(tmp_path)
    try:
        yield walk
    finally:
        walk.end()


def environ_of(process: psutil.Process, module: str) -> set[str]:
    """Names that the child which runs `module` inherited."""
    for child in process.children():
        if module in child.cmdline():
            words = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
            return {word.partition(b"=")[0].decode() for word in words if word}
    raise AssertionError(f"nobody runs {module}")


@pytest.mark.timeout(WALK_S)
def test_a_newcomer_asks_learns_why_and_what_it_cost_and_leaves_nothing_behind(walk: Walk) -> None:
    port = walk.ports[3]
    walk.start("fake", "provider", "--port", str(port), "--key", "sk-test", until="127.0.0.1")
    access = {
        "id": "deepseek",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "api_key_env": "FAKE_KEY",
    }
    config = walk.config("peaks.yaml", providers=[access])
    code, said = walk.run("doctor", "--no-engine", "--config", config)
    assert (code, "something can answer" in said) == (0, True), said

    up, lines = walk.start("up", "--no-engine", "--config", config, until="everything is up")
    assert not any("warning" in line for line in lines)
    assert any(line.startswith("curl ") for line in lines)
    family = psutil.Process(up.pid)
    assert "FAKE_KEY" in environ_of(family, "serving.app")
    for module in ("serving.app", "autoscale.app"):
        assert "HF_TOKEN" not in environ_of(family, module)
    assert "FAKE_KEY" not in environ_of(family, "autoscale.app")

    code, said = walk.run("chat", "hello", "--max-tokens", "8")
    assert code == 0, said
    assert "deepseek/deepseek-flash, an API (overflow:no_replica): " in said
    assert " tokens, USD 0.00" in said
    request_id = said.rpartition("ballast explain ")[2]
    code, said = walk.run("explain", request_id)
    assert code == 0, said
    assert f"{request_id} was answered (HTTP 200). asked Key demo of tenant demo" in said
    assert "an API in cn, because no engine of ours could be used" in said
    code, said = walk.run("status", "--json")
    (row,) = msgspec.json.decode(said)["money"]["rows"]
    assert (row["target"], row["currency"], row["attempts"]) == (
        "deepseek/deepseek-flash",
        "USD",
        1,
    )

    children = family.children(recursive=True)
    up.send_signal(signal.SIGINT)
    assert up.wait(WAIT_S) == 0
    assert psutil.wait_procs(children, timeout=5)[1] == []
    code, said = walk.run("explain", request_id)
    assert "USD 0.00" in said, "the ledger alone knows it too"


@pytest.mark.timeout(WALK_S)
def test_the_owner_makes_a_tenant_and_a_key_that_calls(walk: Walk) -> None:
    port = walk.ports[3]
    walk.start("fake", "provider", "--port", str(port), "--key", "sk-test", until="127.0.0.1")
    url = f"http://127.0.0.1:{port}/v1"
    access = {"id": "deepseek", "base_url": url, "api_key_env": "FAKE_KEY"}
    config = walk.config("peaks.yaml", providers=[access])
    code, said = walk.run("tenants", "list")
    assert (code, "run `ballast up` once" in said) == (1, True), said
    walk.start("up", "--no-engine", "--config", config, until="everything is up")
    for words in (
        ("tenants", "create", "acme", "--residency", "named", "--jurisdiction", "cn"),
        ("projects", "create", "acme", "shop"),
    ):
        code, said = walk.run(*words)
        assert code == 0, said
    code, said = walk.run("keys", "create", "acme-web", "--tenant", "acme", "--project", "shop")
    assert (code, "shown this once" in said) == (0, True), said
    (key,) = {word for word in said.replace("'", " ").split() if word.startswith("bl-")}
    state = walk.home / "ballast"
    kept = (state / "demo-key").read_text()
    (state / "demo-key").write_text(key)  # `chat` asks with what is there
    code, said = walk.run("chat", "hello", "--max-tokens", "4")
    (state / "demo-key").write_text(kept)
    assert (code, "an API (overflow)" in said) == (0, True), said
    code, said = walk.run("explain")
    assert "Key acme-web of tenant acme" in said, said
    code, said = walk.run("history", "verify")
    # The policy of the settings at the start, and the three acts.
    assert (code, "whole: 4 changes" in said) == (0, True), said
    logs = "".join(path.read_text() for path in (state / "logs").iterdir())
    for secret in (key, (state / "admin-key").read_text(), (state / "pepper").read_text()):
        assert secret not in logs


def test_a_start_that_nothing_can_answer_says_so_and_what_to_do(walk: Walk) -> None:
    config = walk.config("alone.yaml")
    up, lines = walk.start("up", "--no-engine", "--config", config, until="switch a provider on")
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert "nothing can answer calls of smollm2-135m-instruct" in warning
    _, said = walk.run("doctor")  # of that one, whose ports no settings here name
    assert f"runs, as process {up.pid}: judged by the settings it was started with" in said
    assert "nothing can answer calls of smollm2-135m-instruct" in said


@pytest.mark.parametrize("missing", ["key", "port"])
def test_a_start_that_is_refused_leaves_no_process(walk: Walk, missing: str) -> None:
    if missing == "key":
        del walk.environ["FAKE_KEY"]
        access = {"id": "deepseek", "api_key_env": "FAKE_KEY"}
        code, said = walk.run("up", "--no-engine", "--config",
                              walk.config("keyless.yaml", providers=[access]))  # fmt: skip
        assert (code, "providers.deepseek: set FAKE_KEY" in said) == (3, True), said
    else:
        with socket.create_server(("127.0.0.1", walk.ports[0])):
            code, said = walk.run("up", "--no-engine", "--config", walk.config("taken.yaml"))
        assert (code, f"{walk.ports[0]} is in use by" in said) == (1, True), said
    assert not (walk.home / "ballast" / "logs").exists(), "nothing was started"
