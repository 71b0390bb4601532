"""The fakes as processes: one JSON line when ready, an orderly end on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serving.fakes import engine, provider
from serving.fakes.scenarios import SCENARIOS


@contextmanager
def running(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A fake as a process, and its first line."""
    command = [sys.executable, "-m", f"serving.fakes.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def post(url: str, payload: dict[str, Any], **headers: str) -> int:
    request = urllib.request.Request(url, json.dumps(payload).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def test_an_engine_process_serves_under_its_prefix_and_ends_on_sigterm(tmp_path):
    secrets = tmp_path / "secret"
    secrets.write_text("one\ntwo\n")
    flags = ("--model", "m", "--prefix", "/m/m", "--secret-file", str(secrets))
    with running("engine", *flags) as (process, ready):
        assert ready["ready"] is True
        assert ready["url"] == f"http://127.0.0.1:{ready['port']}/m/m"
        url = f"{ready['url']}/v1/chat/completions"
        secret = {"x-ballast-secret": "two"}
        assert post(url, {"model": "m", **CHAT}, **secret) == 200
        assert post(url, {"model": "m", **CHAT}) == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0


def test_an_engine_process_told_to_die_dies_without_goodbye():
    with running("engine", "--die-after-requests", "1") as (process, ready):
        url = f"{ready['url']}/v1/chat/completions"
        assert post(url, CHAT) == 200
        with pytest.raises(OSError):
            post(url, CHAT)
        assert process.wait(timeout=5) == 137


def test_a_provider_process_plays_its_default_scenario_and_ends_on_sigterm():
    with running("provider", "--key", "k", "--scenario", "overloaded") as (process, ready):
        url = f"{ready['url']}/v1/chat/completions"
        assert post(url, {"model": "m", **CHAT}, Authorization="Bearer k") == 529
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0


def test_the_scenarios_are_listed(capsys):
    assert provider.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SCENARIOS)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (engine.main, ["--profile", "tpu"]),
        (engine.main, ["--secret-file", "/does/not/exist"]),
        (provider.main, ["--scenario", "nonsense"]),
    ],
    ids=["profile", "secret file", "scenario"],
)
def test_a_wrong_flag_ends_with_a_message(main, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[1] in capsys.readouterr().err
