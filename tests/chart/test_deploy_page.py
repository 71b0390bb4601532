"""docs/deploy.md: its commands run, or say what they need; both languages agree."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from deploy.helm_cli import Helm, objects, unpack

ROOT = Path(__file__).parents[2]
PAGE, CHINESE = ROOT / "docs" / "deploy.md", ROOT / "docs" / "deploy.zh.md"
NEEDS = {"needs a cluster", "needs a GPU", "needs Docker"}
WAIT_S = 60


class Block(NamedTuple):
    """Commands, and what was said of them."""

    mark: str
    text: str


def blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    found = re.findall(r"(?:<!-- (.*?) -->\n)?```sh\n(.*?)```", text, re.S)
    return [Block(mark, body) for mark, body in found]


@pytest.fixture(scope="module")
def desk(
    helms: dict[str, Helm], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with the project's `deploy` in it, and the commands of the page on the path."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "deploy").symlink_to(ROOT / "deploy")
    tools = folder / "bin"
    tools.mkdir()
    (tools / "helm").symlink_to(helms["4.3"].binary)
    (tools / "kubectl").symlink_to(unpack("4.3", folder, "kubectl"))
    (tools / "ballast").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ballast "$@"\n')
    (tools / "ballast").chmod(0o755)
    environ = {
        "PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache"),
    }  # fmt: skip
    for block in blocks(PAGE):
        if block.mark == "run":
            done = subprocess.run(
                ["sh", "-euc", block.text], cwd=folder, env=environ, capture_output=True,
                text=True, timeout=WAIT_S, check=False,
            )  # fmt: skip
            assert done.returncode == 0, block.text + done.stderr
    return folder, environ


def test_every_command_runs_or_says_what_it_needs() -> None:
    marks = [block.mark for block in blocks(PAGE)]
    assert set(marks) == {"run", *NEEDS}
    assert marks.count("run") >= 4


def test_commands_that_cannot_run_here_have_flags_that_their_programs_know(
    desk: tuple[Path, dict[str, str]],
) -> None:
    """What needs a cluster or a GPU is at least no typing error."""
    folder, environ = desk
    tried = 0
    for block in blocks(PAGE):
        if block.mark == "run":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = re.match(r"((?:helm|kubectl|ballast)(?: [a-z]+)+)", line)
            if words is None:
                continue
            # `kubectl create secret generic NAME`: only commands before what they act on.
            named = words[1].split()[: 4 if "create secret" in line else 2]
            shown = subprocess.run(
                [*named, "--help"], cwd=folder, env=environ | {"COLUMNS": "200"},
                capture_output=True, text=True, timeout=WAIT_S, check=False,
            )  # fmt: skip
            for flag in re.findall(r"(?<= )--[a-z][a-z-]+", line):
                # A flag of all kubectl's and Helm's commands, told by their `options`.
                assert flag in shown.stdout or flag == "--namespace", f"{line}: {flag}"
                tried += 1
    assert tried >= 15


def test_both_languages_show_the_same_commands() -> None:
    assert blocks(PAGE) == blocks(CHINESE)
    headings = [p.read_text("utf-8").count("\n## ") for p in (PAGE, CHINESE)]
    assert headings[0] == headings[1]


def test_the_commands_of_the_page_run(desk: tuple[Path, dict[str, str]]) -> None:
    folder, _ = desk
    kinds = {o["kind"] for o in objects((folder / "rendered.yaml").read_text("utf-8"))}
    assert {"Deployment", "NetworkPolicy", "Job"} <= kinds


def test_secrets_can_be_made_as_the_page_says(desk: tuple[Path, dict[str, str]]) -> None:
    folder, environ = desk
    text = "\n".join(b.text for b in blocks(PAGE) if b.mark == "needs a cluster")
    commands = re.findall(r"^kubectl create (?:.*\\\n)*.*$", text, re.M)
    assert len(commands) >= 4
    for command in commands:
        dry = f"{command} --dry-run=client -o name"
        done = subprocess.run(["sh", "-c", dry], cwd=folder, env=environ, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()


def test_the_identity_has_every_entry_that_the_example_mounts(
    desk: tuple[Path, dict[str, str]],
) -> None:
    folder, _ = desk
    command = next(b.text for b in blocks(PAGE) if "generic ballast-identity" in b.text)
    entries = set(re.findall(r"--from-file=([\w.-]+)=", command))
    found = objects((folder / "rendered.yaml").read_text("utf-8"))
    gateway = next(o for o in found if o["kind"] == "Deployment")
    spec = gateway["spec"]["template"]["spec"]
    volume = next(v for v in spec["volumes"] if v["name"] == "identity")
    assert {item["key"] for item in volume["secret"]["items"]} <= entries
    assert "deployment-id" in entries
    assert (folder / "identity" / "demo-key").stat().st_mode & 0o077 == 0


def test_certificates_are_for_their_names_and_signed_by_one_authority(
    desk: tuple[Path, dict[str, str]],
) -> None:
    folder, environ = desk
    for name, kind in (("ballast-gateway", "DNS"), ("gpu1.example.com", "DNS"),
                       ("203.0.113.7", "IP Address")):  # fmt: skip
        path = folder / "certificates" / name / "tls.crt"
        asked = ["openssl", "verify", "-CAfile", str(folder / "certificates/ca.crt"), str(path)]
        assert subprocess.run(asked, env=environ, capture_output=True).returncode == 0
        asked = ["openssl", "x509", "-in", str(path), "-noout", "-ext", "subjectAltName"]
        shown = subprocess.run(asked, env=environ, capture_output=True, text=True).stdout
        assert f"{kind}:{name}" in shown
    assert not (folder / "certificates" / "gpu1.example.com" / "ca.key").exists()


def test_the_hosts_envoy_asks_for_the_gateways_certificate() -> None:
    text = (ROOT / "deploy" / "bare-host" / "envoy.yaml").read_text("utf-8")
    chain = yaml.safe_load(text)["static_resources"]["listeners"][0]["filter_chains"][0]
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    context = tls["common_tls_context"]
    assert set(context["tls_params"].values()) == {"TLSv1_3"}
    names = context["validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "DNS", "matcher": {"exact": "ballast-gateway"}}]


def told(process: subprocess.Popen[str], word: str) -> None:
    """Wait for a line that holds the word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"it ended without {word!r}")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def start(argv: list[str], cwd: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def pod(folder: Path, ports: list[int]) -> tuple[list[str], dict[str, str]]:
    """The gateway's container of rendered.yaml: command and variables, its folders in `folder`."""
    found = objects((folder / "rendered.yaml").read_text("utf-8"))
    gateway = next(o for o in found if o["kind"] == "Deployment")
    config = next(o for o in found if o["metadata"]["name"] == "ballast-settings")
    container = gateway["spec"]["template"]["spec"]["containers"][0]
    etc = folder / "etc"
    settings = yaml.safe_load(config["data"]["settings.yaml"])
    public, ops, provider = ports
    settings["gateway"] |= {"port": public, "ops_port": ops}
    for account in settings["providers"]:
        account["base_url"] = f"http://127.0.0.1:{provider}/v1"
    (etc / "settings").mkdir(parents=True)
    (etc / "providers").mkdir()
    (etc / "identity").symlink_to(folder / "identity")
    for account in settings["providers"]:
        (etc / "providers" / account["id"]).write_text("sk-test")
    text = yaml.safe_dump(settings).replace("/etc/ballast", str(etc))
    (etc / "settings" / "settings.yaml").write_text(text.replace("/var/", f"{folder}/var/"))
    command = [part.replace("/etc/ballast", str(etc)) for part in container["command"]]
    variables = {
        "BALLAST_DEPLOYMENT_ID": (folder / "identity" / "deployment-id").read_text(),
        "HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return [sys.executable, *command[1:]], variables


def test_the_first_token_comes_from_what_the_page_made(
    desk: tuple[Path, dict[str, str]],
    started: list[subprocess.Popen[str]],
    free_ports: Callable[[int], tuple[int, ...]],
) -> None:
    folder, _ = desk
    ports = list(free_ports(3))
    argv, variables = pod(folder, ports)
    fake = ["-m", "ballast", "fake", "provider", "--port", str(ports[2]), "--key", "sk-test"]
    started.append(start([sys.executable, *fake], folder, variables))
    told(started[0], "127.0.0.1")
    started.append(start(argv, folder, variables))
    told(started[1], "listening")
    key = (folder / "identity" / "demo-key").read_text("utf-8").strip()
    command = next(b.text for b in blocks(PAGE) if "curl" in b.text)
    body = re.search(r"-d '(.*?)'", command, re.S)
    assert body is not None
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=WAIT_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body[1], headers)
    response = connection.getresponse()
    events = response.read().decode().split("\n\n")
    connection.close()
    assert response.status == 200, events
    first = json.loads(events[0].removeprefix("data: "))
    assert first["object"] == "chat.completion.chunk"
    assert events[-2] == "data: [DONE]"
