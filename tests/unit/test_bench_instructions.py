"""Counted instructions: honest tables, errors that say what to do, and the bound that keeps what
was gained, on any machine."""

from __future__ import annotations

import sys

import pytest

from benchmarks.gateway import __main__ as cli
from benchmarks.gateway import callgrind, counted, instructions, machine, processes
from benchmarks.gateway.builds import Build, Unusable
from benchmarks.gateway.callgrind import CallgrindMissing, Count
from benchmarks.gateway.contenders import BALLAST, ROOT
from benchmarks.gateway.instructions import CHUNK, PLAIN, Plan, Report, Row
from benchmarks.gateway.peers import VLLM_ROUTER
from benchmarks.gateway.report import filled

SLACK = 1.05
RECORDED = {"3.11.7 (without PGO)": {PLAIN: 600_000, CHUNK: 7_000}}
"""By Python build: what was counted when it was last worked on. Raise it only with a reason."""


def test_idleness_is_taken_off_and_the_rest_shared_out():
    found = Count(1_000.0, 100.0).less(Count(10.0, 1.0), 20.0).over(4)
    assert found == Count(200.0, 20.0)
    assert found.total == 220.0


def test_a_table_shows_the_range_and_the_ratio_to_the_router():
    rows = [
        Row(BALLAST, "relay", PLAIN, [450_000, 460_000], [120_000, 119_000]),
        Row(BALLAST, "guard inspecting", PLAIN, [600_000], [120_000]),
        Row(VLLM_ROUTER, "relay", PLAIN, [150_000], [148_000]),
    ]
    origin = machine.provenance(["instructions"], ROOT, {"valgrind": "3"})
    text = instructions.markdown(Report(origin, 400, rows))
    assert "| ballast | relay | plain request | 450.00 to 460.00 | 119.00 | 3.00 |" in text
    assert (
        "| ballast | guard inspecting | plain request | 600.00 to 600.00 | 120.00 | 4.00 |" in text
    )
    assert "| vllm-router | relay | plain request | 150.00 to 150.00 | - | 1.00 |" in text
    assert "PGO" in text


def test_a_report_fills_the_page():
    origin = machine.provenance(["instructions"], ROOT, {})
    report = Report(origin, 400, [Row(BALLAST, "relay", PLAIN, [1_000], [0])])
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    text = filled(page, "instructions", instructions.markdown(report))
    assert "| ballast | relay | plain request | 1.00 to 1.00 | 0.00 | - |" in text


def test_a_machine_without_valgrind_is_told_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CallgrindMissing, match="`valgrind`"):
        callgrind.version()
    assert cli.main(["instructions", "--no-peer"]) == 2
    assert "valgrind is not installed" in capsys.readouterr().err


def test_a_python_that_cannot_run_ballast_is_told_apart_from_a_fault_of_the_gateway(
    tmp_path, capsys
):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho \"No module named 'msgspec'\" >&2\nexit 1\n")
    bare.chmod(0o755)
    for named, why in ((bare, "No module named 'msgspec'"), (tmp_path / "none", "No such file")):
        assert cli.main(["compare", "--no-install", "--python", str(named)]) == 2
        assert why in capsys.readouterr().err
    with pytest.raises(Unusable, match=r"requirements/gateway\.lock"):
        Build(str(bare), ROOT).versions()


def test_the_line_below_a_table_is_of_the_python_that_ran_ballast():
    assert Build(sys.executable, ROOT).versions()["python"] == machine.python_build()


def test_every_setting_is_one_that_a_gateway_starts_with(tmp_path):
    for setting in counted.SETTINGS:
        folder = tmp_path / setting
        folder.mkdir()
        found = counted.settings(setting, "http://127.0.0.1:1", folder, "key")
        assert len(found["fleet"]["static"]) == (8 if setting == counted.TARGETS else 1)
        assert ("guard" in found) == (setting == counted.GUARD)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_request_takes_no_more_instructions_than_were_recorded():
    try:
        callgrind.version()
    except CallgrindMissing as error:
        pytest.skip(str(error))
    bounds = RECORDED.get(machine.python_build())
    if bounds is None:
        pytest.skip(f"no count is recorded for Python {machine.python_build()}")
    processes.raise_file_limit()
    with counted.ground(300, 3) as ground:
        rows = instructions.run(ground, [Plan(BALLAST, counted.RELAY, (PLAIN, CHUNK))], None)
    found = {row.what: row.least for row in rows}
    assert found.keys() == bounds.keys()
    for what, bound in bounds.items():
        assert 0 < found[what] <= SLACK * bound, f"{what}: {found[what]} instructions, not {bound}"
