"""How exactly several gateway processes keep one limit through Redis, and what that costs a call.

`python -m benchmarks.limits --pods 4 --limit 600 --seconds 3` starts a Redis on loopback and one
process per pod; each asks as fast as it can. Prints what was let in, the most that may be, and the
time of one decision. `--pod N --url URL` is one such process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.redis_server import RedisServer
from serving.allowances import Allowances, Lease
from serving.limits.redis_rates import RedisRates
from serving.limits.renewing import Renewer
from serving.limits.settings import RedisSettings
from serving.limits.sharing import RATES_EVERY_S
from serving.limits.slice import FIRST
from serving.records import Allowance, Call, LatencyClass, Subject, Surface

CALL = Call(
    request_id="0", surface=Surface.CHAT, tenant="acme", model="m", alias="m", fields={},
    received_s=0.0, received_ms=0, first_token_by_s=60.0, complete_by_s=600.0,
    latency_class=LatencyClass.PATIENT, prompt=b"[]", size=100, prompt_tokens=10, max_tokens=16,
    stream=True, wants_usage=False, affinity=0,
)  # fmt: skip


class Load(NamedTuple):
    """One run."""

    url: str
    pods: int
    limit: int
    seconds: float


class Kept(NamedTuple):
    """What all processes let in, and what they may."""

    granted: int
    most: float
    decision_us: float
    """Median time of one decision in one process, microseconds."""


async def press(load: Load, pod: int) -> dict[str, Any]:
    """One process: ask as fast as the loop turns, and count."""
    loop = asyncio.get_running_loop()
    store = RedisRates.at(RedisSettings(url=load.url), "bench", f"pod{pod}")
    renewer = Renewer("redis", store, (RATES_EVERY_S, load.pods), loop.time)
    allowances = Allowances(load.pods, renewer.meter, clock=loop.time)
    mine = (Subject("key:k", Allowance(requests_per_min=load.limit)),)
    renewer.start()
    until_s, granted, took = loop.time() + load.seconds, 0, []
    while loop.time() < until_s:
        began_s = time.perf_counter()
        found = allowances.take(CALL, mine, loop.time())
        took.append(time.perf_counter() - began_s)
        granted += isinstance(found, Lease)
        await asyncio.sleep(0)
    await renewer.close()
    return {"granted": granted, "us": statistics.median(took) * 1e6}


def kept(load: Load) -> Kept:
    """Run all processes against the Redis at `load.url`."""
    words = [sys.executable, "-m", "benchmarks.limits", "--url", load.url]
    words += ["--pods", str(load.pods), "--limit", str(load.limit)]
    words += ["--seconds", str(load.seconds), "--pod"]
    began_s = time.monotonic()
    running = [
        subprocess.Popen([*words, str(pod)], stdout=subprocess.PIPE) for pod in range(load.pods)
    ]
    found = [msgspec.json.decode(process.communicate()[0]) for process in running]
    elapsed_s = time.monotonic() - began_s
    slices = load.pods * max(1, load.limit // (FIRST * load.pods))
    return Kept(
        sum(one["granted"] for one in found), load.limit + slices + elapsed_s * load.limit / 60,
        statistics.median(one["us"] for one in found),
    )  # fmt: skip


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pod", type=int)
    given = parser.parse_args()
    load = Load(given.url, given.pods, given.limit, given.seconds)
    if given.pod is not None:
        print(msgspec.json.encode(asyncio.run(press(load, given.pod))).decode())
        return
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            print(kept(load._replace(url=server.url)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
