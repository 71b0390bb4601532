"""The fleet: a view grows from answers, never empties by a failed poll, and forgets the drained."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from models.capacity import Load
from serving.admission import Admission
from serving.discovery import Address, Listing
from serving.fleet import Bounds, Fleet
from serving.secret import Secret
from serving.seen import MISSES_MAX, SLOW_POLLS_MAX, Seen
from serving.settings import Engine, Model, Pool
from serving.settings import Fleet as FleetSettings

MODEL = Model(name="m", engine=Engine(), time_to_ready_s=50.0, profile="instant")
NOTHING = Listing((), frozenset(), frozenset())


class Engines:
    """One HTTP server that plays every engine; `answers` by path prefix, a status or JSON."""

    def __init__(self):
        self.answers = {}
        self.secrets = set()
        self.port = 0

    def address(self, name, model="m"):
        return Address(model, "127.0.0.1", self.port, f"/{name}", 16)

    async def answer(self, request):
        self.secrets.add(request.headers["x-ballast-secret"])
        found = self.answers.get(request.match_info["name"], 404)
        if isinstance(found, asyncio.Event):
            await found.wait()
            return web.Response(status=503)
        if isinstance(found, int):
            return web.Response(status=found)
        text = found if isinstance(found, str) else json.dumps(found)
        return web.Response(text=text, content_type="application/json")


class Given:
    """A source that lists what it is told to, or fails."""

    def __init__(self, found=NOTHING, name="given"):
        self.found = found
        self.name = name

    async def poll(self, session):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@asynccontextmanager
async def fleet_of(source, models=(MODEL,), offerings=None, **settings):
    engines = Engines()
    application = web.Application()
    application.router.add_get("/{name}/internal/load", engines.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engines.port = runner.addresses[0][1]
    given = FleetSettings.model_validate({"serve_url": "http://x", "poll_s": 0.01, **settings})
    fleet = Fleet(given, models, offerings or {}, Admission(), Bounds(3, 20.0))
    turns = asyncio.Queue()
    fleet.on_view = lambda: turns.put_nowait(fleet.view)
    fleet.start(source if isinstance(source, list) else [source])
    await turns.get()

    async def until(condition):
        async with asyncio.timeout(20.0):
            while not condition(view := await turns.get()):
                pass
        return view

    try:
        yield fleet, engines, until
    finally:
        await fleet.close()
        await runner.cleanup()


LOAD = {"w": 1, "r": 2, "q": 30, "kv": 0.5, "limit": 9}


def listed(engines, *names):
    return Listing(tuple(engines.address(n) for n in names), frozenset(), frozenset())


def test_an_engine_is_in_the_view_once_it_has_answered():
    async def run():
        source = Given()
        async with fleet_of(source, pool=Pool(operator="me")) as (fleet, engines, until):
            assert not fleet.view.replicas
            source.found = listed(engines, "a", "b")
            engines.answers["a"] = LOAD
            view = await until(lambda v: v.replicas)
            (replica,) = view.replicas["m"]
            assert (replica.limit, replica.prefix, replica.label.operator) == (9, "/a", "me")
            assert view.state[replica.id].load == Load(1, 2, 30, 0.5)
            assert (view.gateway_pods, view.hold_s_max) == (3, 20.0)
            assert "m" not in view.pending

    asyncio.run(run())


def test_a_source_that_fails_keeps_its_last_list():
    async def run():
        source = Given()
        async with fleet_of(source) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            await until(lambda v: v.replicas)
            for error in (aiohttp.ClientError(), OSError(), TimeoutError(), ValueError()):
                source.found = error
                for _ in range(3):
                    assert (await until(lambda v: True)).replicas

    asyncio.run(run())


def test_an_engine_too_busy_to_answer_polls_stays_in_the_view():
    async def run():
        source = Given()
        async with fleet_of(source, poll_timeout_s=0.02) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            await until(lambda v: v.replicas)
            engines.answers["a"] = stuck = asyncio.Event()
            for _ in range(3 * MISSES_MAX):
                assert (await until(lambda v: True)).replicas
            stuck.set()

    asyncio.run(run())


def test_a_silent_host_is_told_once_when_it_begins_and_once_when_it_is_given_up():
    async def run():
        source, told = Given(), []
        async with fleet_of(source, poll_timeout_s=0.02) as (fleet, engines, until):
            fleet.on_quiet = lambda host: told.append(("quiet", host))
            fleet.on_lost = lambda host: told.append(("lost", host))
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            await until(lambda v: v.replicas)
            engines.answers["a"] = stuck = asyncio.Event()
            await until(lambda v: not v.replicas)
            await until(lambda v: True)
            stuck.set()
            host = ("127.0.0.1", engines.port)
            assert told == [("quiet", host), ("lost", host)]

    asyncio.run(run())


def heeding(told, *names):
    """A fleet that nobody polls for, and what it has seen of engines behind one address."""
    fleet = Fleet(FleetSettings(), (MODEL,), {}, Admission(), Bounds(3, 20.0))
    fleet.on_quiet = lambda _: told.append(("quiet", len(told)))
    fleet.on_lost = lambda _: told.append(("lost", len(told)))
    for name in names:
        address = Address("m", "10.0.0.1", 80, f"/{name}", 16)
        fleet._seen[address] = Seen(address)
    return fleet, tuple(fleet._seen.values())


def test_who_heard_something_from_a_silent_host_is_judged_again():
    told = []
    fleet, (seen,) = heeding(told, "a")
    for _ in range(2 * SLOW_POLLS_MAX):
        seen.missed("slow", is_slow=True)
        fleet._heed(seen)
    assert [what for what, _ in told] == ["quiet", "lost"] * 2


def test_a_host_that_says_no_is_not_silent_however_often():
    told = []
    fleet, (seen,) = heeding(told, "a")
    for turn in range(4 * SLOW_POLLS_MAX):
        seen.missed("slow" if turn % SLOW_POLLS_MAX else "refused", is_slow=turn % 2 == 0)
        fleet._heed(seen)
    assert told == []


def test_engines_that_answer_keep_the_address_they_share_with_a_silent_one():
    told = []
    fleet, (silent, other) = heeding(told, "a", "b")
    for _ in range(SLOW_POLLS_MAX):
        other.answered()
        silent.missed("slow", is_slow=True)
        fleet._heed(silent)
    assert told == []


@pytest.mark.parametrize(
    ("number", "silent"), [(errno.EHOSTUNREACH, 1), (errno.ECONNREFUSED, 0)], ids=str
)
def test_a_host_to_which_nothing_leads_is_as_silent_as_one_that_stands_still(number, silent):
    class Session:
        def get(self, url, headers):
            raise OSError(number, "no")

    async def run():
        fleet, (seen,) = heeding([], "a")
        fleet._session = Session()
        await fleet._ask(seen.address, seen)
        assert (seen.misses, seen.silent) == (1, silent)

    asyncio.run(run())


def test_a_silent_engine_that_left_the_list_is_asked_until_it_is_known_what_it_is():
    async def run():
        source, told = Given(), []
        async with fleet_of(source, poll_timeout_s=0.02) as (fleet, engines, until):
            fleet.on_quiet = told.append
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            await until(lambda v: v.replicas)
            engines.answers["a"] = stuck = asyncio.Event()
            await until(lambda v: any(one.silent for one in fleet._seen.values()))
            source.found = NOTHING
            await until(lambda v: not v.replicas)
            await until(lambda v: told)
            assert not fleet.view.replicas
            stuck.set()
            await until(lambda v: not fleet._left)

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [500, 403, "no json", "[]", "{}", '{"w":"x","r":0,"q":0,"kv":0}', '{"w":1,"r":null}'],
    ids=str,
)  # fmt: skip
def test_an_engine_leaves_after_some_answers_in_a_row_that_are_none(answer):
    async def run():
        source = Given()
        async with fleet_of(source) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            before = await until(lambda v: v.replicas)
            engines.answers["a"] = answer
            gone = await until(lambda v: not v.replicas)
            assert gone.seq - before.seq >= MISSES_MAX
            engines.answers["a"] = LOAD
            await until(lambda v: v.replicas)

    asyncio.run(run())


def test_a_draining_engine_leaves_at_once():
    async def run():
        source = Given()
        async with fleet_of(source) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            await until(lambda v: v.replicas)
            engines.answers["a"] = LOAD | {"draining": True}
            await until(lambda v: not v.replicas)

    asyncio.run(run())


def test_targets_that_left_the_list_are_forgotten_and_offerings_are_not(make):
    async def run():
        source, offering = Given(), make.offering()
        async with fleet_of(source, offerings={"m": (offering,)}) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD
            view = await until(lambda v: v.replicas)
            assert len(view.state) == 2
            source.found = NOTHING
            view = await until(lambda v: not v.replicas)
            assert set(view.state) == {offering.id}

    asyncio.run(run())


def test_engines_of_unknown_models_stay_outside():
    async def run():
        source = Given()
        async with fleet_of(source) as (_, engines, until):
            engines.answers["a"] = LOAD
            source.found = Listing((engines.address("a", "other"),), frozenset(), frozenset())
            for _ in range(4):
                assert not (await until(lambda v: True)).replicas

    asyncio.run(run())


def test_a_model_without_engine_is_expected_after_its_usual_time():
    async def run():
        async with fleet_of(Given()) as (_, _, until):
            view = await until(lambda v: True)
            assert 40.0 < view.pending["m"].expected_s - view.observed_s <= 50.0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "settings", "found"),
    [
        (MODEL, {}, Listing((), frozenset(), frozenset({"m"}))),
        (MODEL.model_copy(update={"engine": None}), {}, NOTHING),
        (MODEL, {"serve_url": ""}, NOTHING),
    ],
    ids=["its deployment failed", "it has no engine", "nobody starts engines"],
)
def test_nothing_is_expected_where_nothing_is_coming(model, settings, found):
    async def run():
        async with fleet_of(Given(found), (model,), **settings) as (_, _, until):
            await until(lambda v: not v.pending)

    asyncio.run(run())


def test_the_secret_is_the_first_line_and_is_read_again_when_it_changes(tmp_path):
    import os

    path = tmp_path / "secret"
    assert Secret(None)() == b""
    missing = Secret(path)
    assert missing() == b""
    path.write_bytes(b"new\nold\n")
    missing.refresh()
    assert missing() == b"new"
    path.write_bytes(b"newer\nnew\n")
    os.utime(path, ns=(0, 1))
    missing.refresh()
    assert missing() == b"newer"


def logged(caplog, *events):
    return [
        (r.levelname, r.message, getattr(r, "reason", "")) for r in caplog.records
        if r.message in events
    ]  # fmt: skip


REACH = ("replica_unreachable", "replica_reachable", "replica_lost")


async def turns(until, count):
    for _ in range(count):
        await until(lambda v: True)


def test_an_engine_that_never_became_ready_is_said_once_and_again_when_it_changed(caplog):
    async def run():
        source = Given()
        async with fleet_of(source) as (fleet, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), 401
            await turns(until, MISSES_MAX * 3)
            secret = "status 401: it has another deployment secret"
            assert logged(caplog, *REACH) == [("WARNING", REACH[0], secret)]
            assert not fleet.view.replicas
            engines.answers["a"] = 500
            await turns(until, MISSES_MAX * 3)
            assert logged(caplog, *REACH)[1:] == [("WARNING", REACH[0], "status 500")]
            engines.answers["a"] = LOAD
            await until(lambda v: v.replicas)
            assert logged(caplog, *REACH)[2:] == [("INFO", REACH[1], "")]
            engines.answers["a"] = 401
            await until(lambda v: not v.replicas)
            await turns(until, MISSES_MAX * 2)
            assert logged(caplog, *REACH)[3:] == [("WARNING", REACH[2], secret)]

    caplog.set_level(logging.INFO)
    asyncio.run(run())


def test_an_engine_that_drains_and_goes_is_no_news(caplog):
    async def run():
        source = Given()
        async with fleet_of(source) as (_, engines, until):
            source.found, engines.answers["a"] = listed(engines, "a"), LOAD | {"draining": True}
            await until(lambda v: engines.secrets)
            await turns(until, 2)
            engines.answers["a"] = 500
            await turns(until, MISSES_MAX * 2)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert logged(caplog, *REACH) == []


def test_a_source_that_is_away_is_said_once_and_ages_the_view(caplog):
    events = ("source_unreachable", "source_reachable")

    async def run():
        source = Given(name="serve")
        async with fleet_of([Given(name="static"), source]) as (fleet, _, until):
            before = await until(lambda v: v.seq > 2)
            source.found = TimeoutError()
            await until(lambda v: fleet.away)
            away = await until(lambda v: True)
            late = (await until(lambda v: v.seq > away.seq + 3)).observed_s
            assert late == away.observed_s >= before.observed_s
            assert fleet.away == {"serve": "TimeoutError"}
            assert logged(caplog, *events) == [("WARNING", events[0], "TimeoutError")]
            source.found = NOTHING
            await until(lambda v: v.observed_s > late)
            assert fleet.away == {}
            assert logged(caplog, *events)[1:] == [("INFO", events[1], "")]

    caplog.set_level(logging.INFO)
    asyncio.run(run())


def test_a_poll_that_dies_tells_its_owner(caplog):
    async def run():
        source, died = Given(), asyncio.Event()
        async with fleet_of(source) as (fleet, _, _):
            fleet.on_death = died.set
            source.found = RuntimeError("a bug")
            async with asyncio.timeout(20.0):
                await died.wait()

    asyncio.run(run())
    assert [r.task for r in caplog.records if r.message == "task_died"] == ["fleet"]
