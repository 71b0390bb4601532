"""The controller's brain, by tables: what is seen, what follows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import aiohttp
import msgspec
import pytest

from autoscale.actuators.base import Order
from autoscale.actuators.dry_run import DryRun
from autoscale.journal import WHOLE_EACH, Journal, read, replay
from autoscale.lease import Fence, Granted
from autoscale.memory import Memory
from autoscale.policy import Plan, Policy
from autoscale.records import Decision, Demand, Hold, Samples, Scale, Signals, Supply, Tick
from autoscale.step import step
from autoscale.windows import STALE_MS

NOW = 1_000_000
BEFORE = NOW - 5000
OWNED = Policy((Plan("m", 16),))
ONE = {"m": Supply(1)}


def gateway(at: int = NOW, started: int = 1, instance: str = "g/0", **demand: int) -> Signals:
    return Signals(instance, started, at, {"m": Demand(**demand)})


def seen(*gateways: Signals, supply: dict[str, Supply] | None = ONE, missing: int = 0) -> Samples:
    return Samples(NOW, gateways, ("away",) * missing, supply)


def after(before: Samples | None) -> Memory:
    """What is remembered of the tick before."""
    if before is None:
        return Memory()
    then = [msgspec.structs.replace(g, at=BEFORE) for g in before.gateways]
    earlier = msgspec.structs.replace(before, at_ms=BEFORE, gateways=tuple(then))
    return step(earlier, Memory(), OWNED).memory


def decide(now: Samples, before: Samples | None, policy: Policy = OWNED) -> Decision:
    (decision,) = step(now, after(before), policy).decisions
    return decision


QUIET = seen(gateway(shed_total=5, burst_total=5))
HOLDS = [
    ("no data arrived", Samples(NOW), None, "no data"),
    ("all data is stale", seen(gateway(at=NOW - STALE_MS - 1, queued=9)), None, "no data"),
    ("replicas unknown", seen(gateway(queued=9), supply=None), None, "replicas unknown"),
    ("model unknown", seen(gateway(queued=9), supply={}), None, "replicas unknown"),
    ("nothing waits", seen(gateway(running=9)), None, "nothing waits"),
    ("totals of a first look", QUIET, None, "nothing waits"),
    ("totals stand", QUIET, QUIET, "nothing waits"),
    ("restarted gateway", seen(gateway(started=2, shed_total=3)), QUIET, "nothing waits"),
    ("one is coming", seen(gateway(queued=9), supply={"m": Supply(1, True)}), None, "is coming"),
]
SCALES = [
    ("queue", seen(gateway(queued=1, running=16)), None, 2),
    ("queue at zero", seen(gateway(queued=1), supply={"m": Supply(0)}), None, 1),
    ("long queue", seen(gateway(queued=64, running=16)), None, 5),
    ("shed since", seen(gateway(shed_total=6, burst_total=5)), QUIET, 2),
    ("burst since", seen(gateway(shed_total=5, burst_total=38)), QUIET, 3),
    ("two gateways", seen(gateway(queued=20), gateway(instance="g/1", queued=20)), None, 3),
    ("partial may grow", seen(gateway(queued=1), missing=1), None, 2),
]


@pytest.mark.parametrize(("now", "before", "words"), [h[1:] for h in HOLDS], ids=[h[0] for h in HOLDS])  # noqa: E501  # fmt: skip
def test_holds_and_says_why(now: Samples, before: Samples | None, words: str) -> None:
    decision = decide(now, before)
    assert isinstance(decision, Hold)
    assert words in decision.reason


@pytest.mark.parametrize(("now", "before", "count"), [s[1:] for s in SCALES], ids=[s[0] for s in SCALES])  # noqa: E501  # fmt: skip
def test_scales_up_when_calls_found_no_place(
    now: Samples, before: Samples | None, count: int
) -> None:
    decision = decide(now, before)
    assert isinstance(decision, Scale)
    assert decision.replicas == count
    assert "queue" in decision.reason


def test_partial_data_is_named_in_the_reason() -> None:
    decision = decide(seen(gateway(queued=1), missing=2), None)
    assert "partial, 2 source(s) missing" in decision.reason


def test_a_model_nobody_speaks_of_has_no_demand() -> None:
    other = Policy((Plan("other", 1),))
    decision = decide(seen(gateway(queued=3), supply={"other": Supply(1)}), None, other)
    assert isinstance(decision, Hold)


def test_replay_of_the_journal_gives_the_same_decisions(tmp_path: Path) -> None:
    journal, memory = Journal(tmp_path), Memory()
    for number in range(WHOLE_EACH + 2):
        at_ms = NOW + number * 5000
        report = gateway(at=at_ms, queued=number % 3, burst_total=number // 2)
        samples = Samples(at_ms, (report,), (), ONE)
        outcome = step(samples, memory, OWNED)
        journal.write(Tick(samples, OWNED, memory, outcome.decisions))
        memory = outcome.memory
    ticks = read(tmp_path / "ticks.jsonl")
    assert [i for i, tick in enumerate(ticks) if tick.memory is not None] == [0, WHOLE_EACH]
    replayed = list(replay(ticks))
    assert len(replayed) == WHOLE_EACH + 2
    assert all(tick.decisions == decisions for tick, decisions in replayed)


def test_lines_before_the_first_whole_one_are_not_replayed() -> None:
    assert list(replay([Tick(seen(gateway()), None, None, ())])) == []


def test_the_journal_keeps_two_bounded_files(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=1)
    for number in range(3):
        journal.write(Tick(Samples(number), OWNED, Memory(), ()))
    assert [t.samples.at_ms for t in read(tmp_path / "ticks.jsonl")] == [2]
    (old,) = read(tmp_path / "ticks.old.jsonl")
    assert (old.samples.at_ms, old.memory) == (1, Memory())


def test_a_repeated_decision_is_shown_once_with_its_latest_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for at_ms in (1, 2):
        journal.write(Tick(Samples(at_ms), OWNED, Memory(), (Hold("m", "quiet"),)))
    assert [(e.at_ms, e.decision) for e in journal.recent] == [(2, "hold")]


def test_the_dry_run_says_each_wish_once(caplog: pytest.LogCaptureFixture) -> None:
    actuator = DryRun()
    wishes = [Scale("m", 2, "r"), Scale("m", 2, "r"), Hold("m", "r"), Scale("m", 3, "r")]

    fence = Fence(Granted(1, 1.0), lambda: 0.0)
    no_http = cast("aiohttp.ClientSession", None)

    async def tell() -> None:
        for wish in wishes:
            order = Order((wish,), Samples(1), Policy(()))
            await actuator.apply(order, fence, no_http)

    with caplog.at_level("INFO", "autoscale.dry_run"):
        asyncio.run(tell())
    assert [record.__dict__["replicas"] for record in caplog.records] == [2, 3]


def test_signals_of_the_gateway_are_read_as_sent() -> None:
    body = b'{"version":1,"instance":"d/0","started":1,"at":2,"models":{"m":{"running":1,"new":2}}}'
    assert msgspec.json.decode(body, type=Signals).models["m"].running == 1
