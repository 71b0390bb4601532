"""What a replay that was killed has left is taken back by the next one; what is in use is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from ballast import left_behind, poc_left
from ballast.messages import Said
from ballast.problem import ProblemError
from ballast.with_parent import die_with_parent

NOW_S = 0x6A000000
PAST, FUTURE = "69ffff00-abcdef", "7fffffff-abcdef"
WAIT_S = 20.0


class Desk:
    """The admin API with what lies there."""

    def __init__(self, *marks: str, project: str = "poc-run", fails_at: str = "") -> None:
        self.keys = [
            {"id": f"poc-run-{side}-{mark}", "project": project, "is_revoked": False}
            for mark in marks
            for side in ("api", "own")
        ]
        self.budgets = [{"id": f"poc-run-{mark}", "project": project} for mark in marks]
        self.gone: list[str] = []
        self._fails_at = fails_at

    def get(self, path: str) -> Any:
        return {"/budgets": {"budgets": self.budgets}, "/directory": {"keys": self.keys}}[path]

    def post(self, path: str, body: Any, why: str) -> None:
        self._gone(path.removesuffix("/revoke"))

    def delete(self, path: str, why: str) -> None:
        self._gone(path)

    def _gone(self, path: str) -> None:
        if self._fails_at and self._fails_at in path:
            raise ProblemError("away", "again")
        self.gone.append(path)


def taken(desk: Desk, state: Path) -> list[Said]:
    told: list[Said] = []
    poc_left.take_back(desk, state, told.append)  # type: ignore[arg-type]
    return told


def all_of(mark: str) -> list[str]:
    return [f"/keys/poc-run-api-{mark}", f"/keys/poc-run-own-{mark}", f"/budgets/poc-run-{mark}"]


def left_here(state: Path, mark: str) -> Path:
    """As a run leaves it that was killed: keys, and a lock that nobody holds."""
    keys = state / poc_left.FOLDER / mark
    keys.mkdir(parents=True)
    (keys / "api").write_text("sk-x")
    keys.with_name(mark + poc_left.LOCK).touch()
    return keys


def test_what_a_killed_run_left_here_goes_at_once_with_its_keys_on_disk(tmp_path: Path) -> None:
    keys, desk = left_here(tmp_path, FUTURE), Desk(FUTURE)
    told = taken(desk, tmp_path)
    assert desk.gone == all_of(FUTURE)
    assert [line.key for line in told] == ["poc.run.found"] * 3
    assert "以前一次" in told[0].told("zh")
    assert not keys.exists()
    assert list((tmp_path / poc_left.FOLDER).iterdir()) == []


def test_what_a_run_under_way_uses_stays(tmp_path: Path) -> None:
    with poc_left.marked(tmp_path, 60.0) as under:
        desk = Desk(under.mark)
        assert taken(desk, tmp_path) == []
        assert under.keys.is_dir()
    assert desk.gone == []
    assert list((tmp_path / poc_left.FOLDER).iterdir()) == []


def test_what_was_made_elsewhere_goes_once_its_run_must_be_over(tmp_path: Path) -> None:
    desk = Desk(PAST, FUTURE)
    taken(desk, tmp_path)
    assert desk.gone == all_of(PAST)
    assert poc_left.is_over(tmp_path, PAST, NOW_S)
    assert not poc_left.is_over(tmp_path, FUTURE, NOW_S)


def test_rows_of_others_and_keys_that_are_revoked_are_left_alone(tmp_path: Path) -> None:
    others = Desk(PAST, project="shop")
    others.keys.append({"id": "poc-run-mine", "project": "poc-run", "is_revoked": False})
    others.keys.append(
        {"id": f"poc-run-api-{PAST}", "project": "poc-run", "is_revoked": True},
    )
    assert taken(others, tmp_path) == []
    assert others.gone == []


def test_what_cannot_be_taken_back_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    desk = Desk(PAST, fails_at="api")
    told = taken(desk, tmp_path)
    assert [line.key for line in told] == ["poc.run.left", "poc.run.found", "poc.run.found"]
    assert desk.gone == all_of(PAST)[1:]


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / poc_left.FOLDER).touch()
    with pytest.raises(ProblemError, match="cannot write"), poc_left.marked(tmp_path, 1.0):
        pass


def test_keys_of_a_replay_are_in_no_export() -> None:
    assert left_behind.reason(f"poc/{FUTURE}/api") == "passing"


HOLDS = """
import pathlib, subprocess, sys
from ballast import poc_left
from ballast.with_parent import die_with_parent
with poc_left.marked(pathlib.Path(sys.argv[1]), 3600.0) as under:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                             preexec_fn=die_with_parent())
    print(under.mark, child.pid, flush=True)
    child.wait()
"""


def test_a_run_that_is_killed_takes_its_children_with_it_and_lets_go_of_its_lock(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        mark, pid = run.stdout.readline().split()
        child = psutil.Process(int(pid))
        assert not poc_left.is_over(tmp_path, mark, NOW_S)
        run.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([child], timeout=WAIT_S)[1] == []
    assert poc_left.is_over(tmp_path, mark, NOW_S)
    desk = Desk(mark)
    assert len(taken(desk, tmp_path)) == 3
    assert desk.gone == all_of(mark)


def test_a_child_whose_parent_is_already_gone_ends_itself() -> None:
    asked = die_with_parent()
    code = (
        "import os, sys\n"
        "from ballast import with_parent\n"
        "os.getppid = lambda: -1\n"
        "with_parent.die_with_parent()()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGTERM
    assert callable(asked)
