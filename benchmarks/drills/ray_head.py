"""`python -m benchmarks.drills ray-head`: Ray's head is killed under a real engine of `ballast up`.

Not one of `all`: it needs the extra `cpu` and minutes for two starts of an engine. What a real
model answers cannot be computed, so texts are not compared here; ends, rows and usage are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import uvloop
import yaml

from benchmarks.drills import books, papers
from benchmarks.drills.asking import Crowd, key_of
from benchmarks.drills.criteria import answered, asked, count_of
from benchmarks.drills.runner import judged
from benchmarks.drills.values import (
    MODEL,
    TOLD_CUT,
    WHOLE,
    Drill,
    Evidence,
    Fault,
    Outcome,
    Topology,
    Wave,
)
from benchmarks.engines.starting import NotReady, Running, listed, start, until
from benchmarks.gateway import processes
from benchmarks.gateway.client import Target
from benchmarks.gateway.processes import StartFailed
from models.worded import Worded
from serving.settings import Settings, load

KILL_AT_S, STEADY_S = 4.0, 45.0
HEAD = b"gcs_server"
DURING = Wave(name="during", rate=0.5, seconds=STEADY_S, tokens=48, give_up_s=200.0)
AFTER = Wave(name="after", rate=1.0, seconds=6.0, tokens=8, give_up_s=120.0)
DRILL = Drill(
    name="ray-head",
    meaning="Ray's head is killed under a real engine's streams: all of Ray is started anew",
    topology=Topology(),
    load=(DURING, AFTER),
    faults=(Fault(at_s=KILL_AT_S, act="kill", on="ray:0"),),
    criteria=(
        count_of("some streams were under way and were told their end", 1, 99,
                 lambda one: one.sent_s < KILL_AT_S + 1.0 and one.end in (WHOLE, TOLD_CUT)),
        answered("once the engine is back all are answered", 1.0, asked("after")),
    ),
    needs=("ray", "vllm"),
)  # fmt: skip


def run() -> Outcome:
    """The drill's outcome. Raises StartFailed."""
    missing = [name for name in DRILL.needs if find_spec(name) is None]
    if missing:
        why = Worded("drill.lacks_extra", "no {names} here: the extra `cpu`", names=missing)
        return judged(DRILL, 0.0, None, why)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ballast-drill-") as folder:
        evidence = _ground(Path(folder))
    found = judged(DRILL, time.monotonic() - begun_s, evidence, "")
    compared = [finding for finding in found.findings if finding.words != books.TEXT]
    back = Worded("drill.back", "the engine answered again {seconds} s after the kill",
                  seconds=f"{evidence.readings['back_s']:.0f}")  # fmt: skip
    return msgspec.structs.replace(found, findings=compared, faults=[*found.faults, back])


def _ground(folder: Path) -> Evidence:
    papers.write(folder, [])
    port, ops, controller = (processes.free_port() for _ in range(3))
    tree = {
        "gateway": {"port": port, "ops_port": ops}, "controller": {"ops_port": controller},
        "pepper_file": str(folder / "pepper"), "models": [{"name": MODEL, "engine": {}}],
        "tenants": [{"id": "acme", "residency": "premises"}], "keys": [papers.key_row("plain")],
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    words = [sys.executable, "-m", "ballast", "up", "--config", str(folder / "config.yaml")]
    started = start(words, folder / "up.log", {"XDG_STATE_HOME": str(folder)})
    try:
        target = Target(f"http://127.0.0.1:{port}", key_of("plain"), MODEL)
        until(started, lambda: _is(target, "ready"))
        return uvloop.run(_play(started, target, folder))
    except NotReady as error:
        raise StartFailed(str(error)) from error
    finally:
        started.stop()


def _is(target: Target, status: str) -> bool:
    return bool(listed(target)["ballast"]["status"] == status)


async def _play(started: Running, target: Target, folder: Path) -> Evidence:
    """The load, the kill, the return, the load again; then the books."""
    loop = asyncio.get_running_loop()
    start_s, start_ms = loop.time(), time.time_ns() // 1_000_000
    crowd = Crowd([target.url], start_s)
    try:
        load_task = asyncio.ensure_future(crowd.send([DURING]))
        await asyncio.sleep(KILL_AT_S)
        at_s = loop.time() - start_s
        _kill(started)
        await asyncio.to_thread(until, started, lambda: not _is(target, "ready"))
        await load_task
        await asyncio.to_thread(until, started, partial(_is, target, "ready"))
        back_s = loop.time() - start_s
        await crowd.send([AFTER])
    finally:
        crowd.close()
    settings = _settings(folder)
    ids = {one.request_id for one in crowd.told if one.request_id}
    found = await asyncio.to_thread(books.settled, settings, ids)
    for one in crowd.told:
        one.text_is_right = True
    readings = {"back_s": back_s - at_s}
    return Evidence(crowd.told, found, start_ms, [], [(at_s, DRILL.faults[0])], [], readings)


def _settings(folder: Path) -> Settings:
    """Those in force, as `up` wrote them."""
    return load(folder / "ballast" / "up.yaml", {})


def _kill(started: Running) -> None:
    """SIGKILL to Ray's head. Raises StartFailed when there is none."""
    for pid in processes.tree(started.pid):
        words = Path(f"/proc/{pid}/cmdline")
        if words.exists() and HEAD in words.read_bytes().split(b"\0", 1)[0]:
            os.kill(pid, signal.SIGKILL)
            return
    template = "no head of Ray among the processes of `ballast up`"
    raise StartFailed(Worded("drill.no_head", template))
