"""A core ends with its replica, however that ends: real processes, killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

SCRIPT = """
    import multiprocessing, os, sys, threading, time
    from serving.engine.orphan import end_with_replica

    def worker(told, is_in_core):
        end_with_replica(is_in_core=is_in_core)
        told.put(os.getpid())
        time.sleep(60)

    def core(told):
        told.put(os.getpid())
        child = multiprocessing.get_context("spawn").Process(target=worker, args=(told, False))
        child.start()
        time.sleep(60)

    if __name__ == "__main__":
        method, is_split = sys.argv[1], sys.argv[2] == "split"
        context = multiprocessing.get_context(method)
        told = multiprocessing.get_context("spawn").Queue()
        what, args = (core, (told,)) if is_split else (worker, (told, True))
        # As vLLM does: not from the main thread, which may end before the engine does.
        process = context.Process(target=what, args=args)
        starting = threading.Thread(target=process.start)
        starting.start()
        starting.join()
        print(*[told.get(timeout=30) for _ in range(1 + is_split)], flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("method", "shape"), [("forkserver", "one"), ("spawn", "one"), ("spawn", "split")]
)
def test_a_core_and_its_workers_end_when_the_replica_is_killed(
    tmp_path: Path, method: str, shape: str
) -> None:
    script = tmp_path / "replica.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    replica = subprocess.Popen(
        [sys.executable, str(script), method, shape], stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    left = []
    try:
        assert replica.stdout is not None
        left = [psutil.Process(int(pid)) for pid in replica.stdout.readline().split()]
        assert len(left) == (2 if shape == "split" else 1)
        assert all(process.is_running() for process in left)
        replica.kill()
        replica.wait(10)
        _, left = psutil.wait_procs(left, timeout=10)
        assert not left
    finally:
        replica.kill()
        replica.wait(10)
        assert replica.stdout is not None
        replica.stdout.close()
        for process in left:
            process.kill()
