"""Rollouts over the admin API, at a real gateway, driven by what the controller runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import sys
from contextlib import closing

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from autoscale.rollout_gate import ask as ask_gate
from autoscale.rollout_hook import RolloutHook, signature
from autoscale.rollouts import Means, Rollouts, is_watched
from serving.auth import digest
from serving.directory.changes import By, Change, event
from serving.directory.store import opener
from serving.directory.values import Document
from serving.evaluation import store
from serving.evaluation.values import Answer, Arm, Asked, Evaluation
from serving.fakes.server import serve
from serving.finance.store import open_to_read
from serving.finance.store import opener as finance_opener
from serving.logs import utc_ms
from serving.rollout.counts import first_s
from serving.rollout.values import Rollout
from serving.settings_rollout import GateSettings, HookSettings, RolloutSettings

CHECKS = {"calls_min": 5, "hold_s": 0, "deadline_s": 60}
NEW = {"name": "m-alias", "new": "m2", "steps": [50, 100], "checks": CHECKS}
ROW = Rollout(id="chat", old="a", new="b")


def people(kit):
    return [
        {"id": name, "role": name, "hmac": digest(kit.PEPPER, f"ba-{name}".encode()).hex()}
        for name in ("operator", "viewer", "admin")
    ]


def both(kit, ports):
    """An engine of each model; the second is started by the check."""
    static = [
        {"model": model, "url": f"http://127.0.0.1:{port}", "limit": 64}
        for model, port in zip(("m", "m2"), ports, strict=True)
    ]
    return {
        "engines": [kit.engine(port=ports[0])], "administrators": people(kit),
        "fleet.static": static,
    }  # fmt: skip


@contextlib.asynccontextmanager
async def second(stack, kit, ports):
    """The new model's engine, seen."""
    served = await kit.start_engine(kit.engine(model="m2", port=ports[1]))
    await stack.ready(1, "m2")
    yield
    await served.close()


async def ask(stack, method, path, who="operator", **more):
    url, head = f"{stack.ops}/admin/v1{path}", {"Authorization": f"Bearer ba-{who}"}
    async with stack.session.request(method, url, headers=head, **more) as reply:
        return reply.status, await reply.json()


class Near:
    """The one gateway."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def urls(self):
        return (self._url,), ()


def driver(stack, **settings):
    own = stack.settings
    means = Means(
        RolloutSettings(**settings), opener(own), lambda: open_to_read(own), Near(stack.ops),
        first_s(own), utc_ms,
    )  # fmt: skip
    return Rollouts(means, CollectorRegistry())


async def sent(stack, calls, model="m-alias"):
    """So many calls of sessions of their own; who answered, by reason."""
    replies = [
        await stack.chat(model=model, headers={"x-ballast-session": f"s{n}"}) for n in range(calls)
    ]
    assert {reply.status for reply in replies} == {200}
    return [reply.headers["x-ballast-reason"] for reply in replies]


def test_a_rollout_is_started_driven_and_taken_back(run, kit, free_ports):
    ports = free_ports(2)

    async def check(stack):
        async with second(stack, kit, ports):
            await walk(stack)

    async def walk(stack):
        status, told = await ask(stack, "POST", "/rollouts", json=NEW)
        assert (status, told["old"], told["keys_that_stay"]) == (201, "m", [])
        assert set(await sent(stack, 3)) == {"split:m-alias~old/local"}
        rolling = driver(stack)
        await rolling.once(stack.session)  # asks the gate
        await rolling.once(stack.session)

        async def moved():
            return "split:m-alias~new/local" in await sent(stack, 20)

        await kit.eventually(moved)

        async def state(wanted):
            await rolling.once(stack.session)
            rows = (await ask(stack, "GET", "/rollouts"))[1]["rollouts"]
            return rows[0]["state"] == wanted or not await sent(stack, 10)

        await kit.eventually(lambda: state("done"))
        assert set(await sent(stack, 5)) == {"split:m-alias~new/local"}
        assert set(await sent(stack, 2, "m")) == {"local"}, "the model's own name stays"
        assert (await ask(stack, "DELETE", "/rollouts/m-alias"))[0] == 409
        assert (await ask(stack, "POST", "/rollouts/m-alias/abort?why=no"))[0] == 200
        assert set(await sent(stack, 5)) == {"local"}
        assert (await ask(stack, "DELETE", "/rollouts/m-alias"))[0] == 200
        history = (await ask(stack, "GET", "/history", "admin"))[1]["entries"]
        told = [(e["actor"], e["action"]) for e in history if e["subject"] == "rollout:m-alias"]
        assert told == [
            ("operator", "start"), ("controller", "advance"), ("controller", "advance"),
            ("controller", "finish"), ("operator", "abort"), ("operator", "close"),
        ]  # fmt: skip

    run(check, **both(kit, ports))


def test_a_bad_canary_costs_no_call_and_is_charged_for_each(run, kit, free_ports):
    ports = free_ports(2)

    async def check(stack):
        served = await kit.start_engine(kit.engine(model="m2", port=ports[1]))
        try:
            await stack.ready(1, "m2")
            await walk(stack, served)
        finally:
            await served.close()

    async def walk(stack, served):
        assert (await ask(stack, "POST", "/rollouts", json=NEW))[0] == 201
        rolling = driver(stack)
        await rolling.once(stack.session)
        await rolling.once(stack.session)
        url, secret = f"{served.url}/internal/control", {"x-ballast-secret": kit.SECRET}
        async with stack.session.post(url, json={"fail_next": 1_000_000}, headers=secret) as told:
            assert told.status == 200

        async def moved():
            return "split:m-alias~new/old_side/local" in await sent(stack, 10)

        await kit.eventually(moved)

        async def is_back():
            await rolling.once(stack.session)
            found = (await ask(stack, "GET", "/rollouts"))[1]["rollouts"][0]
            return found["state"] == "rolled_back" or not await sent(stack, 10)

        await kit.eventually(is_back)
        assert set(await sent(stack, 10)) == {"local"}

    run(check, **both(kit, ports))


@pytest.mark.full
def test_a_slow_gate_keeps_nothing_waiting_and_ends_with_its_rollout(run, kit, free_ports):
    ports = free_ports(2)

    async def check(stack):
        async with second(stack, kit, ports):
            assert (await ask(stack, "POST", "/rollouts", json=NEW))[0] == 201
            slow = GateSettings(argv=(sys.executable, "-c", "import time; time.sleep(600)"))
            rolling = driver(stack, gate=slow)
            for _ in range(2):
                await rolling.once(stack.session)
            assert rolling.holding == {"m-alias": "waits for the gate's answer"}
            gates = [task for task in asyncio.all_tasks() if task.get_name() == "gate of m-alias"]
            assert len(gates) == 1
            await ask(stack, "POST", "/rollouts/m-alias/abort?why=no")
            await rolling.once(stack.session)
            assert gates[0].cancelled()

    run(check, **both(kit, ports))


def keep_evaluation(settings, passed):
    """An evaluation of `m` and `m2` with thirty questions, newest of all; so many passed by m2."""
    answers = tuple(
        Answer(f"q{n}", is_answered=True, arm=arm,
               faults={"json": "no"} if arm and n >= passed else {})
        for n in range(30) for arm in range(2)
    )  # fmt: skip
    asked = tuple(Asked(f"q{n}", "?") for n in range(30))
    arms = (Arm("m@own", "m", "own"), Arm("m2@own", "m2", "own"))
    with closing(finance_opener(settings)()) as database:
        kept = Evaluation(f"e{passed}", "mine.yaml", "d", utc_ms(), arms, asked, answers)
        store.add(database, kept)


@pytest.mark.full
def test_an_evaluation_of_the_two_models_is_the_gate(run, kit, free_ports, tmp_path):
    ports, config = free_ports(2), tmp_path / "settings.json"
    gate = GateSettings(argv=(
        sys.executable, "-m", "ballast", "evaluate", "gate", "--between", "{old},{new}",
        "--drop-max", "0.2", "-c", str(config),
    ))  # fmt: skip

    async def state(stack, wanted):
        """A rollout with the gate, looked at until it is so; its reason."""
        await ask(stack, "DELETE", "/rollouts/m-alias")
        assert (await ask(stack, "POST", "/rollouts", json=NEW))[0] == 201
        rolling = driver(stack, gate=gate)

        async def is_so():
            await rolling.once(stack.session)
            row = (await ask(stack, "GET", "/rollouts"))[1]["rollouts"][0]
            return row["reason"] if wanted(row) else ""

        return await kit.eventually(is_so)

    async def check(stack):
        port = int(stack.url.rpartition(":")[2])
        tree = stack.tree | {"gateway": stack.tree["gateway"] | {"port": port}}
        config.write_text(json.dumps(tree))
        async with second(stack, kit, ports):
            said = await state(stack, lambda row: row["state"] == "rolled_back")
            assert "no evaluation of m,m2 is kept" in said
            await asyncio.to_thread(keep_evaluation, stack.settings, 12)
            said = await state(stack, lambda row: row["state"] == "rolled_back")
            assert "FAILS passed" in said
            await asyncio.to_thread(keep_evaluation, stack.settings, 30)
            said = await state(stack, lambda row: row["percent"] > 0)
            assert "the gate said yes" in said

    run(check, **both(kit, ports))


def test_who_may_not_and_what_cannot_be_is_refused(run, kit, free_ports):
    async def check(stack):
        async def refused(body, who="operator"):
            status, told = await ask(stack, "POST", "/rollouts", who, json=NEW | body)
            return status, told["error"]["message"]

        assert (await refused({}, "viewer"))[0] == 403
        assert await refused({"name": "nobody"}) == (400, "no model or alias 'nobody'")
        status, said = await refused({"new": "m3"})
        assert status == 400
        assert "no model 'm3' here; known: m, m2" in said
        assert "both 'm'" in (await refused({"new": "m"}))[1]
        assert "means 'm' now" in (await refused({"old": "m2"}))[1]
        assert "steps must end with 100" in (await refused({"steps": [5]}))[1]
        assert (await ask(stack, "GET", "/rollouts", "viewer"))[1] == {"rollouts": []}

    run(check, **both(kit, free_ports(2)))


def test_without_room_the_gap_is_told_and_must_be_accepted(run, kit):
    async def check(stack):
        await stack.chat(model="m")
        await stack.chat("home", model="m")
        await stack.rows(2)
        body = NEW | {"is_in_place": True, "gap_s": 3600.0}
        status, told = await ask(stack, "POST", "/rollouts/plan", "viewer", json=body)
        assert status == 200
        found = told["gap"]
        assert found["calls"] == pytest.approx(2 / 24)
        assert found["external_share"] == pytest.approx(0.5)
        assert found["usd"] > 0
        assert [(k["key"], k["what"]) for k in found["kept"]] == [("home", "refuse")]
        status, told = await ask(stack, "POST", "/rollouts", json=body)
        assert status == 409
        assert "50% go to third parties" in told["error"]["message"]
        assert "tenant home's key home" in told["error"]["message"]
        status, _ = await ask(stack, "POST", "/rollouts", json=body | {"accept": True})
        assert status == 201
        rolling = driver(stack)
        await rolling.once(stack.session)
        await rolling.once(stack.session)

        async def is_moved():
            reply = await stack.chat(model="m-alias")
            return reply.headers["x-ballast-reason"] == "split:m-alias~new/overflow:no_replica"

        await kit.eventually(is_moved)
        await rolling.once(stack.session)
        assert rolling.holding == {
            "m-alias": "waits for the new model's engine; third parties carry the gap"
        }
        said = rolling.waiting()["m-alias"]["said"]
        assert said["code"] == "rollout.in_the_gap", "told in the language of whoever reads it"
        assert (await ask(stack, "POST", "/rollouts/m-alias/abort?why=no"))[0] == 200
        await rolling.once(stack.session)
        assert rolling.waiting() == {}, "what has ended waits for nothing"

    offered = {"models.1.context_tokens": 32768, "models.1.offerings": ["alpha/big"],
               "models.1.engine": {"source": "/models/m2"}}  # fmt: skip
    run(
        check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        administrators=people(kit), **offered,
    )  # fmt: skip


def test_a_name_that_will_go_says_so_in_answers_and_in_the_list(run, kit):
    async def check(stack):
        told = await stack.chat(model="m-alias")
        assert told.headers["deprecation"] == "@1798761600"
        assert told.headers["sunset"] == "Thu, 01 Apr 2027 00:00:00 GMT"
        assert "deprecation" not in (await stack.chat(model="m")).headers
        listed = {row["id"]: row["ballast"] for row in (await stack.get("/v1/models")).json["data"]}
        assert listed["m-alias"]["deprecation"] == {
            "deprecated": "2027-01-01", "sunset": "2027-04-01", "successor": "m",
            "warning": "m-alias is deprecated from 2027-01-01 and may be gone after 2027-04-01;"
            " call m",
        }  # fmt: skip
        assert "deprecation" not in listed["m"]

    ending = {"deprecated": "2027-01-01", "sunset": "2027-04-01", "successor": "m"}
    run(check, engines=[kit.engine()], **{"rollout.endings": {"m-alias": ending}})


@pytest.mark.parametrize(
    ("state", "after_s", "wanted"),
    [("running", 9e6, True), ("paused", 9e6, True), ("done", 3599, True), ("done", 3600, False),
     ("aborted", 0, False), ("rolled_back", 0, False)],
)  # fmt: skip
def test_what_nothing_can_become_of_is_not_counted_any_more(state, after_s, wanted):
    row = ROW.model_copy(update={"state": state, "since_ms": 1000})
    assert is_watched(row, 1000 + round(after_s * 1e3)) == wanted


GATES = {
    "yes": ({"argv": (sys.executable, "-c", "pass")}, ""),
    "no": (
        {"argv": (sys.executable, "-c", "import sys; print('7 of', '{new}'); sys.exit(2)")},
        "ended with 2: 7 of b",
    ),
    "too long": (
        {"argv": (sys.executable, "-c", "input() if 0 else __import__('time').sleep(60)"),
         "timeout_s": 0.2},
        "no answer within",
    ),
    "not there": ({"argv": ("/nowhere/gate",)}, "cannot be run"),
    "none": ({}, ""),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "word"), GATES.values(), ids=GATES)
def test_a_gate_says_yes_or_why_not(settings, word):
    said = asyncio.run(ask_gate(GateSettings(**settings), ROW, None))
    assert word in said
    assert bool(said) == bool(word)


class Listener:
    """An address that takes what it is told, or fails so many times first."""

    def __init__(self, failures=0):
        self.failures, self.told = failures, []

    async def start(self):
        app = web.Application()
        app.router.add_post("/", self._take)
        self.served = await serve(app, "127.0.0.1", 0)
        return self.served

    async def _take(self, request):
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, text="later")
        self.told.append((await request.read(), request.headers.get("x-ballast-signature")))
        return web.Response()


def test_a_hook_tells_each_change_signed_and_gives_up_in_time(run, kit, tmp_path, free_ports):
    async def check(stack):
        listener = Listener()
        served = await listener.start()
        (tmp_path / "hook-secret").write_text("s3cret\n")
        given = HookSettings(url=served.url, secret_file=tmp_path / "hook-secret", tries_max=2)
        opened = opener(stack.settings)
        hook = RolloutHook(given, "here", tmp_path / "c" / "hook", opened, CollectorRegistry())
        assert await hook.once(stack.session)
        assert listener.told == [], "what was before it is not told"
        await ask(stack, "POST", "/rollouts", json=NEW)
        (tmp_path / "hook-secret").write_text("\n")
        with pytest.raises(ValueError, match="is empty"):
            await hook.once(stack.session)
        assert listener.told == [], "what everybody could have signed is not sent"
        (tmp_path / "hook-secret").write_text("s3cret\n")
        await ask(stack, "POST", "/switches", json={"scope": "model", "value": "m", "why": "x"})
        await ask(stack, "POST", "/rollouts/m-alias/pause")
        listener.failures = 1
        assert not await hook.once(stack.session), "away: asked again, from the same change on"
        assert await hook.once(stack.session)
        bodies = [json.loads(body) for body, _ in listener.told]
        assert [(b["name"], b["action"]) for b in bodies] == [
            ("m-alias", "start"), ("m-alias", "pause")
        ]  # fmt: skip
        assert bodies[0]["number"] < bodies[1]["number"]
        body, mark = listener.told[0]
        assert mark == signature(b"s3cret", body)
        assert mark == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert await hook.once(stack.session)
        assert len(listener.told) == 2, "each once"
        await ask(stack, "POST", "/rollouts/m-alias/abort")
        listener.failures = 9
        assert not await hook.once(stack.session)
        assert await hook.once(stack.session), "tried often enough: left out"
        assert len(listener.told) == 2
        url = GateSettings(url=f"{served.url}/gate")
        assert "answered 404" in await ask_gate(url, ROW, stack.session)
        listener.failures = 0
        assert await ask_gate(GateSettings(url=served.url), ROW, stack.session) == ""
        await served.close()

    run(check, **both(kit, free_ports(2)))


def test_a_rollout_that_a_newer_gateway_wrote_is_only_stopped_by_this_one_and_keeps_its_fields(
    run, kit, free_ports
):
    ports = free_ports(2)

    async def check(stack):
        async with second(stack, kit, ports):
            await walk(stack)

    async def walk(stack):
        status, _ = await ask(stack, "POST", "/rollouts", json=NEW)
        assert status == 201

        def rewritten():
            """As a version would leave it that knows one field more."""
            with closing(opener(stack.settings)()) as directory:
                head, rows = directory.read()
                (row,) = [one for one in rows if one.kind == "rollout"]
                told = json.loads(row.data) | {"shadow_percent": 5, "reason": "theirs"}
                more = Document("rollout", row.id, json.dumps(told).encode())
                said = event("rollout:m-alias", "start", By("newer", utc_ms(), ""), {})
                directory.commit(head, Change([more], said))

        await asyncio.to_thread(rewritten)

        async def is_read():
            rows = (await ask(stack, "GET", "/rollouts"))[1]["rollouts"]
            return rows[0]["reason"] == "theirs"

        await kit.eventually(is_read)
        rolling = driver(stack)
        for _ in range(3):
            await rolling.once(stack.session)
        assert "newer Ballast" in rolling.holding["m-alias"]
        for state, verb in (("paused", "pause"), ("aborted", "abort")):
            assert (await ask(stack, "POST", f"/rollouts/m-alias/{verb}"))[0] == 200
            with closing(opener(stack.settings)()) as directory:
                (row,) = [one for one in directory.read()[1] if one.kind == "rollout"]
            told = json.loads(row.data)
            assert (told["state"], told["shadow_percent"]) == (state, 5)
            status, told = await ask(stack, "POST", "/rollouts/m-alias/resume")
            assert status == 409
            assert "a newer Ballast wrote rollout" in told["error"]["message"]
        for method, path in (("POST", "/rollouts"), ("DELETE", "/rollouts/m-alias")):
            body = {"json": NEW} if path == "/rollouts" else {}
            assert (await ask(stack, method, path, **body))[0] == 409

    run(check, **both(kit, ports))


def test_a_plan_says_how_ceilings_move_with_the_name(run, kit, free_ports):
    async def check(stack):
        status, told = await ask(stack, "POST", "/rollouts/plan", "viewer", json=NEW)
        assert (status, told["ceilings"]) == (200, (
            "ceilings for third parties become those of m2: none (now 2.00 USD an hour)"
        ))  # fmt: skip
        assert told["words"].endswith(told["ceilings"])
        await ask(stack, "POST", "/rollouts", json=NEW)
        (row,) = (await ask(stack, "GET", "/rollouts"))[1]["rollouts"]
        assert row["reason"] == f"started; {told['ceilings']}"

    bound = {"routing.names": {"m-alias": {"ceilings": {"hour_usd": "2"}}}}
    run(check, **both(kit, free_ports(2)), **bound)
