"""Bad inputs lead to a hold with its reason, or to more: never to fewer replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import aiohttp
import msgspec
import pytest

from autoscale.acts import Asked
from autoscale.actuators import serve_rule
from autoscale.actuators.dry_run import DryRun
from autoscale.controller import Controller, Parts
from autoscale.gateways import Gateways
from autoscale.journal import Journal
from autoscale.lease import Denied, Grant
from autoscale.memory import Memory
from autoscale.policy import Plan, Policy, Pool
from autoscale.records import Demand, Engines, Hold, Samples, Scale, Signals, Supply
from autoscale.step import step
from autoscale.work import Work
from serving.settings import Model, Settings

TICK_MS = 10_000
START_MS = 1_800_000_000_000
POOL = Pool("rented", hour_micro=3_600_000, ready_s=60.0, most=8)
PLAN = Plan("m", 16, (POOL,), None, Work(output_token_s=0.001))
POLICY = Policy((PLAN,), trust=0.0)


def good(at_ms: int, output: int) -> Samples:
    """Two gateways, three replicas, and what was done so far."""
    reports = tuple(
        Signals(name, 1, at_ms, {"m": Demand(served_output_total=output)}) for name in "ab"
    )
    return Samples(at_ms, reports, (), {"m": Supply(3)}, {"m": Engines(3, 3)})


def each(samples: Samples, **changes: object) -> Samples:
    """The samples with each gateway's report changed."""
    reports = tuple(msgspec.structs.replace(g, **changes) for g in samples.gateways)
    return msgspec.structs.replace(samples, gateways=reports)


def instead(**changes: object) -> Callable[[Samples], Samples]:
    return lambda samples: msgspec.structs.replace(samples, **changes)


BAD: dict[str, Callable[[Samples], Samples]] = {
    "no gateway": instead(gateways=(), missing=("a", "b"), supply=None),
    "one of two gateways": lambda s: msgspec.structs.replace(
        s, gateways=s.gateways[:1], missing=("b: 503",)
    ),
    "stale reports": lambda s: each(s, at=s.at_ms - 60_000),
    "reports from the future": lambda s: each(s, at=s.at_ms + 60_000),
    "replicas unknown": instead(supply=None),
    "Serve away": instead(engines=None, missing=("serve: 500",)),
    "the model vanished": instead(supply={}),
    "fewer replicas than none": instead(supply={"m": Supply(-3)}),
    "reports without the model": lambda s: each(s, models={}),
    "one of two reports without the model": lambda s: msgspec.structs.replace(
        s, gateways=(s.gateways[0], msgspec.structs.replace(s.gateways[1], models={}))
    ),
    "totals below 0": lambda s: each(s, models={"m": Demand(served_output_total=-5)}),
    "counts below 0": lambda s: each(
        s, models={"m": Demand(running=-1, served_output_total=180 * 13_000)}
    ),
    "totals that shrink": lambda s: each(
        s, models={"m": Demand(served_output_total=max(0, 10**6 - (s.at_ms - START_MS) // 10))}
    ),
    "gateways that begin anew at each tick": lambda s: each(s, started=s.at_ms),
    "two addresses of one gateway": lambda s: msgspec.structs.replace(
        s, gateways=(s.gateways[0], s.gateways[0])
    ),
    "a clock that stands": lambda s: msgspec.structs.replace(
        each(s, at=START_MS + 180 * TICK_MS), at_ms=START_MS + 180 * TICK_MS
    ),
}


def idle(bad: Callable[[Samples], Samples] | None) -> list[int]:
    """Numbers asked of Serve over half an hour without work, after one with plenty."""
    memory, asked, at_ms, output = Memory(), cast("Asked | None", None), START_MS, 0
    written = []
    for tick in range(360):
        at_ms += TICK_MS
        output += 13_000 if tick < 180 else 0
        samples = good(at_ms, output)
        if tick >= 180 and bad is not None:
            samples = bad(samples)
        outcome = step(samples, memory, POLICY)
        memory = outcome.memory
        (decision,) = outcome.decisions
        assert isinstance(decision, Hold | Scale)
        assert decision.reason
        seen = samples.engines and samples.engines.get("m")
        verdict = serve_rule.judge(decision, seen or None, asked, at_ms)
        asked = verdict.asked
        if verdict.write is not None:
            written.append(verdict.write)
    return written


def test_good_inputs_without_work_give_replicas_back() -> None:
    assert 0 in idle(None)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_inputs_give_nothing_back(bad: Callable[[Samples], Samples]) -> None:
    assert [n for n in idle(bad) if n < 3] == []


@pytest.mark.parametrize("number", [-5, -(10**12)])
def test_negative_metrics_count_for_nothing(number: int) -> None:
    samples = good(START_MS, 0)
    broken = Demand(running=number, queued=number, queued_tokens=number, shed_total=number,
                    served_output_total=number)  # fmt: skip
    first = step(samples, Memory(), POLICY)
    at_ms = START_MS + TICK_MS
    second = each(good(at_ms, 0), at=at_ms, models={"m": broken})
    outcome = step(second, first.memory, POLICY)
    (decision,) = outcome.decisions
    assert all(value >= 0 for value in decision.numbers.values())
    assert isinstance(decision, Hold)


def found(gateways: Gateways) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return asyncio.run(gateways.urls())


def test_each_pod_behind_a_name_is_asked_and_one_that_lacks_is_missed() -> None:
    async def two(host: str, port: int) -> list[str]:
        assert (host, port) == ("ballast-ops", 8081)
        return ["10.0.0.1", "fd00::2"]

    both = ("http://10.0.0.1:8081", "http://[fd00::2]:8081")
    assert found(Gateways("ballast-ops", 8081, 2, two)) == (both, ())
    urls, missing = found(Gateways("ballast-ops", 8081, 3, two))
    assert urls == both
    assert missing == ("ballast-ops: 2 of 3 gateways are known",)


def test_a_pod_with_an_address_of_either_kind_is_asked_once() -> None:
    async def twice(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]

    urls, missing = found(Gateways("ballast-ops", 8081, 2, twice))
    assert urls == ("http://10.0.0.1:8081", "http://10.0.0.2:8081")
    assert missing == ()


def test_a_name_that_cannot_be_resolved_is_a_missing_source() -> None:
    async def none(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    assert found(Gateways("ballast-ops", 8081, 2, none)) == (
        (), ("ballast-ops: OSError: Name or service not known",))  # fmt: skip


def test_gateways_of_one_machine_have_a_port_each() -> None:
    for host, spelled in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")):
        urls, missing = found(Gateways(host, 8081, 2))
        assert (urls, missing) == ((f"http://{spelled}:8081", f"http://{spelled}:8082"), ())


class Gone:
    """A lease nobody gets: its place cannot be reached."""

    async def ask(self) -> Grant:
        return Denied("the Kubernetes API: ClientConnectorError")

    async def release(self) -> None:
        pass


class Forbidden(DryRun):
    """Fails the test when it is told anything."""

    async def apply(self, *_: object) -> tuple[()]:
        raise AssertionError("told to act without a lease")


def test_a_controller_cut_off_from_its_lease_changes_nothing_and_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        settings = Settings.model_validate(
            {"gateway": {"ops_port": 1}, "controller": {"tick_s": 0.001}}
        ).model_copy(update={"models": (Model(name="m"),)})
        journal = Journal(tmp_path / "j")
        controller = Controller(settings, journal, Parts(Gone(), (Forbidden(),)))
        async with aiohttp.ClientSession() as session:
            task = asyncio.create_task(controller.run(session))
            while not controller.acts:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        (act,) = controller.acts
        assert act.outcome == "fenced"
        assert "ClientConnectorError" in act.reason
        assert controller.standing()["leads"] is False
        assert not (tmp_path / "j").exists()
        assert [d.decision for d in journal.recent] == ["hold"]

    asyncio.run(asyncio.wait_for(run(), 30))
