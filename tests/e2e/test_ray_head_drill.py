"""The drill that kills Ray's head under a real engine, as its user starts it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks.drills import ray_head
from benchmarks.drills.__main__ import table

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(1200)]


def test_every_call_ends_clearly_and_books_agree_when_rays_head_is_killed() -> None:
    if missing := [name for name in ray_head.DRILL.needs if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed: `make install` brings the extra `cpu`")
    found = ray_head.run()
    assert found.has_passed, table([found])
