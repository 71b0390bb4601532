"""Canaries through a real gateway: each target is asked for itself, a changed one is asked last."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from autoscale.canaries import Canaries, targets
from serving.auth import digest
from serving.quality.base import Found
from serving.quality.sqlite import SqliteQuality
from serving.quality.values import Drift, Expect, Prompt, Sign
from serving.settings import Settings

PROMPTS = tuple(
    Prompt(f"p{n}", [{"role": "user", "content": f"say {n}"}], Expect(), max_tokens=8)
    for n in range(3)
)


def with_canary(kit, tmp_path, **changes):
    """Settings with a canary's key beside the usual ones."""
    path = tmp_path / "canary-key"
    path.write_text(kit.key_of("canary"))
    tree = kit.tree_of(tmp_path, [], {}, {})
    hmac = digest(kit.PEPPER, kit.key_of("canary").encode()).hex()
    key = {"id": "canary", "tenant": "acme", "hmac": hmac, "is_canary": True}
    return {"keys": [*tree["keys"], key], "canaries": {"key_file": str(path)}} | changes


async def rounds(stack, count: int, store) -> str:
    """Ask so many rounds; the metrics after."""
    tree = stack.tree or {}
    settings = stack.settings
    own = settings.gateway.model_copy(update={"port": int(stack.url.rpartition(":")[2])})
    settings = settings.model_copy(update={"gateway": own})
    registry, now = CollectorRegistry(), iter(range(1_000, 10**9, 7))
    canaries = Canaries(settings, PROMPTS, lambda: store, lambda: next(now), registry)
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            await canaries.once(session, store)
    assert isinstance(tree, dict)
    return generate_latest(registry).decode()


def test_each_target_is_asked_and_what_it_says_is_kept(run, kit, tmp_path):
    async def check(stack) -> None:
        store = SqliteQuality.open(stack.state / "canaries.sqlite")
        page = await rounds(stack, 2, store)
        for target in ("own", "alpha/big"):
            runs = store.runs("m", target)
            assert [r.prompt for r in runs] == ["p0", "p1", "p2"] * 2
            assert all(r.is_answered and r.is_valid and r.is_baseline for r in runs)
            assert f'ballast_canary_valid_ratio{{model="m",target="{target}"}} 1.0' in page
        assert len(await stack.seen("alpha")) == 6
        assert all(not r.is_answered for r in store.runs("m2", "own")), "m2 has no engine"
        rows = await stack.rows(18)
        assert {r.key_id for r in rows} == {"canary"}
        signals = await stack.signals()
        assert (signals["burst_total"], signals["shed_total"]) == (0, 0), "canaries are no demand"
        store.close()

    changes = with_canary(kit, tmp_path)
    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, **changes)


def test_only_a_canarys_key_may_pin_a_call(run, kit, tmp_path):
    async def check(stack) -> None:
        reply = await stack.chat(headers={"x_ballast_pin": "alpha/big"})
        assert (reply.status, reply.error["code"]) == (403, "header_not_allowed")
        reply = await stack.chat("canary", {"x_ballast_pin": "alpha/big"})
        assert reply.status == 200
        assert len(await stack.seen("alpha")) == 1
        reply = await stack.chat("canary", {"x_ballast_pin": "beta/big"})
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        reply = await stack.chat("canary", {"x_ballast_pin": "own"})
        assert reply.status == 200
        assert len(await stack.seen("alpha")) == 1

    changes = with_canary(kit, tmp_path)
    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, **changes)


def test_a_pin_breaks_no_hard_rule(run, kit, tmp_path):
    async def check(stack) -> None:
        reply = await stack.chat("canary", {"x_ballast_pin": "alpha/big"})
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen("alpha") == []

    changes = with_canary(kit, tmp_path)
    changes["tenants"] = [{"id": "acme"}, {"id": "beta"}, {"id": "home"}]
    run(check, providers={"alpha": kit.provider()}, **changes)


def test_an_offering_whose_answers_changed_is_asked_last(run, kit, tmp_path):
    async def check(stack) -> None:
        assert (await stack.chat()).headers["x-ballast-target"] == "api;alpha/big"
        drift = Drift("m", "alpha/big", Sign.VALIDITY, 1, 0, 0)
        now_ms = 1 << 60
        store = SqliteQuality.open(stack.state / "canaries.sqlite")
        await asyncio.to_thread(store.conclude, Found("m", "alpha/big", now_ms, [drift]))
        store.close()
        await stack.stop()
        await stack.restart(stack.settings.model_dump(mode="json"))

        async def beta() -> bool:
            return (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"

        await kit.eventually(beta)

    providers = {"alpha": kit.provider(), "beta": kit.provider()}
    run(check, providers=providers, **with_canary(kit, tmp_path))


@pytest.mark.parametrize(("models", "count"), [((), 3), (("m2",), 1)])
def test_all_chatting_models_are_asked_unless_some_are_named(kit, tmp_path, models, count):
    providers = {"alpha": "http://127.0.0.1:1"}
    tree = kit.tree_of(tmp_path, [], providers, {"canaries": {"models": list(models)}})
    tree["models"].append({"name": "vectors", "profile": "instant", "surfaces": ["embeddings"]})
    assert len(targets(Settings.model_validate(tree))) == count
