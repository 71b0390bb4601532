"""Costs of one unit, measured in seconds on this machine: CPU of what does the work, so that others
on the machine disturb little. Each figure is (median, lowest, highest) of the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import redis
import uvloop

from autoscale.memory import Memory
from autoscale.policy import Api, Plan, Policy, Pool
from autoscale.records import Demand, Samples, Signals, Supply, Tick
from autoscale.step import step
from autoscale.work import of_profile
from benchmarks.gateway import contenders, processes
from benchmarks.gateway.check import SlowStreams
from benchmarks.gateway.contenders import BALLAST, Ground
from benchmarks.gateway.open_streams import opened as opened_streams
from benchmarks.gateway.script import Pace
from benchmarks.ledger.__main__ import measured, opened
from benchmarks.ledger.server import PostgresServer, ServerMissing
from benchmarks.ledger.traffic import batches
from benchmarks.placement import CALL, CALLER, NOW_S, Meets, view
from benchmarks.redis_server import RedisServer
from models.capacity import PROFILES
from serving.codecs import load_report
from serving.ledger.base import Position
from serving.ledger.sqlite import SqliteLedger
from serving.limits.base import Ask, Rule
from serving.limits.redis_rates import RedisRates
from serving.limits.settings import RedisSettings
from serving.routing import place

ROUNDS = 5
HOUR_MICRO = 20_000_000
TICK_MS = 5_000
ASKED_AT_ONCE = 120
"""Counters of one pod in a tenth of a second: what 21 pods ask of Redis at a million people
(docs/scale.md)."""


class Figure(NamedTuple):
    """Median, lowest and highest over rounds."""

    median: float
    low: float
    high: float


def figure(values: list[float]) -> Figure:
    """Of rounds."""
    return Figure(statistics.median(values), min(values), max(values))


def cpu_us(act: Callable[[], object], turns: int) -> float:
    """Of this thread, for one turn."""
    began = time.thread_time()
    for _ in range(turns):
        act()
    return (time.thread_time() - began) / turns * 1e6


def placement(targets: int) -> Figure:
    """One decision over so many engines of one model, microseconds."""
    fleet = view(targets, 0, Meets())
    turns = max(200, 50_000 // targets)
    return figure([
        cpu_us(lambda: place(CALL, CALLER, fleet, NOW_S), turns) for _ in range(ROUNDS)
    ])  # fmt: skip


def looks(count: int = 2_000) -> Figure:
    """One look at one engine's load as the fleet takes it, microseconds of our CPU."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contenders.upstream(Pace(1, 0.0), Path(folder)) as (url,),
    ):
        return figure(uvloop.run(_looks(f"{url}/internal/load", count)))


async def _looks(url: str, count: int) -> list[float]:
    found, each = [], 50
    async with aiohttp.ClientSession() as session:

        async def look() -> None:
            async with session.get(url, headers={"x-ballast-secret": "s"}) as response:
                load_report.told(await response.json())

        for _ in range(ROUNDS + 1):
            began = time.thread_time()
            for _ in range(count // each):
                await asyncio.gather(*(look() for _ in range(each)))
            found.append((time.thread_time() - began) / count * 1e6)
    return found[1:]  # the first one connected


def redis_ask(counters: int = 5_000) -> Figure | None:
    """The server's CPU for one ask for one counter, microseconds; None without a server."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            server.start()
        except (AssertionError, OSError):
            return None
        try:
            return figure(asyncio.run(_asked(server.url, counters)))
        finally:
            server.stop()


async def _asked(url: str, counters: int) -> list[float]:
    rule = Rule(600, 60.0, is_window=False)
    asks = [Ask(f"key:{n}", rule, 1.0, 1.0, 2.0, is_known=True) for n in range(counters)]
    stores = [RedisRates.at(RedisSettings(url=url, timeout_s=5.0), "b", f"p{n}") for n in range(4)]
    found = []
    with redis.Redis.from_url(url) as admin:
        for number in range(ROUNDS + 1):
            store, before_s = stores[number % len(stores)], _cpu_s(admin)
            for first in range(0, counters, ASKED_AT_ONCE):
                await store.settle(asks[first : first + ASKED_AT_ONCE])
            found.append((_cpu_s(admin) - before_s) / counters * 1e6)
    for store in stores:
        await store.close()
    return found[1:]


def _cpu_s(admin: redis.Redis) -> float:
    """Of the whole server: reading, executing and answering. What Redis tells of a command is the
    wall time of its execution alone."""
    told = admin.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def postgres_call(calls: int = 12_000) -> Figure | None:
    """CPU of PostgreSQL for the rows of one call, microseconds; None without a server."""
    try:
        server = PostgresServer()
    except ServerMissing:
        return None
    traffic, found = batches(calls, 1_000), []
    try:
        server.make()
        for _ in range(3):
            with opened("PostgreSQL", server, Path(tempfile.gettempdir())) as apply:
                found.append(measured(apply, server.pid, traffic).server_us)
    finally:
        server.close()
    return figure(found)


def call_bytes(calls: int = 20_000) -> float:
    """Of one finished call in the ledger (SQLite), indexes included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = SqliteLedger.open(path)
        for number, batch in enumerate(batches(calls, 1_000)):
            ledger.apply(batch, Position("life", 1, number))
        ledger.close()
        return path.stat().st_size / calls


def policy(models: int, most: int) -> Policy:
    """So many models, each on two pools, with an API behind them."""
    work = of_profile(PROFILES["qwen3-32b-fp8-h100"], 64)
    micro = HOUR_MICRO / 3600 * 3.0 * 1e6
    api = Api(round(work.prompt_token_s * micro), round(work.output_token_s * micro))
    pools = (
        Pool("reserved", "reserved", hour_micro=HOUR_MICRO, least=1, most=1),
        Pool("rented", hour_micro=HOUR_MICRO, ready_s=180.0, most=most),
    )
    return Policy(tuple(Plan(f"m{n}", 64, pools, api, work) for n in range(models)))


def controller(models: int, replicas: int, gateways: int) -> tuple[Figure, float]:
    """Milliseconds of one decision over all models, and bytes of its line in the journal."""
    asked, memory, took, size = policy(models, replicas), Memory(), [], 0
    each = replicas // models
    for tick in range(ROUNDS * 4):
        at_ms = 1_767_225_600_000 + tick * TICK_MS
        served = (tick + 1) * 40_000
        demand = {
            f"m{n}": Demand(
                running=each * 8 // gateways + 1, served_prompt_total=served,
                served_output_total=served // 4, burst_output_total=tick * 500,
            )
            for n in range(models)
        }  # fmt: skip
        seen = tuple(Signals(f"g{g}", 1, at_ms, demand) for g in range(gateways))
        supply = {f"m{n}": Supply(each, pools={"reserved": 1, "rented": each - 1})
                  for n in range(models)}  # fmt: skip
        samples = Samples(at_ms, seen, supply=supply)
        began = time.thread_time()
        outcome = step(samples, memory, asked)
        took.append((time.thread_time() - began) * 1e3)
        memory = outcome.memory
        written = Tick(samples, None, None, outcome.decisions)
        size = len(msgspec.json.encode(written, enc_hook=str))
    return figure(took[len(took) // 2 :]), float(size)


def stream_kib(streams: int = 500) -> Figure:
    """Resident memory of an open stream in a gateway, KiB: one of one event a second."""
    slow, found = SlowStreams(streams, 5, 1.0), []
    processes.raise_file_limit()
    for _ in range(2):
        with (
            tempfile.TemporaryDirectory() as folder,
            contenders.upstream(Pace(slow.tokens, 1e3 * slow.pace_s), Path(folder)) as urls,
            contenders.running(BALLAST, Ground(urls, Path(folder), None)) as contender,
        ):
            found.append(opened_streams(contender, slow).kib_per_stream)
    return figure(found)
