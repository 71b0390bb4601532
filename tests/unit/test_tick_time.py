"""A tick of the controller's `step` stays short when there is much to decide, and what it decides
does not hang on the process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.scaling.ticks import ticks

BOUND_S = 0.05
"""Of CPU time; some ten times what a quiet machine takes (docs/autoscaler.md)."""


def test_a_tick_of_fifty_models_and_five_hundred_replicas_is_decided_in_time() -> None:
    rows = list(ticks(50, 500, 3, 80))[40:]
    assert max(one.ready for one in rows) >= 500
    assert median(one.cpu_s for one in rows) <= BOUND_S


def decided() -> str:
    """All that is decided in half an hour, with its reasons."""
    found = (repr((one.ready, one.decisions)) for one in ticks(6, 60, 2, 180))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def test_the_same_is_decided_under_every_hash_seed() -> None:
    script = "from tests.unit.test_tick_time import decided; print(decided())"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.stdout.split() == [decided()]
