"""What a measurement starts ends with it, however it ends."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.lifetimes import bound

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import subprocess, sys
from benchmarks.lifetimes import bound
child = subprocess.Popen(bound([sys.executable, "-c", "import time; print('up', flush=True); "
                                "time.sleep(300)"]), stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
END_S_MAX = 20.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_in_a_session_of_its_own_ends_with_a_killed_run(number: signal.Signals) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here; Debian's package `util-linux` has it")
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        child = os.pidfd_open(int(run.stdout.readline()))
        run.send_signal(number)
        ended, _, _ = select.select([child], [], [], END_S_MAX)
        os.close(child)
    assert ended


def test_a_command_is_left_as_it_is_where_there_is_no_setpriv(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert bound(["sleep", "1"]) == ["sleep", "1"]
