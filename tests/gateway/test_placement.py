"""Where calls go: hold, queue, overflow, refusal; and that a client who leaves frees its place."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web

from serving.fakes.server import serve

LONG = [{"role": "user", "content": "word " * 8000}]
"""So many tokens that the slow profile predicts far more than five seconds."""


class Serve:
    """Ray Serve's REST API, as far as discovery reads it."""

    def __init__(self) -> None:
        self.targets: list[dict] = []
        self.status = "DEPLOYING"

    async def start(self):
        app = web.Application()
        app.router.add_get("/api/serve/applications/", self._answer)
        return await serve(app, "127.0.0.1", 0)

    async def _answer(self, request: web.Request) -> web.Response:
        group = {"route_prefix": "/m/m", "protocol": "HTTP", "targets": self.targets}
        application = {"route_prefix": "/m/m", "status": self.status}
        return web.json_response({"applications": {"m": application}, "target_groups": [group]})


def with_ray(run, kit, check, *, ready_s: float, engine=None, **more):
    """Run a check with an engine that Ray is still deploying: `check(stack, arrive)`."""

    async def wrapped(stack) -> None:
        ray = Serve()
        served = await ray.start()
        late = []

        async def arrive() -> None:
            late.append(await kit.start_engine(engine or kit.engine(prefix="/m/m")))
            ray.targets = [{"ip": "127.0.0.1", "port": late[0].port}]
            ray.status = "RUNNING"

        try:
            await stack.stop()
            (stack.state / "time-to-ready-0.json").unlink()
            tree = stack.tree
            tree["fleet"]["serve_url"] = f"http://127.0.0.1:{served.port}"
            tree["models"][0] |= {"engine": {}, "time_to_ready_s": ready_s}
            await stack.restart(tree)
            await check(stack, arrive)
        finally:
            for one in (*late, served):
                await one.close()

    run(wrapped, **more)


def test_holds_a_call_while_the_engine_is_expected_then_serves_it(run, kit):
    async def check(stack, arrive) -> None:
        asking = [asyncio.ensure_future(stack.chat("patient", stream=s)) for s in (False, True)]

        async def is_held() -> bool:
            return (await stack.signals())["queued"] == 2

        await kit.eventually(is_held)
        models = {m["id"]: m for m in (await stack.get("/v1/models")).json["data"]}
        assert models["m"]["ballast"]["status"] == "loading"
        await arrive()
        for reply in await asyncio.gather(*asking):
            assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        for row in await stack.rows(2):
            assert (row.outcome, row.attempts) == ("ok", 1)
            assert row.queue_ms > 0

    with_ray(run, kit, check, ready_s=5.0)


def test_a_held_call_whose_engine_never_comes_is_refused_in_time(run, kit):
    async def check(stack, _arrive) -> None:
        reply = await stack.chat("patient")
        assert reply.status == 503
        assert reply.error["code"] in ("engine_loading", "overloaded", "queue_timeout")
        assert int(reply.headers["retry-after"]) >= 1
        (row,) = await stack.rows(1)
        assert row.attempts == 0
        assert row.queue_ms >= 500

    queue = {"gateway.queue": {"hold_s_max": 2.2}}
    with_ray(run, kit, check, ready_s=2.0, **queue)


def test_a_new_first_guess_in_the_settings_counts_after_a_restart(run, kit):
    async def check(stack, _arrive) -> None:
        await stack.stop()
        stack.tree["models"][0]["time_to_ready_s"] = 300.0
        await stack.restart(stack.tree)
        expected_s = (await stack.get("/fleet")).json["models"]["m"]["expected_in_s"]
        assert 200 < expected_s <= 300

    with_ray(run, kit, check, ready_s=100.0)


def test_an_engine_that_is_expected_too_late_is_not_waited_for(run, kit):
    async def check(stack, _arrive) -> None:
        reply = await stack.chat("never")
        assert (reply.status, reply.error["code"]) == (503, "engine_loading")
        assert 100 <= int(reply.headers["retry-after"]) <= 301
        (row,) = await stack.rows(1)
        assert row.queue_ms == 0
        bridged = await stack.chat("main")
        assert bridged.headers["x-ballast-target"] == "api;alpha/big"
        assert bridged.headers["x-ballast-reason"] == "overflow:no_replica"

    with_ray(run, kit, check, ready_s=300.0, providers={"alpha": kit.provider()})


def test_refuses_at_once_when_nothing_is_expected(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        (row,) = await stack.rows(1)
        assert (row.outcome, row.queue_ms, row.attempts) == ("refused", 0, 0)

    run(check)


def test_without_a_replica_calls_overflow(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        assert reply.headers["x-ballast-reason"] == "overflow:no_replica"
        assert (await stack.signals())["burst_total"] == 1

    run(check, providers={"alpha": kit.provider()})


@pytest.mark.parametrize(
    ("key", "code"),
    [("never", "overloaded"), ("load", "overloaded"), ("home", "residency_refused")],
)
def test_what_may_not_leave_never_leaves(run, kit, key, code):
    """No replica, a full engine, a long wait: the provider sees nothing in any case."""

    async def check(stack) -> None:
        for is_stream in (False, True):
            reply = await stack.chat(key, stream=is_stream)
            status = 403 if code == "residency_refused" else 503
            assert (reply.status, reply.error["code"]) == (status, code)
        assert await stack.seen() == []
        assert {row.attempts for row in await stack.rows(2)} == {0}

    run(check, providers={"alpha": kit.provider()})


@pytest.mark.parametrize("residency", ["premises", "Premises", "mainland", "cn,sg"])
def test_a_call_may_keep_itself_from_a_provider_that_its_key_allows(run, kit, residency):
    async def check(stack) -> None:
        for is_stream in (False, True):
            reply = await stack.chat(headers={"x_ballast_residency": residency}, stream=is_stream)
            assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen() == []
        for wider in ("anywhere", "us"):
            reply = await stack.chat(headers={"x_ballast_residency": wider})
            assert reply.headers["x-ballast-target"] == "api;alpha/big"
        reply = await stack.chat("home", headers={"x_ballast_residency": "anywhere"})
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        reply = await stack.chat(headers={"x_ballast_residency": "moon"})
        assert (reply.status, reply.error["code"]) == (400, "invalid_value")
        reply = await stack.chat(headers={"x_ballast_tenant": "beta"})
        assert (reply.status, reply.error["code"]) == (403, "header_not_allowed")
        assert len(await stack.seen()) == 2

    run(check, providers={"alpha": kit.provider()})


def test_a_call_that_no_provider_would_understand_is_refused_by_name(run, kit):
    async def check(stack) -> None:
        for name, value in (("guided_choice", ["a"]), ("top_k", 5)):
            reply = await stack.chat(**{name: value})
            assert (reply.status, reply.error["code"]) == (503, "overloaded")
            assert name in reply.error["message"]
        assert await stack.seen() == []
        trivial = {"guided_choice": None, "use_beam_search": False, "n": 1}
        assert (await stack.chat(**trivial, metadata={"a": "b"}, store=True)).status == 200
        (seen,) = await stack.seen()
        assert set(seen["body"]) == {"model", "messages", "max_tokens", "n"}

    run(check, providers={"alpha": kit.provider()})


@pytest.mark.parametrize("key", ["never", "load", "home"])
def test_what_may_not_leave_is_refused_when_the_wait_is_too_long(run, kit, key):
    async def check(stack) -> None:
        reply = await stack.chat(key, messages=LONG)
        assert (reply.status, reply.error["code"]) == (503, "deadline_unreachable")
        assert int(reply.headers["retry-after"]) >= 1
        assert await stack.seen() == []

    engine = kit.engine(profile="cpu-embedded")
    profile = {"models.0.profile": "cpu-embedded"}
    run(check, engines=[engine], providers={"alpha": kit.provider()}, **profile)


def test_a_predicted_wait_overflows_before_any_error(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat("main", messages=LONG)
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        assert reply.headers["x-ballast-reason"] == "overflow:predicted_wait"
        (row,) = await stack.rows(1)
        assert row.attempts == 1
        short = await stack.chat("main")
        assert short.headers["x-ballast-reason"] == "local"

    engine = kit.engine(profile="cpu-embedded")
    profile = {"models.0.profile": "cpu-embedded"}
    run(check, engines=[engine], providers={"alpha": kit.provider()}, **profile)


def test_a_full_engine_overflows(run, kit):
    """The engine's own 503 means full and never reaches the client."""

    async def check(stack) -> None:
        await stack.control(stack.engines[0], drain=False, fail_next=1, status=503)
        reply = await stack.chat()
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        assert reply.headers["x-ballast-reason"] == "overflow:full"
        (row,) = await stack.rows(1)
        first, _second = stack.attempts(row.request_id)
        assert (first.end.outcome, first.end.error) == ("full", "full")

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_a_full_engine_without_overflow_is_asked_again_before_it_is_no(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], fail_next=1, status=503)
        reply = await stack.chat("never")
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        (row,) = await stack.rows(1)
        assert row.attempts == 2
        await stack.control(stack.engines[0], fail_next=1000, status=503)
        reply = await stack.chat("never")
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1

    run(check, engines=[kit.engine()])


def test_a_pod_keeps_its_share_and_queues_the_rest(run, kit):
    """Two pods share an engine of two places: this one sends one call at a time."""

    async def check(stack) -> None:
        most = 0
        asking = [asyncio.ensure_future(stack.chat("never", max_tokens=4)) for _ in range(6)]
        while not all(one.done() for one in asking):
            most = max(most, (await stack.signals())["running"])
        assert [one.result().status for one in asking] == [200] * 6
        assert most == 1
        rows = await stack.rows(6)
        assert sum(row.queue_ms > 0 for row in rows) >= 4
        assert {row.attempts for row in rows} == {1}

    slow = kit.engine(**kit.SLOW, max_queued_reqs=2)
    run(check, engines=[slow], **{"gateway.pods": 2})


def test_two_tenants_take_turns_in_the_queue(run, kit):
    """A tenant that fills the queue does not push the other one to its end."""

    async def check(stack) -> None:
        ended = []

        async def ask(key: str) -> None:
            reply = await stack.chat(key, max_tokens=4, messages=long)
            assert reply.status == 200
            ended.append(key)

        long = [{"role": "user", "content": "w" * 7000}]  # a turn each: about a quantum of tokens
        async with stack.streaming("patient", max_tokens=200) as response:
            await response.content.readany()
            await stack.control(stack.engines[0], hang=True)
            many = [asyncio.ensure_future(ask("patient")) for _ in range(8)]

            async def are_held() -> bool:
                return (await stack.signals())["queued"] == 8

            await kit.eventually(are_held)
            few = [asyncio.ensure_future(ask("patient-beta")) for _ in range(2)]

            async def all_held() -> bool:
                return (await stack.signals())["queued"] == 10

            await kit.eventually(all_held)
        await stack.control(stack.engines[0], hang=False)
        await asyncio.gather(*many, *few)
        assert ended.index("patient-beta") <= 3
        assert [i for i, key in enumerate(ended) if key == "patient-beta"][-1] <= 6

    slow = kit.engine(profile="cpu-embedded", time_scale=0.05, max_queued_reqs=1, output_tokens=500)
    run(check, engines=[slow])


def test_a_full_queue_refuses(run, kit):
    async def check(stack) -> None:
        async with stack.streaming("patient", max_tokens=100) as response:
            await response.content.readany()
            held = asyncio.ensure_future(stack.chat("patient"))

            async def is_held() -> bool:
                return (await stack.signals())["queued"] == 1

            await kit.eventually(is_held)
            reply = await stack.chat("patient")
            assert (reply.status, reply.error["code"]) == (503, "queue_full")
            assert int(reply.headers["retry-after"]) >= 1
        assert (await held).status == 200

    slow = kit.engine(**kit.SLOW, max_queued_reqs=1, output_tokens=500)
    run(check, engines=[slow], **{"gateway.queue": {"calls_max": 1}})


def test_in_a_full_queue_a_call_that_may_wait_gives_its_place_to_one_that_cannot(run, kit):
    async def check(stack) -> None:
        async with stack.streaming("patient", max_tokens=100) as response:
            await response.content.readany()
            patient = asyncio.ensure_future(stack.chat("patient"))

            async def is_held() -> bool:
                return (await stack.signals())["queued"] == 1

            await kit.eventually(is_held)
            urgent = asyncio.ensure_future(stack.chat("main"))
            reply = await patient
            assert (reply.status, reply.error["code"]) == (503, "overloaded"), "placed anew"
            again = await stack.chat("patient")
            assert (again.status, again.error["code"]) == (503, "queue_full")
        assert (await urgent).status == 200
        assert len(await stack.rows(4)) == 4

    slow = kit.engine(**kit.SLOW, max_queued_reqs=1, output_tokens=500)
    run(
        check, engines=[slow],
        **{"gateway.queue": {"calls_max": 1},
           "gateway.classes": {"interactive": {"first_token_s": 30.0, "complete_s": 60.0}}},
    )  # fmt: skip


def test_a_client_that_leaves_mid_stream_frees_its_engine_slot(run, kit):
    async def check(stack) -> None:
        async with stack.streaming(max_tokens=512) as response:
            await response.content.readany()
            assert (await stack.load())["r"] == 1

        async def is_free() -> bool:
            load = await stack.load()
            return load["r"] + load["w"] == 0

        await kit.eventually(is_free, within_s=1.0)
        (row,) = await stack.rows(1)
        assert (row.outcome, row.status) == ("disconnected", 499)
        assert row.usage.is_estimated
        assert (await stack.signals())["running"] == 0

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=500)])


def test_a_client_that_leaves_before_content_frees_its_engine_slot(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        asking = asyncio.ensure_future(stack.chat())

        async def is_there() -> bool:
            return (await stack.load())["w"] == 1

        await kit.eventually(is_there)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

        async def is_free() -> bool:
            return (await stack.load())["w"] == 0

        await kit.eventually(is_free, within_s=1.0)
        (row,) = await stack.rows(1)
        assert row.outcome == "disconnected"

    run(check, engines=[kit.engine()])


def test_a_client_that_leaves_the_queue_is_gone_from_it(run, kit):
    async def check(stack) -> None:
        async with stack.streaming("patient", max_tokens=200) as response:
            await response.content.readany()
            asking = asyncio.ensure_future(stack.chat("patient"))

            async def is_held() -> bool:
                return (await stack.signals())["queued"] == 1

            await kit.eventually(is_held)
            asking.cancel()

            async def is_gone() -> bool:
                return (await stack.signals())["queued"] == 0

            await kit.eventually(is_gone, within_s=1.0)
        rows = await stack.rows(2)
        assert {row.outcome for row in rows} == {"disconnected"}
        assert sorted(row.attempts for row in rows) == [0, 1]

    slow = kit.engine(**kit.SLOW, max_queued_reqs=1, output_tokens=500)
    run(check, engines=[slow])


def test_deadline_headers_shorten_but_never_lengthen(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        reply = await stack.chat(headers={"x_ballast_timeout_ms": "300"})
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
        await stack.control(stack.engines[0], hang=False)
        reply = await stack.chat(headers={"x_ballast_ttft_ms": "86400000"})
        assert reply.status == 200
        first, _ = await stack.rows(2)
        assert first.outcome == "timeout"

    run(check, engines=[kit.engine()])


def test_a_stream_is_cut_only_at_its_last_deadline_and_says_so(run, kit):
    async def check(stack) -> None:
        reply = await stack.post(
            "/v1/chat/completions",
            kit.chat(stream=True, max_tokens=2000),
            x_ballast_timeout_ms="1500",
        )
        assert reply.status == 200
        assert reply.events[-1]["error"]["code"] == "stream_interrupted"
        assert kit.text_of(kit.MESSAGES, 2000).startswith(reply.text)
        (row,) = await stack.rows(1)
        assert row.outcome == "cut"

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=2000)])


def test_an_engine_that_vanished_is_noticed_and_its_calls_overflow(run, kit):
    async def check(stack) -> None:
        stack.engines[0].kill()
        reply = await stack.chat()
        assert (reply.status, reply.headers["x-ballast-target"]) == (200, "api;alpha/big")
        await stack.ready(0)
        assert (await stack.chat()).headers["x-ballast-reason"] == "overflow:no_replica"

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_a_forwarder_s_customers_stay_apart_in_books_residency_and_engine_caches(run, kit):
    """Names come by header; only a forwarder's key may say them."""

    async def check(stack) -> None:
        ann = {"x_ballast_tenant": "shop", "x_ballast_project": "prod", "x_ballast_feature": "quiz",
               "x_ballast_user": "ann@example.org"}  # fmt: skip
        reply = await stack.chat("gateway", headers=ann)
        assert reply.headers["x-ballast-target"] == "api"
        reply = await stack.chat("gateway", headers={"x_ballast_tenant": "home"})
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        rows = {row.tenant: row for row in await stack.rows(2)}
        assert set(rows) == {"acme/shop", "acme/home"}
        row = rows["acme/shop"]
        assert (row.project, row.feature, len(row.user)) == ("prod", "quiz", 32)
        for name, value in ann.items():
            reply = await stack.chat("main", headers={name: value})
            assert (reply.status, reply.error["code"]) == (403, "header_not_allowed")

    run(
        check, providers={"alpha": kit.provider()},
        tenants=[{"id": "acme", "residency": "anywhere"}, {"id": "acme/home"},
                 {"id": "beta", "residency": "anywhere"}, {"id": "home"}],
    )  # fmt: skip


def test_an_engine_under_other_law_is_never_asked_for_a_tenant_of_the_premises(run, kit):
    """One list of engines, two labels: the router judges each by its own."""

    async def check(stack) -> None:
        tree = stack.tree
        far = tree["fleet"]["static"][1]
        far["pool"] = {"jurisdiction": "us", "operator": "a cloud", "on_premises": False}
        await stack.stop()
        await stack.restart(tree)
        await stack.ready(2)
        await stack.control(stack.engines[0], fail_next=100, status=503)  # the near one is full
        reply = await stack.chat("home")
        assert reply.status == 503
        reply = await stack.chat("main")
        assert reply.status == 200
        row = (await stack.rows(2))[-1]
        assert row.target.endswith(far["url"].rpartition("//")[2])
        intent = stack.attempts(row.request_id)[-1].intent
        assert (intent.jurisdiction, intent.provider) == ("us", "a cloud")

    run(check, engines=[kit.engine(), kit.engine()], **{"gateway.queue": {"hold_s_max": 0.5}})
