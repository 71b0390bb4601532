"""Policies, splits, tiers and adapters through a real gateway, and what it tells of them."""

from __future__ import annotations

import pytest


def names(**given):
    return {"routing": {"names": given}}


@pytest.mark.parametrize("whose", ["own", "declared", "none"])
def test_whose_weights_answered_stands_in_the_head(run, kit, whose):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status == 200) == (whose != "none")
        assert reply.headers["x-ballast-weights"] == whose

    engines = [kit.engine()] if whose == "own" else []
    run(check, engines=engines, providers={"alpha": kit.provider()} if whose == "declared" else {})


@pytest.mark.parametrize(
    ("tenant", "routing", "served"),
    [({}, {}, False), ({"substitutes_max_tier": 2}, {}, True),
     ({}, {"substitutes_max_tier": 2}, True),
     ({"substitutes_max_tier": 1}, {"substitutes_max_tier": 3}, False)],
)  # fmt: skip
def test_other_weights_answer_only_where_the_tenant_is_content_with_them(
    run, kit, tenant, routing, served
):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status == 200) == served
        if served:
            assert reply.headers["x-ballast-weights"] == "tier2"
        else:
            assert "other weights" in reply.error["message"]
            assert await stack.seen() == []

    changes = {"models.0.weights": "Qwen/Qwen3-32B", "routing": routing,
               "tenants": [{"id": "acme", "residency": "anywhere", **tenant},
                           {"id": "beta"}, {"id": "home"}]}  # fmt: skip
    run(check, providers={"alpha": kit.provider()}, **changes)


def test_a_split_is_sticky_told_and_no_demand_for_engines(run, kit):
    async def check(stack) -> None:
        reasons = {}
        for n in range(24):
            headers = {"x-ballast-session": f"s{n % 12}"}
            reply = await stack.chat(headers=headers)
            assert reply.status == 200
            reasons.setdefault(n % 12, set()).add(reply.headers["x-ballast-reason"])
        assert all(len(found) == 1 for found in reasons.values())
        assert {r for found in reasons.values() for r in found} == {"split:a/local", "split:b"}
        assert (await stack.signals())["burst_total"] == 0

    split = [{"name": "a", "percent": 50, "toward": "own"},
             {"name": "b", "percent": 50, "toward": "alpha/big"}]  # fmt: skip
    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        **names(m={"split": split}))  # fmt: skip


def test_a_rule_by_header_sends_a_call_to_another_model(run, kit):
    async def check(stack) -> None:
        plain = await stack.chat()
        assert plain.headers["x-ballast-model"] == "m"
        reply = await stack.chat(headers={"x-task": "code"})
        assert (reply.status, reply.error["code"]) == (503, "overloaded"), "m2 has no engine"
        assert "'m2'" in reply.error["message"]

    rule = {"name": "code", "model": "m2", "header": "x-task", "value": "code"}
    run(check, engines=[kit.engine()], **names(m={"rules": [rule]}))


def test_a_shadow_is_written_beside_the_decision(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert reply.headers["x-ballast-reason"] == "local"
        (line,) = (await stack.get("/decisions")).json["decisions"]
        assert line["shadow"].startswith("latency-first=m@127.0.0.1")

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        **names(m={"shadow": "latency-first"}))  # fmt: skip


def test_a_ceiling_on_money_ends_what_leaves(run, kit):
    async def check(stack) -> None:
        first = await stack.chat()
        assert first.status == 200
        second = await stack.chat()
        assert (second.status, second.error["code"]) == (503, "overloaded")
        assert "the ceiling for third parties (hour) is reached" in second.error["message"]
        assert len(await stack.seen()) == 1

    run(check, providers={"alpha": kit.provider()},
        **names(m={"ceilings": {"hour_usd": "0.000001"}}))  # fmt: skip


def test_an_adapter_s_stand_in_is_told_its_prompt(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat(model="letters")
        assert reply.status == 200
        assert reply.headers["x-ballast-weights"] == "tier2"
        (seen,) = await stack.seen()
        messages = seen["body"]["messages"]
        assert messages == [{"role": "system", "content": "Sum up letters."}, *kit.MESSAGES]
        assert seen["body"]["model"] == "big"

    adapter = {"name": "letters", "elsewhere": "base", "prompt": "Sum up letters."}
    changes = {"models.0.adapters": [adapter], "routing": {"substitutes_max_tier": 2}}
    run(check, providers={"alpha": kit.provider()}, **changes)


# -- ballast explain


def test_explains_a_call_that_nobody_has_sent(run, kit):
    async def check(stack) -> None:
        found = (await stack.get("/explain?model=m&prompt_tokens=1000&tenant=acme")).json
        assert (found["decision"], found["reason"]) == ("run", "local")
        own, api = found["candidates"]
        assert (own["kind"], own["dropped"], own["id"]) == ("own", "", found["target"])
        assert (api["id"], api["weights"], api["dropped"]) == ("alpha/big", "declared", "")
        assert api["cost_micro"] > 0
        kept = (await stack.get("/explain?model=m&tenant=home")).json["candidates"][-1]
        assert (kept["id"], kept["dropped"]) == ("alpha/big", "residency")
        assert "residency" in kept["why"]
        for query in ("model=x", "model=m&class=soon", "model=m&tenant=x", "colour=red"):
            answer = await stack.get(f"/explain?{query}")
            assert answer.status == 400, query
            assert answer.json["error"]["message"]
        said = (await stack.get("/explain?model=x")).json["error"]["said"]
        assert (said["code"], said["values"]["name"]) == ("explain.model", "'x'")
        assert await stack.seen() == []
        assert (await stack.get("/decisions")).json["decisions"] == []

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_a_late_first_token_of_ours_asks_more_of_the_next_and_keeps_nobody_out(run, kit):
    async def check(stack) -> None:
        where = "/explain?model=m&class=interactive&tenant="
        assert (await stack.get(where + "acme")).json["margin"] == 0.0
        hurried = {"x_ballast_ttft_ms": "60"}
        long = [{"role": "user", "content": "word " * 400}]
        reply = await stack.chat(headers=hurried, stream=True, messages=long)
        assert (reply.status, reply.headers["x-ballast-reason"]) == (200, "local")
        assert (await stack.get(where + "acme")).json["margin"] == pytest.approx(0.0995, abs=1e-3)
        metrics = (await stack.get("/metrics")).body.decode()
        series = 'ballast_placement_margin{class="interactive",model="m"}'
        (line,) = (x for x in metrics.splitlines() if x.startswith(series))
        assert float(line.split()[-1]) == pytest.approx(0.0995, abs=1e-3)
        home = await stack.chat("home", stream=True)
        assert (home.status, home.headers["x-ballast-target"]) == (200, "own")
        assert await stack.seen() == []

    engine = kit.engine(profile="cpu-embedded", time_scale=0.2)
    run(check, engines=[engine], providers={"alpha": kit.provider()})


def test_a_provider_whose_limit_is_used_up_is_left_alone_before_it_refuses(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat()).headers["x-ballast-target"] == "api;alpha/big"
        assert (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"
        assert len(await stack.seen("alpha")) == 1
        rows = (await stack.get("/explain?model=m&tenant=acme")).json["candidates"]
        assert {row["id"]: row["dropped"] for row in rows} == {"alpha/big": "pace", "beta/big": ""}

    used = {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "5m0s"}  # fmt: skip
    run(check, providers={"alpha": kit.provider(head=used), "beta": kit.provider()})
