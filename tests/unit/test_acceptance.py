"""The acceptance of a rented GPU: it goes on where it stopped, is bounded, and judges honestly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.acceptance import __main__ as acceptance
from benchmarks.acceptance import child, page, steps, values, verdict
from benchmarks.acceptance.steps import NAMES, Did
from benchmarks.acceptance.values import Asked, Different, State, Step
from benchmarks.load.__main__ import COMMANDS
from benchmarks.load.results import ResultsError
from benchmarks.load.wire import TargetError
from models.capacity import PROFILES

PROFILE = PROFILES["qwen3-32b-fp8-h100"]
LEARNT = {
    "base_ms": PROFILE.base_s * 1e3, "experts_ms": 0.0, "touched": 0.0, "points": 20,
    "per_sequence_ms": PROFILE.per_sequence_s * 1e3, "mean_error": 0.01,
    "per_kilo_context_ms": PROFILE.per_context_token_s * 1e6,
    "per_kilo_prefill_ms": PROFILE.per_prefill_token_s * 1e6,
}  # fmt: skip
FOUND = {"rate": 5.0, "above": 6.0, "runs": 4, "output_tokens_per_s": 1000.0, "is_narrow": True}
DONE = {
    "probe": Did("done", "answers", {}),
    "coefficients": Did("done", "fitted", {"learnt": LEARNT}),
    "search": Did("done", "holds 5/s", FOUND),
}


class Steps:
    """Stands in for the three steps that need an engine; the verdict is the real one."""

    def __init__(self, **did: Did | BaseException) -> None:
        self.did, self.begun = DONE | did, []

    def runs(self):
        def run(name):
            def act(ground):
                self.begun.append((name, ground.budget_s))
                did = self.did[name]
                if isinstance(did, BaseException):
                    raise did
                return did

            return act

        return {name: run(name) for name in DONE} | {"verdict": steps.judge}


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    def run(doing: Steps, *more: str) -> tuple[int, str]:
        monkeypatch.setattr(steps, "RUNS", doing.runs())
        code = acceptance.main([
            "small", "--url", "http://127.0.0.1:1", "--model", "m", "--out", str(tmp_path / "out"),
            "--card", PROFILE.name, *more,
        ])  # fmt: skip
        return code, capsys.readouterr().out

    run.out = tmp_path / "out"
    return run


def test_an_engine_that_is_as_its_card_says_is_accepted_with_its_cost(go):
    code, told = go(Steps(), "--gpu-hour", "2.5", "--gpus", "2", "--rate-wanted", "5")
    assert code == 0
    assert "accepted: all 4 figures within 15% of the card" in told
    assert "PARTIAL" not in told
    assert "1.39 USD for a million output tokens" in told
    assert (go.out / "acceptance.md").read_text() in told


def test_ctrl_c_leaves_a_partial_report_and_the_same_command_goes_on(go):
    first = Steps(search=child.Stopped())
    code, told = go(first)
    assert code == 130
    assert "PARTIAL" in told
    assert "| search | STOPPED |" in told
    assert "| coefficients | done |" in told
    assert [name for name, _ in first.begun] == ["probe", "coefficients", "search"]
    second = Steps()
    code, told = go(second)
    assert code == 0
    assert [name for name, _ in second.begun] == ["probe", "search"]
    assert "PARTIAL" not in told


def test_a_step_that_failed_is_tried_again_and_what_was_done_stays(go):
    code, told = go(Steps(coefficients=Did("failed", "exit 1: no")))
    assert code == 1
    assert "the card was not compared: no coefficients" in told
    again = Steps()
    assert go(again)[0] == 0
    assert [name for name, _ in again.begun] == ["probe", "coefficients"]


def test_no_step_is_given_more_than_its_bound_or_what_is_left(go):
    doing = Steps()
    go(doing, "--minutes", "10", "--coefficients-s", "100", "--search-s", "9999")
    bounds = dict(doing.begun)
    assert (bounds["probe"], bounds["coefficients"]) == (60.0, 100.0)
    assert 590 <= bounds["search"] <= 600


def test_when_no_time_is_left_it_stops_and_says_so(go):
    code, told = go(Steps(), "--minutes", "0.05")
    assert code == 130
    assert "no time left of 0.05 minutes" in told
    assert "PARTIAL" in told


@pytest.mark.parametrize(
    ("flags", "start"),
    [((), None), (("--rate-wanted", "3"), "3.0"), (("--rate-wanted", "3", "--rate", "2"), "2.0")],
)
def test_the_search_begins_at_the_rate_that_is_wanted_with_short_runs(
    go, monkeypatch, flags, start
):
    asked = []

    def ran(_module, words, _budget, _log):
        asked.extend(words)
        return child.Ended(1, False, "", "stopped")

    monkeypatch.setattr(child, "run", ran)
    doing = Steps()
    doing.did["search"] = None
    runs = doing.runs() | {"search": steps.search}
    monkeypatch.setattr(doing, "runs", lambda: runs)
    go(doing, *flags)
    assert asked[asked.index("--answers") + 1] == "150"
    assert (asked[asked.index("--rate") + 1] if "--rate" in asked else None) == start


def test_a_folder_of_another_run_is_refused_with_what_differs(go):
    go(Steps())
    assert go(Steps(), "--model", "other")[0] == 2
    asked = Asked(url="http://127.0.0.1:1", model="other", scenario="small", card=PROFILE.name)
    with pytest.raises(Different, match="model was 'm' and is 'other'"):
        values.read(go.out, asked)


def test_a_target_that_is_away_ends_it_at_once(go):
    assert go(Steps(probe=TargetError("not there")))[0] == 3
    assert not (go.out / values.FILE).exists()


def test_a_torn_state_is_named_and_not_begun_anew(tmp_path):
    (tmp_path / values.FILE).write_text("{")
    with pytest.raises(ResultsError, match=r"acceptance\.json: cannot be read"):
        values.read(tmp_path, Asked(url="u", model="m", scenario="s"))


@pytest.mark.parametrize(
    ("change", "rate", "wanted", "is_good", "words"),
    [
        ({}, 5.0, 5.0, True, "all 4 figures"),
        ({"base_ms": 30.0}, 5.0, 0.0, False, "step with 1 at once, 1,000 tokens each: +"),
        ({"per_kilo_prefill_ms": 50.0}, 5.0, 0.0, True, "faster than the card says"),
        ({}, 5.0, 6.0, False, "5 requests/s within the goal, 6 are wanted"),
        ({}, None, 0.0, False, "no rate within the goal was found"),
    ],
    ids=["as it says", "slower", "faster", "too few", "none"],
)
def test_the_verdict_names_what_it_rests_on(change, rate, wanted, is_good, words):
    rows = verdict.compared(PROFILE, LEARNT | change)
    found, why = verdict.judged(rows, rate, wanted)
    assert found is is_good
    assert words in why


def test_without_a_card_only_the_rate_is_judged():
    assert verdict.judged([], 5.0, 1.0) == (True, "no card given; 5 requests/s within the goal")


def test_rent_is_of_all_gpus_and_nothing_is_told_where_no_token_came():
    rent = verdict.Rent(2.0, 4, "USD")
    assert verdict.cost(rent, 1800) == 4.0
    assert verdict.per_mtok(rent, 0.0) is None


def test_a_state_survives_its_file(tmp_path):
    asked = Asked(url="u", model="m", scenario="s")
    state = State(asked=asked, began_s=1.0, steps=tuple(Step(name=n) for n in NAMES))
    changed = state.with_step(Step(name="probe", status="done", seconds=2.5, words="w|x"))
    values.write(tmp_path, changed)
    assert values.read(tmp_path, asked) == changed
    assert "| probe | done | 2.5 | w/x |" in page.report(changed)


PATIENT = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print("partial"), sys.exit(130)))
print("begun", flush=True)
while True:
    time.sleep(0.02)
"""


def test_a_process_whose_time_is_over_may_write_what_it_has(tmp_path, monkeypatch):
    (tmp_path / "patient.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = child.run("patient", [], 1.0, tmp_path / "log")
    assert (ended.code, ended.is_over) == (130, True)
    assert "partial" in ended.out
    gone = child.run("nowhere", [], 20.0, tmp_path / "other")
    assert (gone.code, gone.is_over) == (1, False)
    assert "nowhere" in gone.tail


PARENT = """
import sys
from pathlib import Path
from benchmarks.acceptance import child
child.run("patient", [], 60.0, Path(sys.argv[1]))
"""


def test_a_step_does_not_outlive_an_acceptance_that_was_killed(tmp_path):
    (tmp_path / "patient.py").write_text(
        "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")],
                              env=os.environ | {"PYTHONPATH": paths})  # fmt: skip
    said = tmp_path / "log.out"
    assert eventually(lambda: said.exists() and said.read_text().strip())
    parent.kill()
    parent.wait()
    gone = Path(f"/proc/{said.read_text().strip()}")
    assert eventually(lambda: not gone.exists() or "\nState:\tZ" in (gone / "status").read_text())


def test_a_job_that_is_ended_leaves_a_partial_report_as_after_ctrl_c(go, monkeypatch):
    def ended(_module, _words, _budget, _log):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(child, "run", ended)
    doing = Steps()
    runs = doing.runs() | {"search": steps.search}
    monkeypatch.setattr(doing, "runs", lambda: runs)
    code, told = go(doing)
    assert code == 130
    assert "PARTIAL" in told


def eventually(is_so, within_s: float = 20.0) -> bool:
    """Whether it becomes true in time: of other processes, so there is no clock to pass."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        if is_so():
            return True
        time.sleep(0.02)
    return False


def test_the_command_is_one_of_the_load_generators():
    assert import_module(COMMANDS["acceptance"]) is acceptance
