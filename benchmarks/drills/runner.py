"""Runs one drill: its ground, its load, its faults on time; then the books, and the verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from benchmarks.drills import acts, books
from benchmarks.drills.asking import Crowd
from benchmarks.drills.ground import Ground, asked
from benchmarks.drills.values import Drill, Evidence, Fault, Finding, Outcome
from benchmarks.gateway import processes
from benchmarks.ledger.server import ServerMissing, binaries
from benchmarks.load.wording import Language, spoken
from benchmarks.telling import criteria, tell
from models.worded import Worded

READY_S_MAX = 30.0
RSS_EVERY_S = 0.25
ACTS = {
    "kill": Worded("act.kill", "kill"),
    "start": Worded("act.start", "start"),
    "behave": Worded("act.behave", "behave"),
    "cut": Worded("act.cut", "cut"),
    "heal": Worded("act.heal", "heal"),
    "jump": Worded("act.jump", "jump"),
    "read": Worded("act.read", "read"),
}
AFTER_S = 3.0
"""What a killed gateway's clients may still find closed."""


def run(drill: Drill) -> Outcome:
    """The drill's outcome. Raises StartFailed when the ground does not stand."""
    if missing := lacking(drill):
        why = Worded("drill.lacks", "no {names} here", names=missing)
        return judged(drill, 0.0, None, why)
    begun_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ballast-drill-") as folder,
        # PostgreSQL ends with the thread that started it: one thread for all that blocks.
        ThreadPoolExecutor(1, "drill-hand") as hand,
    ):
        evidence = uvloop.run(_run(drill, Path(folder), hand))
    return judged(drill, time.monotonic() - begun_s, evidence, "")


def lacking(drill: Drill) -> list[str]:
    """Programs that it needs and that are not here."""
    missing = []
    for name in drill.needs:
        if name == "postgres":
            try:
                binaries()
            except ServerMissing:
                missing.append(name)
        elif shutil.which(name) is None:
            missing.append(name)
    return missing


async def _run(drill: Drill, folder: Path, hand: ThreadPoolExecutor) -> Evidence:
    loop = asyncio.get_running_loop()
    ground = Ground(drill.topology, folder)
    try:
        await loop.run_in_executor(hand, ground.start)
        await loop.run_in_executor(hand, _ready, ground)
        return await _Play(drill, ground, hand).evidence()
    finally:
        await loop.run_in_executor(hand, ground.stop)


def _ready(ground: Ground) -> None:
    """Every gateway sees every engine that runs."""
    wanted = sum(one is not None for one in ground.engines)
    until_s = time.monotonic() + READY_S_MAX
    for ops in ground.ops:
        while True:
            models = asked(f"{ops}/fleet")["models"]
            if len(models["m"]["replicas"]) >= wanted:
                break
            if time.monotonic() > until_s:
                unseen = Worded("drill.unseen", "a gateway does not see the engines")
                raise processes.StartFailed(unseen)
            time.sleep(0.05)


class _Play:
    """A load and its faults over a ground that stands."""

    def __init__(self, drill: Drill, ground: Ground, hand: ThreadPoolExecutor) -> None:
        self._drill, self._ground, self._hand = drill, ground, hand
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._killed: dict[int, tuple[float, float]] = {}
        self._faults: list[tuple[float, Fault]] = []
        self._readings: dict[str, float] = {}
        self._rss: list[tuple[float, float]] = []

    async def evidence(self) -> Evidence:
        """All that criteria look at."""
        drill, ground = self._drill, self._ground
        start_ms = time.time_ns() // 1_000_000
        crowd = Crowd(ground.urls, self._start_s)
        watching = self._loop.create_task(self._watch())
        try:
            await asyncio.gather(crowd.send(drill.load), self._all_faults())
        finally:
            watching.cancel()
            crowd.close()
        told = crowd.told
        found = await self._loop.run_in_executor(self._hand, books.read, ground, told)
        killed = [(number, *span) for number, span in self._killed.items()]
        return Evidence(
            told, found, start_ms, killed, self._faults, self._rss, self._readings, crowd.resent
        )

    async def _all_faults(self) -> None:
        for fault in sorted(self._drill.faults, key=lambda one: one.at_s):
            await asyncio.sleep(max(0.0, fault.at_s - self._now_s()))
            began_s = self._now_s()
            found = await self._loop.run_in_executor(self._hand, acts.done, self._ground, fault)
            self._faults.append((began_s, fault))
            kind, _, number = fault.on.partition(":")
            if kind == "gateway" and fault.act == "kill":
                self._killed[int(number)] = (began_s, self._now_s() + AFTER_S)
            if found is not None:
                self._readings[str(fault.how["as"])] = found

    async def _watch(self) -> None:
        while True:
            gateway = self._ground.gateways[0]
            if gateway is not None:
                self._rss.append((self._now_s(), processes.rss_mib(gateway.pid)))
            await asyncio.sleep(RSS_EVERY_S)

    def _now_s(self) -> float:
        return self._loop.time() - self._start_s


def judged(drill: Drill, seconds: float, evidence: Evidence | None, skipped: str) -> Outcome:
    """What came of it. `evidence` None: it did not run, and `skipped` says why."""
    findings, ends, faults, count = [], {}, [], 0
    if evidence is not None:
        findings = [*books.always(evidence), *(judge(evidence) for judge in drill.criteria)]
        ends = dict(Counter(f"{one.end} {one.code}".strip() for one in evidence.told))
        faults = [_act(at, one) for at, one in evidence.faults]
        count = len(evidence.told)
    return Outcome(
        name=drill.name, meaning=drill.meaning, seconds=round(seconds, 1), requests=count,
        ends=ends, findings=findings, faults=faults, skipped=skipped,
    )  # fmt: skip


def _act(at_s: float, one: Fault) -> str:
    act = ACTS.get(one.act, one.act)
    return Worded("drill.act", "{at} s: {act} {on}", at=f"{at_s:.1f}", act=act, on=one.on)


def lines(outcome: Outcome) -> list[str]:
    """For people: the verdict, then a line per criterion."""
    language = spoken()
    passed = Worded("drill.passed", "passed")
    verdict: str = passed if outcome.has_passed else Worded("drill.failed", "FAILED")
    if outcome.skipped:
        verdict = Worded("drill.skipped", "SKIPPED: {why}", why=outcome.skipped)
    template = "{name}: {verdict} ({requests} requests, {seconds} s)"
    head = Worded("drill.head", template, name=outcome.name, verdict=verdict,
                  requests=outcome.requests, seconds=f"{outcome.seconds:g}")  # fmt: skip
    met, unmet = Worded("drill.met", "ok  "), Worded("drill.unmet", "FAIL")
    faults = [Worded("drill.fault", "at {fault}", fault=fault) for fault in outcome.faults]
    return [
        tell(head, language),
        f"  {meaning(outcome)}",
        *(f"  {tell(fault, language)}" for fault in faults),
        *(f"  {tell(met if one.is_met else unmet, language)} {_judged(one, language)}"
          for one in outcome.findings),
    ]  # fmt: skip


def _judged(one: Finding, language: Language) -> str:
    """A criterion and what was found."""
    words = criteria().get(one.words, one.words) if language == "zh" else one.words
    colon = "：" if language == "zh" else ": "
    return f"{tell(words, language)}{colon}{tell(one.found, language)}"


def meaning(one: Drill | Outcome) -> str:
    """What is done and what must hold, in the language."""
    return tell(Worded.made(f"means.{one.name}", one.meaning, {}), spoken())
