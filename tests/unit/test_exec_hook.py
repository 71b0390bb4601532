"""A program of the operator's that hangs, prints too much, lies, or leaves children behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from autoscale.machines import Machine, ProviderError, Tags
from autoscale.providers.exec_hook import ExecHook, shown

TAGS = Tags("d", "m", "od")
EMPTY = '{"machines": []}'


def listed(script: str, limit_s: float = 20.0) -> tuple[Machine, ...]:
    return asyncio.run(ExecHook(("/bin/sh", "-c", script)).list(TAGS, limit_s))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def gone(pid: int) -> bool:
    end_s = time.monotonic() + 10
    while is_alive(pid):
        if time.monotonic() > end_s:
            return False
        os.sched_yield()
    return True


def test_an_answer_stands_though_a_child_holds_the_pipe_and_the_child_ends(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert listed(f"sleep 600 & echo $! > {pid}; echo '{EMPTY}'") == ()
    assert gone(int(pid.read_text()))


def test_an_answer_stands_though_a_child_left_the_group(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    escape = f"setsid sh -c 'echo $$ > {pid}; exec sleep 600' & while [ ! -s {pid} ]; do :; done"
    assert listed(f"{escape}; echo '{EMPTY}'") == ()
    os.kill(int(pid.read_text()), 9)


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(ProviderError, match="no answer within") as raised:
        listed(f"sleep 600 & echo $! > {pid}; wait", 1.0)
    assert raised.value.kind == "away"
    assert gone(int(pid.read_text()))


def test_a_program_that_prints_without_end_is_stopped_at_the_bound() -> None:
    hook = ExecHook(("/usr/bin/env", "yes"), 1 << 16)
    with pytest.raises(ProviderError, match="answered more than 65536 bytes"):
        asyncio.run(hook.list(TAGS, 60.0))


@pytest.mark.parametrize(
    "line",
    ["+ export CLOUD_API_KEY=abcdef0123456789", "Authorization: Bearer abcdef0123456789",
     '{"secret_access_key": "abcdef0123456789"}', "AWS_SECRET_ACCESS_KEY abcdef0123456789",
     "login with sk-abcdef0123456789", "password: 'abcdef0123456789'"],
)  # fmt: skip
def test_secrets_that_a_program_prints_are_not_told(line: str) -> None:
    assert "abcdef0123456789" not in shown(line)


def test_what_a_program_says_of_machines_is_told() -> None:
    words = "no gpu_1x_h100_sxm5 in us-east-1: quota 0, request 9f2c1d34-aaaa-bbbb failed"
    assert shown(f"{words}\n") == words


def test_complaints_without_end_are_read_and_only_their_end_is_told() -> None:
    with pytest.raises(ProviderError, match=r"exit code 3: .*the end$") as raised:
        listed(f"yes no | head -c 300000 >&2; echo the end >&2; echo '{EMPTY}'; exit 3")
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("script", "words"),
    [("exec 0<&-; echo '[]'", "Expected `object`"), ("echo '{}'", "has no `machines`"),
     ("printf '{\"machines\": [{\"id\": 1}]}'", "Expected `str`"), ("exit 1", "exit code 1"),
     (f"echo '{EMPTY}'; kill -9 $$", "exit code -9")],
)  # fmt: skip
def test_answers_that_are_none_are_away(script: str, words: str) -> None:
    with pytest.raises(ProviderError, match=words) as raised:
        listed(script)
    assert raised.value.kind == "away"
