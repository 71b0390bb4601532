"""One visit to one gateway: it starts, answers, is loaded, and what each load cost is read.

CPU is that of the gateway's whole process tree, its ledger's work included: a reading ends when
every request has its row. All loads but the warming up are open loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import NamedTuple

import msgspec
import uvloop

from benchmarks.gateway import open_streams, own, processes
from benchmarks.gateway.arrivals import Arrivals, Seen, arrive
from benchmarks.gateway.check import SlowStreams, slow_streams
from benchmarks.gateway.client import Target, request
from benchmarks.gateway.contenders import Contender, Ground, direct, running
from benchmarks.gateway.figures import Cost, Effort, Many, Visit, Warm, holds_streams, rate_of
from benchmarks.gateway.load import Plan, load, ready
from benchmarks.gateway.prompts import KIB, prompt
from benchmarks.gateway.script import Pace

TOKENS, CHUNK_MS = 64, 20.0
INSTANT, APART, SLOW_MS = Pace(TOKENS, 0.0), Pace(TOKENS, CHUNK_MS), 1e3
SMALL, LARGE = 4 * KIB, 90 * KIB


class Failed(Exception):  # noqa: N818 - reads as what happened
    """A gateway refused or broke requests of the load: its figures would mean nothing."""


class Load(NamedTuple):
    """A kind of request, how fast it comes when the gateway can, and the share of a core that it
    may take at most: a slower gateway gets fewer."""

    data: bytes
    rate: float
    core_max: float
    is_stream: bool = False
    is_paced: bool = False
    """How long an answer takes is the upstream's doing, so a closed loop tells no rate."""


class _Meter:
    """Puts load on one gateway and reads its CPU once everything asked for is on its ledger."""

    def __init__(self, contender: Contender, effort: Effort, asked: int) -> None:
        self._contender = contender
        self._effort = effort
        self._asked = asked

    def cost(self, kind: Load, base: Target | None = None) -> tuple[Cost, Seen]:
        """Warm up, then the load; with `base` as many go there at the same time, and what they saw
        comes back too. Raises Failed, NotSettled."""
        rate = rate_of(kind.rate, kind.core_max, self._warm(kind))
        plan = Arrivals(rate, self._effort.seconds * (2 if base else 1))
        before = self.settled()
        seen, straight = uvloop.run(_both(self._contender.target, base, plan, kind.data))
        self._good(seen.requests, seen.failures, seen.errors)
        if straight.failures:
            raise Failed(f"the upstream itself: {straight.errors}")
        used = self.settled().since(before)
        each = 1e3 / seen.requests
        return Cost(
            requests=seen.requests,
            rate=round(rate, 2),
            cpu_ms=round(each * used.total_s, 5),
            user_ms=round(each * used.user_s, 4),
            system_ms=round(each * used.system_s, 4),
            aside_ms=round(each * (used.total_s - used.main_s), 5),
            core=round(used.total_s / plan.seconds, 4),
            seen=seen,
        ), straight

    def _warm(self, kind: Load) -> Warm:
        before = self._contender.cpu()
        plan = Plan(16 if kind.is_stream else 4, self._effort.warm_s, is_stream=kind.is_stream)
        done = uvloop.run(load(self._contender.target, plan, kind.data))
        self._good(done.requests, done.failures, done.errors)
        used_s = self._contender.cpu().since(before).total_s
        return Warm(used_s / done.requests, math.inf if kind.is_paced else done.rps)

    def many(self, slow: SlowStreams) -> Many:
        """So many slow streams at once, each checked. Raises NotSettled."""
        before = self.settled()
        checked = uvloop.run(slow_streams(self._contender.target, slow))
        self._asked += checked.complete
        used = self.settled().since(before)
        return Many(checked, round(1e6 * used.total_s / max(1, checked.events), 2))

    def opened(self, slow: SlowStreams) -> open_streams.Open:
        """What an open stream takes of memory."""
        found = asyncio.run(open_streams.held(self._contender, slow))
        self._asked += found.streams - found.faults
        return found

    def settled(self) -> processes.Cpu:
        """CPU until now, once nothing is left to do."""
        self._contender.settle(self._asked)
        return self._contender.cpu()

    def _good(self, requests: int, failures: int, errors: list[str]) -> None:
        if failures or not requests:
            raise Failed(f"{self._contender.name}: {failures} of {requests + failures}: {errors}")
        self._asked += requests


async def _both(
    target: Target, base: Target | None, plan: Arrivals, data: bytes
) -> tuple[Seen, Seen]:
    """Through a gateway, and half an interval later straight to its upstream."""
    if base is None:
        return await arrive(target, plan, data), Seen()

    async def straight(base: Target) -> Seen:
        await asyncio.sleep(0.5 / plan.rate)
        return await arrive(base, plan, data)

    through = asyncio.ensure_future(arrive(target, plan, data))
    other = await straight(base)
    return await through, other


def visit(name: str, ground: Ground, effort: Effort, number: int) -> Visit:
    """All of one gateway in one round. Raises Failed, NotSettled, Broken, StartFailed."""
    with running(name, ground) as contender:
        asked = ready(contender.target, 0.02)
        start_s = round(time.monotonic() - contender.started.began_s, 2)
        time.sleep(effort.rest_s)
        meter = _Meter(contender, effort, asked)
        small, _ = meter.cost(_plain(contender.target, SMALL, 1_000.0))
        found = Visit(name, number, start_s=start_s, small=small)
        if name == own.TWO:
            return found
        large, _ = meter.cost(_plain(contender.target, LARGE, 250.0))
        stream, _ = meter.cost(_stream(contender.target, INSTANT, 300.0, 0.5))
        # One start each 20.3 ms, so that the events of 64 streams do not fall together.
        rate = effort.staggered / (TOKENS * CHUNK_MS / 1e3 + 0.02)
        apart, base = meter.cost(
            _stream(contender.target, APART, rate, 0.25), direct(ground.upstreams[0])
        )
        found = msgspec.structs.replace(found, large=large, stream=stream, apart=apart, base=base)
        if number > 1 or name in own.BESIDE:
            return found
        each_s = (small.cpu_ms / 1e3, apart.cpu_ms / 1e3 / (TOKENS + 1))
        most = holds_streams(effort.streams, effort.over_s, *each_s)
        held = meter.opened(_slow(most, effort))
        many = meter.many(_slow(max(1, most // 2), effort))
        return msgspec.structs.replace(found, opened=held, many=many)


def _plain(target: Target, size: int, rate: float) -> Load:
    return Load(request(target, is_stream=False, prompt=prompt(size)), rate, 0.5)


def _stream(target: Target, pace: Pace, rate: float, core_max: float) -> Load:
    data = request(target, is_stream=True, prompt=prompt(SMALL, pace))
    return Load(data, rate, core_max, is_stream=True, is_paced=pace.chunk_ms > 0)


def _slow(streams: int, effort: Effort) -> SlowStreams:
    """One event a second, all open together for some of them."""
    asks = prompt(SMALL, Pace(effort.beats, SLOW_MS))
    return SlowStreams(streams, effort.beats, SLOW_MS / 1e3, effort.over_s, asks)
