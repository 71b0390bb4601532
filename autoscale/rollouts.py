"""Drives rollouts while this controller leads: looks, asks `rollout.decide`, stores the step.

The row in the directory is the only state: a controller that comes anew goes on from it, and two of
them could not both store a step, since each is decided on one version of the directory. Without a
controller the weights stay as they are, and nothing is taken back by itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter

from autoscale.bodies import whole
from autoscale.gateways import Gateways
from autoscale.rollout_gate import ask as ask_gate
from autoscale.rollout_gauges import RolloutGauges
from models.worded import packed
from serving.directory.base import DirectoryAway, DirectoryStore, VersionConflict
from serving.directory.changes import By, keeping
from serving.directory.values import Directory, DirectoryFault, build
from serving.finance.base import Database
from serving.ledger.base import LedgerUnavailable
from serving.records import LatencyClass
from serving.rollout import counts, words
from serving.rollout.commands import taken
from serving.rollout.decide import Hold, Pause, RollBack, Seen, Step, Tally, Unseen, decide
from serving.rollout.values import Rollout
from serving.settings_rollout import RolloutSettings

ACTOR = "controller"
FLEET_S = 2.0
GATE_S = 0.5
"""Of each look, for a gate that is being asked."""
REST = 4.0
"""Pause after a look, in looks: at most a fifth of the time is spent on counting."""
FLEET_BYTES_MAX = 4 << 20
_NUMBER = re.compile(r"\d+")
_log = logging.getLogger("autoscale.rollouts")


def is_watched(row: Rollout, now_ms: int) -> bool:
    """Whether anything may still become of it by itself. Pure."""
    if row.state == "done":
        return now_ms - row.since_ms < row.checks.deadline_s * 1e3
    return row.is_under_way


class Means(NamedTuple):
    """What it works with."""

    settings: RolloutSettings
    open_directory: Callable[[], DirectoryStore]
    open_ledger: Callable[[], Database]
    """For questions only."""
    gateways: Gateways
    first_s: dict[LatencyClass, float]
    """Each class's time to the first token."""
    utc_ms: Callable[[], int]


class Rollouts:
    """Remembers which gate was asked, and why nothing happens, nothing else."""

    def __init__(self, means: Means, registry: CollectorRegistry) -> None:
        self._means = means
        self._gates: dict[tuple[str, int], str] = {}
        """What the gate said of a rollout, by name and start; empty is yes."""
        self._asking: dict[tuple[str, int], asyncio.Task[str]] = {}
        self.holding: dict[str, str] = {}
        """Why each rollout stays where it is."""
        self._gauges = RolloutGauges(registry)
        self._steps = Counter("ballast_rollout_steps", "Steps taken by rollouts, by kind",
                              ["kind"], registry=registry)  # fmt: skip

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began_s = clock()
                try:
                    await self.once(session)
                except (DirectoryAway, DirectoryFault) as error:
                    _log.warning("rollouts_unreadable", extra={"reason": str(error)[:300]})
                # A step that lasts days is many rows to count: the ledger has other work.
                await asyncio.sleep(max(self._means.settings.tick_s, REST * (clock() - began_s)))
        finally:
            self.holding = {}
            self._gauges.show((), 0)  # another leads: two tales of one rollout would contradict
            await self.close()

    async def once(self, session: aiohttp.ClientSession) -> None:
        """One look at every rollout. Raises DirectoryAway, DirectoryFault."""
        directory = await asyncio.to_thread(self._read)
        found = directory.rollouts
        watched = [row for row in found.values() if is_watched(row, self._means.utc_ms())]
        names = {row.id for row in watched}
        self.holding = {n: why for n, why in self.holding.items() if n in names}
        self._gauges.show(found.values(), self._means.utc_ms())
        running = {(one.id, one.started_ms) for one in found.values() if one.state == "running"}
        await self._end_gates(self._asking.keys() - running)
        for row in watched:
            is_newer = f"rollout:{row.id}" in directory.newer
            await self._move(row, session, is_newer=is_newer)

    async def _move(self, row: Rollout, session: aiohttp.ClientSession, *, is_newer: bool) -> None:
        """`is_newer`: a newer Ballast wrote it, so here it may be stopped, not moved on."""
        seen = await self._look(row, session)
        step = decide(row, seen, self._means.utc_ms())
        if isinstance(step, Hold) and step.reason == words.WAITS_FOR_GATE:
            await self._ask_gate(row, session)
            return  # look anew
        if isinstance(step, Hold):
            self._held(row.id, step.reason)
            return
        if is_newer and not isinstance(step, RollBack | Pause):
            self._held(row.id, words.NEWER)
            return
        if await asyncio.to_thread(self._store, row, step):
            self.holding.pop(row.id, None)
            kind = type(step).__name__
            self._steps.labels(kind).inc()
            level = logging.WARNING if isinstance(step, RollBack) else logging.INFO
            facts = {"rollout": row.id, "step": kind, "reason": step.reason}
            _log.log(level, "rollout_step", extra=facts)

    async def _ask_gate(self, row: Rollout, session: aiohttp.ClientSession) -> None:
        """A quick gate answers within this look; a slow one keeps no other rollout waiting."""
        key = (row.id, row.started_ms)
        if key not in self._asking:
            asked = ask_gate(self._means.settings.gate, row, session)
            self._asking[key] = asyncio.create_task(asked, name=f"gate of {row.id}")
        done, _ = await asyncio.wait({self._asking[key]}, timeout=GATE_S)
        if done:
            self._gates[key] = self._asking.pop(key).result()
        else:
            self._held(row.id, words.WAITS_FOR_ANSWER)

    async def close(self) -> None:
        """Asks no gate any more."""
        await self._end_gates(set(self._asking))

    def waiting(self) -> dict[str, dict[str, Any]]:
        """Why each rollout stays where it is, for a reader of either language."""
        return {name: {"reason": str(why), "said": packed(why)}
                for name, why in self.holding.items()}  # fmt: skip

    async def _end_gates(self, keys: set[tuple[str, int]]) -> None:
        ended = [self._asking.pop(key) for key in keys]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    def _held(self, name: str, reason: str) -> None:
        """Remember why, and log it when more than a number changed."""
        before, self.holding[name] = self.holding.get(name, ""), reason
        if _NUMBER.sub("", before) != _NUMBER.sub("", reason):
            _log.info("rollout_holds", extra={"rollout": name, "reason": reason})

    async def _look(self, row: Rollout, session: aiohttp.ClientSession) -> Seen | Unseen:
        engines = await self._engines(row.new, session)
        if isinstance(engines, str):
            return Unseen(engines)
        gate = self._gates.get((row.id, row.started_ms))
        try:
            new, old, before = await asyncio.to_thread(self._count, row)
        except LedgerUnavailable as error:
            return Unseen(str(error)[:300])
        self._gauges.counted(row.id, new, old)
        return Seen(new, old, before, engines, gate)

    def _count(self, row: Rollout) -> tuple[Tally, Tally, Tally]:
        if row.step < 0:
            return Tally(), Tally(), Tally()
        with closing(self._means.open_ledger()) as ledger:

            def side(which: str, since_ms: int) -> Tally:
                asked = counts.asked(row, which, since_ms, self._means.first_s)
                found = counts.tally(ledger.rows(counts.SIDE, asked))
                keys = ledger.rows(counts.REJECTED, counts.of_keys(asked))
                return counts.rejected(found, keys, row.checks.hard_calls_min)

            new, old = side("new", row.since_ms), side("old", row.since_ms)
            # The long question only where it is needed: were it too slow, nothing would be judged.
            is_thin = old.calls < row.checks.calls_min
            return new, old, side("old", row.started_ms) if is_thin else Tally()

    async def _engines(self, model: str, session: aiohttp.ClientSession) -> int | str:
        """How many engines of a model every gateway sees at least; why that is not known."""
        urls, missing = await self._means.gateways.urls()
        if missing or not urls:
            return ", ".join(missing) or words.NO_GATEWAY
        timeout = aiohttp.ClientTimeout(total=FLEET_S)
        fewest = None
        for url in urls:
            try:
                async with session.get(f"{url}/fleet", timeout=timeout) as response:
                    fleet: Any = msgspec.json.decode(await whole(response, FLEET_BYTES_MAX))
                if model not in fleet["models"]:
                    return words.older_gateway(url, model)
                rows = len(fleet["models"][model]["replicas"])
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                return f"{url}/fleet: {type(error).__name__}"
            fewest = rows if fewest is None else min(fewest, rows)
        return fewest or 0

    def _read(self) -> Directory:
        with closing(self._means.open_directory()) as store:
            head, rows = store.read()
        return build(head.number, rows)

    def _store(self, row: Rollout, step: Step) -> bool:
        """Store a step if the row is still as it was decided on; the next look decides anew."""
        with closing(self._means.open_directory()) as store:
            head, rows = store.read()
            directory = build(head.number, rows)
            if directory.rollouts.get(row.id) != row:
                return False
            change = taken(row, step, By(ACTOR, self._means.utc_ms()))
            if change is None:
                return False
            try:
                store.commit(head, keeping(directory, change))
            except VersionConflict:
                return False
        return True
