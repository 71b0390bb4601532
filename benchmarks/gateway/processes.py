"""Processes under measurement: started, read from /proc, ended by their ids. Linux only."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
START_S_MAX = 60.0
END_S_MAX = 10.0


class StartFailed(Exception):  # noqa: N818 - reads as what happened
    """A process did not come up; carries the end of its log."""


class Cpu(NamedTuple):
    """CPU seconds used so far by a process tree, ended children included."""

    total_s: float
    """By the kernel's clock of each process, in nanoseconds; the split below comes in ticks."""
    user_s: float
    system_s: float
    main_s: float
    """The main threads' part."""

    def since(self, earlier: Cpu) -> Cpu:
        """What was used between two readings."""
        return Cpu(*(now - then for now, then in zip(self, earlier, strict=True)))


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(f"/proc/{name}/stat")):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, open_ = [], [pid]
    while open_:
        found.append(open_.pop())
        open_ += children.get(found[-1], [])
    return found


def cpu(pid: int) -> Cpu:
    """CPU of the tree until now."""
    total = main = 0.0
    user = system = 0
    for member in tree(pid):
        fields = _stat(f"/proc/{member}/stat")
        if not fields:
            continue
        ended = int(fields[13]) + int(fields[14])
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
        with contextlib.suppress(OSError):
            total += time.clock_gettime(_clock_of(member)) + ended * _TICK_S
            on_cpu = Path(f"/proc/{member}/task/{member}/schedstat").read_text("utf-8").split()[0]
            main += int(on_cpu) * 1e-9
    return Cpu(total, user * _TICK_S, system * _TICK_S, main)


def _clock_of(pid: int) -> int:
    """The clock of all threads of a process, as clock_getcpuclockid(3) makes it on Linux."""
    return (~pid << 3) | 2


def rss_mib(pid: int) -> float:
    """Resident memory of the tree, MiB; shared pages count once per process."""
    total_kib = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text("utf-8").splitlines():
                if line.startswith("VmRSS:"):
                    total_kib += int(line.split()[1])
    return round(total_kib / 1024, 1)


def _stat(path: str) -> list[str]:
    """The fields behind the command's name; empty when the process has gone."""
    try:
        return Path(path).read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot take port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Ours without settings of Ballast, so that a measurement depends on its own flags only."""
    return {k: v for k, v in os.environ.items() if not k.startswith("BALLAST_")}


class Started(NamedTuple):
    """A process we own, and where it logs."""

    process: subprocess.Popen[bytes]
    log: Path
    began_s: float
    """By the monotonic clock."""

    @property
    def pid(self) -> int:
        """Root of its tree."""
        return self.process.pid

    def failure(self, reason: str) -> StartFailed:
        """An error with the end of the log."""
        tail = self.log.read_bytes()[-1500:].decode("utf-8", "replace")
        return StartFailed(f"{self.log.stem}: {reason}\n{tail}")

    def line(self, wait_s: float = START_S_MAX) -> dict[str, object]:
        """The JSON line it prints when it listens. Raises StartFailed."""
        pipe = self.process.stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], wait_s)
        text = pipe.readline(1 << 16) if ready else b""
        if not text:
            raise self.failure("did not say where it listens")
        found: dict[str, object] = msgspec.json.decode(text)
        return found

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for whatever of the tree is left."""
        members = tree(self.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S_MAX)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(END_S_MAX)
        if self.process.stdout is not None:
            self.process.stdout.close()
        for pid in members[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def start(command: Sequence[str], log: Path, cwd: Path, *, tells: bool = True) -> Started:
    """Start a process that logs to `log`; `tells`: stdout is a pipe for the one line it prints."""
    began_s = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE if tells else file, stderr=file,
            stdin=subprocess.DEVNULL, cwd=cwd, env=environment(), start_new_session=True,
        )  # fmt: skip
    return Started(process, log, began_s)


def raise_file_limit() -> None:
    """As many open files as the system allows us and the processes we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wait_until_open(started: Started, port: int, seconds: float = START_S_MAX) -> None:
    """Return once the port accepts. Raises StartFailed."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        if started.process.poll() is not None:
            raise started.failure(f"ended with {started.process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise started.failure("did not listen in time")
