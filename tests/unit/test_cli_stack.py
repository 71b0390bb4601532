"""The stack's promises about processes: order, restarts, nothing left behind.

Each stack runs in a process of its own, since it ends all of its descendants.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ballast.board import describe
from ballast.child import DEATHS_MAX, restart_delay_s
from ballast.problem import ProblemError
from ballast.up import held, owner

HARNESS = """
import asyncio, json, os, sys
from pathlib import Path
from ballast.board import Board
from ballast.plan import Part
from ballast.problem import ProblemError
from ballast.stack import Stack

rows = json.loads(sys.argv[2])
parts = [Part(name, (sys.executable, "-c", code), stop_s, name == "gateway", dict(os.environ))
         for name, code, stop_s in rows]
board = Board([part.name for part in parts])
try:
    asyncio.run(Stack(parts, Path(sys.argv[1]), board, lambda url: board.say("url " + url)).run())
except ProblemError as problem:
    print("problem", problem.what, flush=True)
    sys.exit(problem.exit_code)
"""
LISTEN = """
import json, os, signal
print(json.dumps({"event": "listening", "url": "http://here"}), flush=True)
signal.pause()
"""
HUNG = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTEN
ORPHANS = """
import json, os, signal, subprocess, sys
code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(json.dumps({"event": "ready", "model": str(child.pid)}), flush=True)
"""


@contextmanager
def stack(tmp_path: Path, *parts: tuple[str, str, float]) -> Iterator[subprocess.Popen[str]]:
    """A stack of Python one-liners, killed at the end whatever happened."""
    command = [sys.executable, "-c", textwrap.dedent(HARNESS), str(tmp_path), json.dumps(parts)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines_until(process: subprocess.Popen[str], mark: str) -> list[str]:
    """Lines up to the first that holds `mark`."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line.rstrip())
        if mark in line:
            return seen
    raise AssertionError(f"{mark!r} never came: {seen}")


def pid_in(line: str) -> int:
    return int(line.split()[-1])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_part_in_order(tmp_path: Path, number: signal.Signals) -> None:
    parts = [(name, LISTEN, 5.0) for name in ("gateway", "engine", "controller")]
    with stack(tmp_path, *parts) as process:
        seen = lines_until(process, "everything is up")
        started = [line.split()[2] for line in seen if "process" in line]
        assert started == ["gateway", "engine", "controller"]
        assert "url http://here" in seen
        process.send_signal(number)
        rest = lines_until(process, "engine     stopped")
        assert process.wait(20) == 0
    assert "gateway    stopped" in " ".join(rest)
    assert not any(is_alive(pid_in(line)) for line in seen if "process" in line)


def test_a_part_that_hangs_is_killed(tmp_path: Path) -> None:
    with stack(tmp_path, ("gateway", HUNG, 0.2)) as process:
        seen = lines_until(process, "everything is up")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not is_alive(pid_in(seen[0]))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with stack(tmp_path, ("gateway", HUNG, 600.0)) as process:
        lines_until(process, "everything is up")
        process.send_signal(signal.SIGINT)
        lines_until(process, "stopping")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_orphans_of_a_dead_part_do_not_survive(tmp_path: Path) -> None:
    with stack(tmp_path, ("gateway", LISTEN, 5.0), ("engine", ORPHANS, 5.0)) as process:
        seen = lines_until(process, "engine     ready")
        orphan = pid_in(seen[-1])
        lines_until(process, "ended with code 0")
        assert is_alive(orphan)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not is_alive(orphan)


def test_parts_end_when_the_stack_itself_is_killed(tmp_path: Path) -> None:
    with stack(tmp_path, ("gateway", LISTEN, 5.0)) as process:
        seen = lines_until(process, "everything is up")
        pidfd = os.pidfd_open(pid_in(seen[0]))
        process.kill()
        import select

        try:
            assert select.select([pidfd], [], [], 20)[0], "the gateway outlived the stack"
        finally:
            os.close(pidfd)


TALKER = """
import json, os, pathlib, signal
print(json.dumps({"event": "listening", "url": "http://here"}), flush=True)
signal.sigwait({signal.SIGUSR1})
for number in range(100_000):
    os.write(2, b"line %06d, which is some forty bytes long\\n" % number)
pathlib.Path(os.environ["TALKER_DONE"]).touch()
signal.pause()
"""


def test_a_stopped_stack_neither_blocks_its_parts_nor_loses_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "done"
    monkeypatch.setenv("TALKER_DONE", str(done))
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n" + TALKER
    with stack(tmp_path, ("gateway", code, 5.0)) as process:
        gateway = pid_in(lines_until(process, "everything is up")[0])
        process.send_signal(signal.SIGSTOP)
        os.kill(gateway, signal.SIGUSR1)
        while not done.exists():
            assert is_alive(gateway)
            time.sleep(0.02)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    lines = (tmp_path / "gateway.log").read_text().splitlines()
    numbers = [int(line[5:11]) for line in lines if line.startswith("line ")]
    assert numbers == list(range(100_000))


def test_a_dead_part_is_started_again(tmp_path: Path) -> None:
    with stack(tmp_path, ("gateway", LISTEN, 5.0)) as process:
        first = pid_in(lines_until(process, "process")[-1])
        lines_until(process, "everything is up")
        os.kill(first, signal.SIGKILL)
        second = pid_in(lines_until(process, "process")[-1])
        lines_until(process, "gateway    ready")
        assert second != first
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_refused_settings_stop_the_stack_with_their_message(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write('gateway.prot: unknown key'); sys.exit(3)"
    with stack(tmp_path, ("gateway", code, 5.0), ("engine", LISTEN, 5.0)) as process:
        seen = lines_until(process, "unknown key")
        assert process.wait(20) == 3
    assert not any("engine" in line and "process" in line for line in seen)


def test_restarts_back_off_and_end() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(1, DEATHS_MAX + 1)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, None]


def test_a_state_folder_is_held_by_one_stack(tmp_path: Path) -> None:
    with held(tmp_path):
        assert owner(tmp_path) == os.getpid()
        with pytest.raises(ProblemError, match=str(os.getpid())), held(tmp_path):
            raise AssertionError("held twice")
    assert owner(tmp_path) is None


def test_events_become_words_even_with_fields_missing() -> None:
    assert describe({"event": "weights_ready", "model": "m"}) == (
        "starting",
        "weights of m ready after s",
    )
    assert describe({"event": "something else"}) is None
