"""`python -m benchmarks.placement`: what one placement costs, in microseconds, and in bytecodes.

Each case is a fleet of fifty targets, or the one engine that most calls meet. Rounds of the same
work; printed are the median and the 99th percentile of single decisions (CPU time of the thread, so
that other work on the machine does not count), the ratio of both, and how the median compares with
the budget of 60 us. Bytecodes are counted, not timed: they are the same on a busy machine.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from models.api_pace import ApiPace
from models.capacity import PROFILES, Load
from serving.placement.pacing import Headroom
from serving.placement.tally import Tally
from serving.placement.values import Ceilings, PolicyName, Route, Spill
from serving.records import (
    Call,
    Caller,
    DataLabel,
    FleetView,
    LatencyClass,
    Offering,
    Overflow,
    Policy,
    Price,
    Replica,
    Residency,
    ResidencyLevel,
    Surface,
    TargetState,
)
from serving.routing import place

TURNS = 20_000
BUDGET_US = 60.0
NOW_S = 100.0
HERE, THERE = DataLabel("cn", "self", on_premises=True), DataLabel("us", "Api Inc")
CALLER = Caller("key", "acme", "shop", Policy(Residency(ResidencyLevel.ANYWHERE), Overflow.ALLOWED))
BODY = {
    name: msgspec.Raw(value)
    for name, value in (
        ("model", b'"m"'), ("messages", b"[]"), ("stream", b"true"), ("temperature", b"0.7"),
        ("max_tokens", b"256"),
    )
}  # fmt: skip
CALL = Call(
    request_id="0" * 31 + "7", surface=Surface.CHAT, tenant="acme", model="m", alias="m",
    fields=BODY, received_s=NOW_S, received_ms=1_795_600_000_000, first_token_by_s=NOW_S + 5.0,
    complete_by_s=NOW_S + 120.0, latency_class=LatencyClass.INTERACTIVE, prompt=b"[]", size=600,
    prompt_tokens=200, max_tokens=256, stream=True, wants_usage=False, affinity=12345,
)  # fmt: skip


class Case(NamedTuple):
    """One fleet."""

    name: str
    view: FleetView


class Meets(NamedTuple):
    """What a call meets there."""

    queued: int = 400
    """Prompt tokens of each engine's queue."""
    is_full: bool = False
    is_paced: bool = False
    is_learnt: bool = False
    """Each API has answered a hundred calls."""
    spill: float = 0.0
    route: Route = Route()


def cases() -> list[Case]:
    """From the usual to the worst."""
    hasty = Route(policy=PolicyName.LATENCY_FIRST)
    bound = Route(policy=hasty.policy, ceilings=Ceilings(0.9, 10**12, 10**12))
    return [
        Case("1 engine, 2 APIs", view(1, 2, Meets())),
        Case("50 engines", view(50, 0, Meets())),
        Case("40 engines, 10 APIs, latency-first", view(40, 10, Meets(route=hasty))),
        Case("40 engines, 10 APIs, under pressure", view(40, 10, Meets(spill=1.0))),
        Case("40 full engines, 10 APIs", view(40, 10, Meets(is_full=True))),
        Case("25 late engines, 25 APIs", view(25, 25, Meets(queued=500_000))),
        Case("50 APIs", view(0, 50, Meets())),
        Case("50 APIs, paced, with ceilings", view(0, 50, Meets(is_paced=True, route=bound))),
        Case(
            "50 learnt APIs, paced, with ceilings",
            view(0, 50, Meets(is_paced=True, is_learnt=True, route=bound)),
        ),
    ]


def view(engines: int, apis: int, meets: Meets) -> FleetView:
    """A fleet whose engines have something to do, and whose APIs have been asked before."""
    replicas, offerings = _engines(engines), _apis(apis)
    ids = [*(r.id for r in replicas), *(o.id for o in offerings)]
    state = {target_id: TargetState() for target_id in ids}
    for i, replica in enumerate(replicas):
        one = state[replica.id]
        one.load, one.load_at_s = Load(0, i % 16, meets.queued + i, 0.1), NOW_S - 0.5
        one.unfinished = 64 if meets.is_full else i % 8
    if meets.is_learnt:
        for offering in offerings:
            state[offering.id].api = _learnt(offering)
    paces = {o.id: Headroom() for o in offerings} if meets.is_paced else {}
    for pace in paces.values():
        pace.learn({"x-ratelimit-remaining-requests": "900"}, NOW_S, 0.0)
    return FleetView(
        replicas={"m": replicas}, offerings={"m": offerings}, state=state, paces=paces,
        routes={"m": meets.route}, spills={"m": Spill(meets.spill, meets.spill)}, tally=Tally(),
    )  # fmt: skip


def _learnt(offering: Offering) -> ApiPace:
    pace = ApiPace(offering.first_token_s)
    for turn in range(100):
        pace.opened(CALL.prompt_tokens, 0.8 + turn % 10 / 20, NOW_S - 1.0)
        pace.ended(200, 1.0, 5.0)
    return pace


def _engines(count: int) -> tuple[Replica, ...]:
    profile = PROFILES["qwen3-32b-fp8-h100"]
    return tuple(
        Replica(f"m@10.0.0.{i}:8000", "m", f"10.0.0.{i}", 8000, "", HERE, profile, 64, i * 7919)
        for i in range(count)
    )


def _apis(count: int) -> tuple[Offering, ...]:
    """Each a little cheaper than the one before it: the worst order."""
    return tuple(
        Offering(
            f"p{i}/big", f"p{i}", "m", "big", THERE,
            Price("USD", 2_000_000 - i, 9_000_000, 100_000, "", ""), frozenset({Surface.CHAT}),
            131_072, 1.0,
        )
        for i in range(count)
    )  # fmt: skip


def timed(case: Case, turns: int = TURNS) -> tuple[float, float]:
    """Median and 99th percentile of one decision, microseconds of CPU."""
    took = []
    for _ in range(turns):
        began_ns = time.thread_time_ns()
        place(CALL, CALLER, case.view, NOW_S)
        took.append(time.thread_time_ns() - began_ns)
    took.sort()
    return took[turns // 2] / 1e3, took[turns * 99 // 100] / 1e3


def bytecodes(act: Callable[[], object]) -> int:
    """Instructions of the interpreter that one decision takes, the second time it is made."""
    act()
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG001
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def main() -> int:
    """Entry point."""
    gc.collect()
    gc.freeze()  # as the gateway does at its start
    print(f"{'':<36} {'median us':>9} {'p99 us':>8} {'ratio':>6} {'of 60 us':>9} {'bytecodes':>9}")
    worst = 0.0
    for case in cases():
        median, high = timed(case)
        worst = max(worst, median)
        count = bytecodes(partial(place, CALL, CALLER, case.view, NOW_S))
        print(
            f"{case.name:<36} {median:9.1f} {high:8.1f} {high / median:6.1f} "
            f"{median / BUDGET_US:9.0%} {count:9d}"
        )
    return 0 if worst <= BUDGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
