"""Process trees: found, told apart, ended for certain."""

from __future__ import annotations

import os
import subprocess
import sys

from serving.engine import processes

ORPHANS = """
import asyncio, os, subprocess
from serving.engine import processes
processes.become_subreaper()
# Two that ignore SIGTERM and whose parent is gone, as Ray's daemons are; one of them stopped.
script = 'trap "" TERM; sleep 60 & sleep 60 & kill -STOP $!; exit 0'
subprocess.run(["sh", "-c", script], check=True)
before = processes.descendants(os.getpid())
left = asyncio.run(processes.end_tree(0.2))
print(len(before), left, processes.descendants(os.getpid()))
"""


def test_orphans_are_inherited_and_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "2 [] []"


def test_a_process_is_told_from_a_later_one_with_the_same_id() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert processes.is_alive(me)
    assert not processes.is_alive(me._replace(started_ticks=me.started_ticks - 1))


def test_what_has_ended_is_not_alive_even_before_it_is_collected() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = processes.identify(child.pid)
        assert identity is not None
        assert child.pid in processes.descendants(os.getpid())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.is_alive(identity)
