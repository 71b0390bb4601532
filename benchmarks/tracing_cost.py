"""What traces cost a call, in microseconds of one core: `python -m benchmarks.tracing_cost`.

Times the lines that run on the event loop, each alone, with the values of a real call: no network,
no engine. The bytes are packed (gzip) in a thread and stand apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import uuid_utils

from models.capacity import PROFILES
from serving.records import Caller, Charge, DataLabel, Policy, Replica, Usage
from serving.tracing.context import Context, Sampling, traceparent
from serving.tracing.otlp import Message
from serving.tracing.values import Ended, Try

ROUNDS, BATCH = 15, 256
CALLER = Caller("key", "acme", "default", Policy())
TARGET = Replica("m@1", "m", "10.0.0.1", 30000, "/m", DataLabel("cn", "us"), PROFILES["instant"], 8)


def main() -> None:
    """Print one line a step: median and range over the rounds."""
    ids = [uuid_utils.uuid7().hex for _ in range(BATCH)]
    drawn, passed = Sampling(1.0), Sampling(0.0)
    contexts = [drawn.context(one, {}, CALLER) for one in ids]
    calls = [_ended(context) for context in contexts]
    message = Message({"service.name": "ballast-gateway"}, {})
    for ended in calls:
        message.add(ended)

    def encode() -> None:
        made = Message({"service.name": "ballast-gateway"}, {})
        for ended in calls:
            made.add(ended)

    steps: list[tuple[str, Callable[[], object]]] = [
        ("context, no header", lambda: [passed.context(one, {}, CALLER) for one in ids]),
        ("traceparent for an engine", lambda: [traceparent(c, c.trace_id, 1) for c in contexts]),
        ("kept for its trace", lambda: [_ended(context) for context in contexts]),
        ("four spans as messages", encode),
        ("packed, in a thread", message.body),
    ]
    print(f"microseconds a call, median (least to most) of {ROUNDS} rounds of {BATCH} calls")
    for name, step in steps:
        taken = [_timed(step) for _ in range(ROUNDS)]
        middle, least, most = statistics.median(taken), min(taken), max(taken)
        print(f"{name:28} {middle:7.2f}  ({least:.2f} to {most:.2f})")


def _timed(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return (time.perf_counter() - begin) / BATCH * 1e6


def _ended(context: Context) -> Ended:
    tried = Try(
        1, TARGET, "least_loaded", 10.5, 0.2, 11.0, 0.0, 0.1, False, "ok", "",
        Usage(700, 50), Charge(),
    )  # fmt: skip
    return Ended(
        context, context.trace_id, 10.0, 1_700_000_000_000, 12.0, 0.7, 0.0, "chat", "m", "m-alias",
        True, 64, 1, "acme", "default", "", "interactive", "ok", 200, "", "least_loaded", "",
        Usage(700, 50), (tried,),
    )  # fmt: skip


if __name__ == "__main__":
    main()
