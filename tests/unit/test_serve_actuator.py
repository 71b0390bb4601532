"""Holding Ray Serve to a number: what is asked, what is read back, and what does not count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import msgspec
import pytest
from aiohttp import web

from autoscale.acts import Act, Asked
from autoscale.actuators import serve_rule
from autoscale.actuators.base import Order
from autoscale.actuators.serve import ServeActuator
from autoscale.controller import Controller, Parts
from autoscale.journal import Journal, read, replay, replayed_acts
from autoscale.lease import Denied, Fence, Grant, Granted
from autoscale.memory import Memory
from autoscale.observe import Sources, counted_on, observe
from autoscale.policy import Plan, Policy
from autoscale.records import Decision, Engines, Hold, Samples, Scale, Supply, Tick
from autoscale.serve_api import ServeApi, counted
from serving import logs
from serving.settings import Controller as ControllerSettings
from serving.settings import Gateway, Model, Scaling, Settings

AT_MS = 1_800_000_000_000
TOKEN = "t0ken"


class FakeServe:
    """Serve's REST API with one application, as obedient as a test wants it."""

    def __init__(self) -> None:
        self.target, self.running, self.starting = 1, 1, 0
        self.obeys = True
        self.status = 200
        self.asked: list[int] = []

    def told(self) -> dict[str, Any]:
        states = ["RUNNING"] * self.running + ["STARTING"] * self.starting
        replicas = [{"state": state, "node_ip": "10.0.0.1"} for state in states]
        row = {"target_num_replicas": self.target, "replicas": replicas, "message": ""}
        app = {"route_prefix": "/m/m", "status": "RUNNING", "deployments": {"EngineReplica": row}}
        return {"applications": {"m": app, "other": {"route_prefix": "/x", "deployments": {}}}}

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        if request.method == "GET":
            return web.json_response(self.told())
        assert request.path == "/api/v1/applications/m/deployments/EngineReplica/scale"
        self.asked.append((await request.json())["target_num_replicas"])
        if self.status == 200 and self.obeys:
            self.target = self.asked[-1]
        return web.json_response({}, status=self.status)


class Leader:
    """A lease that is held until a test takes it away."""

    def __init__(self) -> None:
        self.grant: Grant = Granted(7, float("inf"))

    async def ask(self) -> Grant:
        return self.grant

    async def release(self) -> None:
        self.grant = Denied("released")


Work: TypeAlias = Callable[[ServeApi, aiohttp.ClientSession], Awaitable[Any]]


def against(serve: FakeServe, folder: Path, work: Work) -> None:
    """Run `work` against the fake."""

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (folder / "token").write_text(TOKEN)
        api = ServeApi(f"http://127.0.0.1:{runner.addresses[0][1]}", folder / "token")
        async with aiohttp.ClientSession() as session:
            await work(api, session)
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 30))


async def tick(
    actuator: ServeActuator, api: ServeApi, session: aiohttp.ClientSession, decision: Decision,
    at_ms: int = AT_MS,
) -> Act:  # fmt: skip
    samples = await observe(session, Sources((), api), at_ms, actuator.asked)
    fence = Fence(Granted(1, float("inf")), lambda: 0.0)
    (act,) = await actuator.apply(Order((decision,), samples, Policy(())), fence, session)
    return act


def test_the_number_is_asked_for_read_back_and_asked_again_when_it_is_lost(tmp_path: Path) -> None:
    serve = FakeServe()

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        actuator = ServeActuator(api)
        act = await tick(actuator, api, session, Scale("m", 3, "r"))
        assert (act.outcome, act.wanted, act.seen) == ("asked", 3, 1)
        serve.starting = 2
        assert (await tick(actuator, api, session, Scale("m", 3, "r"))).outcome == "coming"
        serve.running, serve.starting = 3, 0
        assert (await tick(actuator, api, session, Hold("m", "r"))).outcome == "kept"
        serve.target = serve.running = 1  # a redeploy sets the application's own number
        assert (await tick(actuator, api, session, Hold("m", "no data"))).outcome == "asked"
        assert serve.asked == [3, 3]

    against(serve, tmp_path, work)


def test_a_hold_takes_nothing_away_and_asks_for_nothing_by_itself(tmp_path: Path) -> None:
    serve = FakeServe()

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        actuator = ServeActuator(api)
        assert (await tick(actuator, api, session, Hold("m", "no data"))).outcome == "kept"
        await tick(actuator, api, session, Scale("m", 1, "r"))
        serve.target = serve.running = 4  # somebody else's doing
        act = await tick(actuator, api, session, Hold("m", "no data"))
        assert act.outcome == "kept"
        assert "takes nothing away" in act.reason
        assert serve.asked == []

    against(serve, tmp_path, work)


@pytest.mark.parametrize(
    ("status", "outcome", "words"),
    [(412, "refused", "external_scaler_enabled"), (404, "refused", "no such application"),
     (503, "refused", "503"), (200, "asked", "target 1 -> 2")],
)  # fmt: skip
def test_what_serve_refuses_is_told_with_its_remedy(
    tmp_path: Path, status: int, outcome: str, words: str
) -> None:
    serve = FakeServe()
    serve.status = status

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        act = await tick(ServeActuator(api), api, session, Scale("m", 2, "r"))
        assert act.outcome == outcome
        assert words in act.reason + act.error

    against(serve, tmp_path, work)


def test_serve_that_is_away_is_asked_for_nothing(tmp_path: Path) -> None:
    serve = FakeServe()

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        (tmp_path / "token").write_text("wrong")
        samples = await observe(session, Sources((), api), AT_MS, {})
        assert samples.engines is None
        assert "401" in samples.missing[0]
        act = await tick(ServeActuator(api), api, session, Scale("m", 2, "r"))
        assert act.outcome == "unknown"
        assert serve.asked == []

    against(serve, tmp_path, work)


def test_no_write_begins_once_the_lease_is_over(tmp_path: Path) -> None:
    serve = FakeServe()

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        samples = await observe(session, Sources((), api), AT_MS, {})
        order = Order((Scale("m", 2, "r"),), samples, Policy(()))
        fence = Fence(Granted(1, 10.0), lambda: 10.0)
        (act,) = await ServeActuator(api).apply(order, fence, session)
        assert act.outcome == "fenced"
        assert serve.asked == []

    against(serve, tmp_path, work)


def test_a_number_accepted_and_never_taken_over_is_stuck(tmp_path: Path) -> None:
    serve = FakeServe()
    serve.obeys = False

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        actuator = ServeActuator(api)
        outcomes = [
            (await tick(actuator, api, session, Scale("m", 2, "r"))).outcome for _ in range(4)
        ]
        assert outcomes == ["asked", "asked", "stuck", "stuck"]
        assert len(serve.asked) == 4  # it is still asked: it may come to its senses

    against(serve, tmp_path, work)


def verdict(
    seen: Engines, old: Asked | None, at_ms: int, decision: Decision | None = None
) -> serve_rule.Verdict:
    return serve_rule.judge(decision or Scale("m", 2, "r"), seen, old, at_ms)


def test_an_order_for_which_nothing_starts_is_stuck_and_no_supply() -> None:
    seen = Engines(target=2, running=1)
    first = verdict(seen, None, AT_MS)
    assert first.act.outcome == "coming"
    assert serve_rule.coming(seen, first.asked, AT_MS) == 1
    later_ms = AT_MS + 61_000
    late = verdict(seen, first.asked, later_ms)
    assert late.act.outcome == "stuck"
    assert "nothing has changed for 61 s" in late.act.reason
    assert serve_rule.coming(seen, late.asked, later_ms) == 0
    supply = {"m": Supply(1, is_coming=True)}
    asked = {"m": late.asked} if late.asked else {}
    found = counted_on(supply, {"m": seen}, asked, later_ms)
    assert found is not None
    assert not found["m"].is_coming


def test_a_replica_that_loads_may_take_longer_and_progress_counts() -> None:
    seen = Engines(target=2, running=1, starting=1, message="NotReadyError: x")
    first = verdict(seen, None, AT_MS)
    assert verdict(seen, first.asked, AT_MS + 600_000).act.outcome == "coming"
    late = verdict(seen, first.asked, AT_MS + 1_801_000)
    assert late.act.outcome == "stuck"
    assert "NotReadyError" in late.act.reason
    moved = verdict(msgspec.structs.replace(seen, starting=0), first.asked, AT_MS + 1_801_000)
    assert moved.act.outcome == "coming"


@pytest.mark.parametrize("decision", [Scale("m", 2, "r"), Hold("m", "no data")])
def test_successors_are_added_beside_hosts_that_go_and_taken_back_without_a_decision(
    decision: Decision,
) -> None:
    old = Asked(2, AT_MS, (2, 2, 0))
    more = serve_rule.judge(decision, Engines(2, 2), old, AT_MS, 1)
    assert more.write == 3
    assert "hosts are going" in more.act.reason
    there = serve_rule.judge(decision, Engines(3, 3), more.asked, AT_MS, 1)
    assert there.write is None
    gone = serve_rule.judge(decision, Engines(3, 2), there.asked, AT_MS, 0)
    assert gone.write == 2
    others = serve_rule.judge(Hold("m", "h"), Engines(5, 5), there.asked, AT_MS, 0)
    assert others.write is None  # that number is somebody else's


def test_a_clock_set_back_is_no_progress_and_no_fault() -> None:
    seen = Engines(target=2, running=1)
    first = verdict(seen, None, AT_MS)
    back = verdict(seen, first.asked, AT_MS - 3_600_000)
    assert back.act.outcome == "coming"
    assert back.asked is not None
    assert back.asked.moved_ms == AT_MS - 3_600_000


def test_a_gateway_that_waits_for_any_engine_says_nothing_of_one_that_comes() -> None:
    asleep = counted_on({"m": Supply(0, is_coming=True)}, {"m": Engines(0)}, {}, AT_MS)
    assert asleep == {"m": Supply(0, is_coming=False)}
    assert counted_on(None, {}, {}, AT_MS) is None


def test_serves_counts_are_read_by_state_and_route() -> None:
    states = ["RUNNING", "STARTING", "STOPPING", "RECOVERING", "UPDATING", "PENDING_MIGRATION"]
    row = {"target_num_replicas": 3, "replicas": [{"state": s, "node_ip": s} for s in states]}
    app = {"route_prefix": "/m/q", "deployments": {"E": row}}
    found, paths, hosts = counted({"applications": {"a": app}})
    assert found == {"q": Engines(target=3, running=2, starting=3, stopping=1)}
    assert paths == {"q": "/api/v1/applications/a/deployments/E/scale"}
    assert hosts["q"] == {s: int(s in ("RUNNING", "PENDING_MIGRATION")) for s in states}


def gateway(serve: FakeServe, queue: list[int]) -> web.Application:
    """One whose replicas are Serve's, and whose held calls are `queue[0]`."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/signals":
            models = {"m": {"queued": queue[0]}}
            return web.json_response(
                {"instance": "g", "started": 1, "at": logs.utc_ms(), "models": models}
            )
        fleet = {"replicas": [{}] * serve.running, "expected_in_s": None}
        return web.json_response({"models": {"m": fleet}})

    app = web.Application()
    app.router.add_get("/{path}", answer)
    return app


def test_a_controller_scales_while_it_leads_and_its_journal_replays_bit_for_bit(
    tmp_path: Path,
) -> None:
    serve, queue, lease = FakeServe(), [9], Leader()

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        runner = web.AppRunner(gateway(serve, queue))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings = Settings(
            models=(Model(name="m"),),
            gateway=Gateway(ops_port=int(runner.addresses[0][1])),
            controller=ControllerSettings(tick_s=0.001, scaling=Scaling()),
        )
        parts = Parts(lease, (ServeActuator(api),), api)
        controller = Controller(settings, Journal(tmp_path / "j"), parts)
        task = asyncio.create_task(controller.run(session))
        while serve.target != 2:
            await asyncio.sleep(0)
        serve.running, queue[0] = 2, 0
        while not any(act.outcome == "kept" for act in controller.acts):
            await asyncio.sleep(0)
        lease.grant = Denied("somebody else holds it")
        while "leads" in controller.standing() and controller.standing()["leads"]:
            await asyncio.sleep(0)
        queue[0] = 99  # seen, and nothing is done about it
        asked, written = len(serve.asked), len(read(tmp_path / "j" / "ticks.jsonl"))
        while not any(d.decision == "scale to 7" for d in controller.journal.recent):
            await asyncio.sleep(0)
        assert controller.standing()["reason"] == "somebody else holds it"
        assert {act.outcome for act in controller.acts} == {"fenced"}
        assert len(serve.asked) == asked
        assert len(read(tmp_path / "j" / "ticks.jsonl")) == written
        task.cancel()
        await asyncio.wait([task])
        await runner.cleanup()

    against(serve, tmp_path, work)
    ticks = read(tmp_path / "j" / "ticks.jsonl")
    assert [d for _, d in replay(ticks)] == [tick.decisions for tick in ticks]
    assert [replayed_acts(tick) for tick in ticks] == [tick.acts for tick in ticks]
    assert {tick.token for tick in ticks} == {7}
    assert {act.outcome for tick in ticks for act in tick.acts} >= {"asked", "kept"}


def test_a_new_leader_starts_from_what_the_last_one_knew(tmp_path: Path) -> None:
    serve, queue = FakeServe(), [9]

    async def lead(api: ServeApi, session: aiohttp.ClientSession, port: int) -> ServeActuator:
        settings = Settings(
            models=(Model(name="m"),), gateway=Gateway(ops_port=port),
            controller=ControllerSettings(tick_s=0.001),
        )  # fmt: skip
        actuator = ServeActuator(api)
        parts = Parts(Leader(), (actuator,), api)
        controller = Controller(settings, Journal(tmp_path / "j"), parts)
        task = asyncio.create_task(controller.run(session))
        while serve.target != 2:
            await asyncio.sleep(0)
        while len(controller.journal.recent) == 0 or not controller.acts:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return actuator

    async def work(api: ServeApi, session: aiohttp.ClientSession) -> None:
        runner = web.AppRunner(gateway(serve, queue))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = int(runner.addresses[0][1])
        first = await lead(api, session, port)
        assert first.asked["m"].wanted == 2
        serve.target, queue[0] = 1, 0  # Serve forgot it while nobody led
        second = await lead(api, session, port)
        assert second.asked["m"].wanted == 2
        await runner.cleanup()

    against(serve, tmp_path, work)


def test_lines_of_before_the_journal_knew_acts_still_replay() -> None:
    line = b'{"samples":{"at_ms":1},"policy":{"plans":[]},"memory":{},"decisions":[]}'
    tick = msgspec.json.decode(line, type=Tick)
    assert [decided for _, decided in replay([tick])] == [()]
    assert replayed_acts(tick) == ()


def test_a_line_cut_by_a_crash_takes_no_other_along(tmp_path: Path) -> None:
    plan = Plan("m", 16)

    def tick(at_ms: int) -> Tick:
        return Tick(Samples(at_ms), Policy((plan,)), Memory(), (Hold("m", "h"),))

    path = tmp_path / "ticks.jsonl"
    for life in range(2):
        journal = Journal(tmp_path)
        journal.left(Policy((plan,)), AT_MS)
        journal.write(tick(AT_MS + 2 * life))
        journal.write(tick(AT_MS + 2 * life + 1))
        with path.open("ab") as file:
            file.write(b'{"samples":{"at_')
    assert [t.samples.at_ms - AT_MS for t in read(path)] == [0, 1, 2, 3]
    memory, _ = Journal(tmp_path).left(Policy((plan,)), AT_MS)
    assert memory == Memory()
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join((lines[0], b"{", lines[1])))
    with pytest.raises(msgspec.DecodeError):
        read(path)
