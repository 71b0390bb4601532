"""The drills as their user runs them: the short ones always, all of them in the long tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tools
from benchmarks.drills import runner, soak
from benchmarks.drills.__main__ import main, table
from benchmarks.drills.catalogue import DRILLS
from benchmarks.fuzz.__main__ import REQUIREMENTS
from benchmarks.fuzz.__main__ import main as fuzz

FAST = [name for name, drill in DRILLS.items() if drill.is_fast]
pytestmark = pytest.mark.server


def passes(name: str) -> None:
    """Runs it; fails with its table."""
    drill = DRILLS[name]
    if missing := runner.lacking(drill):
        pytest.skip(f"no {', '.join(missing)} here")
    outcome = runner.run(drill)
    assert outcome.has_passed, table([outcome])


@pytest.mark.parametrize("name", FAST)
def test_a_short_drill_passes(name: str) -> None:
    passes(name)


@pytest.mark.full
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [name for name in DRILLS if name not in FAST])
def test_a_long_drill_passes(name: str) -> None:
    passes(name)


@pytest.mark.full
def test_the_command_writes_a_report_and_says_by_its_code_that_a_drill_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drills.json"
    assert main(["out-of-money", "--out", str(out)]) == 0
    report = json.loads(out.read_bytes())
    (drill,) = report["drills"]
    assert drill["requests"] == 100
    assert all(finding[2] for finding in drill["findings"])
    assert report["provenance"]["command"].startswith("python -m benchmarks.drills out-of-money")
    assert "out-of-money: passed" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.timeout(400)
def test_no_endpoint_answers_5xx_whatever_it_is_sent() -> None:
    """Where schemathesis can be had; its environment is made once."""
    try:
        tools.made(REQUIREMENTS, "st")
    except tools.ToolMissing as missing:
        pytest.skip(str(missing))
    assert fuzz(["--seconds", "40"]) == 0


@pytest.mark.full
@pytest.mark.timeout(400)
def test_memory_stays_where_it_is_under_a_steady_load() -> None:
    """In 2.5 minutes only a fast leak shows: 40 MiB/h at 60 requests/s is 190 bytes a request."""
    outcome = runner.run(soak.drill(2.5, 60.0, 40.0))
    assert outcome.has_passed, table([outcome])
