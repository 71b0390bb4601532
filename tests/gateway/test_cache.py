"""Embeddings and rerankings by input, and whole answers where a tenant asked for it."""

from __future__ import annotations

from typing import Any

import pytest

from serving.records import Stops

EMBEDDER = {"name": "m", "profile": "instant", "surfaces": ["embeddings"], "weights": "Qwen/E"}
RERANKER = {"name": "m", "profile": "instant", "surfaces": ["rerank", "score"]}
INPUTS = {"cache": {"inputs_bytes_max": 1 << 20}}


def texts(*names: str) -> dict[str, Any]:
    return {"model": "m", "input": [f"text {name}" for name in names]}


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.server)])
def where(request) -> dict[str, Any]:
    if request.param == "memory":
        return INPUTS
    url = request.getfixturevalue("redis_server").url
    return {"cache": INPUTS["cache"] | {"is_shared": True}, "redis": {"url": url}}


def test_of_a_hundred_texts_only_the_unknown_ten_are_computed(run, kit, where):
    names = [str(n) for n in range(100)]

    async def check(stack) -> None:
        whole = (await stack.post("/v1/embeddings", texts(*names))).json
        await stack.post("/v1/embeddings", texts("x"))
        known = await stack.post("/v1/embeddings", texts(*reversed(names)))
        assert known.headers["x-ballast-cache"] == "hit"
        assert [row["embedding"] for row in known.json["data"]] == [
            row["embedding"] for row in reversed(whole["data"])
        ]
        mixed = texts(*names[:45], *(f"new {n}" for n in range(10)), *names[55:])
        part = await stack.post("/v1/embeddings", mixed)
        assert part.headers["x-ballast-cache"] == "90/100"
        assert [row["index"] for row in part.json["data"]] == list(range(100))
        again = await stack.post("/v1/embeddings", {"model": "m", "input": mixed["input"][50]})
        assert again.json["data"][0]["embedding"] == part.json["data"][50]["embedding"]
        rows = await stack.rows(5)
        first, _, hit, some, _ = rows
        computed = stack.attempts(some.request_id)[0].end.usage.prompt_tokens
        assert computed * 5 < first.usage.prompt_tokens
        assert (hit.attempts, hit.reason, hit.status, stack.attempts(hit.request_id)) == (
            0, "cache", 200, [],
        )  # fmt: skip
        assert hit.usage.cached_tokens == hit.usage.prompt_tokens == first.usage.prompt_tokens
        told = part.json["usage"]
        assert told["prompt_tokens"] == some.usage.prompt_tokens
        assert told["prompt_tokens_details"]["cached_tokens"] == some.usage.cached_tokens
        assert some.usage.cached_tokens + computed == some.usage.prompt_tokens

    run(check, engines=[kit.engine()], models=[EMBEDDER], **where)


def test_nothing_is_found_that_another_tenant_form_or_dimension_left(run, kit):
    async def check(stack) -> None:
        body = texts("a", "b")
        await stack.post("/v1/embeddings", body)
        for key, more in (
            ("other", {}), ("main", {"dimensions": 4}), ("main", {"encoding_format": "base64"}),
            ("main", {"instruction": "find"}),
        ):  # fmt: skip
            reply = await stack.post("/v1/embeddings", body | more, key)
            assert reply.status == 200
            assert "x-ballast-cache" not in reply.headers
        tight = {"x_ballast_residency": "premises"}
        reply = await stack.post("/v1/embeddings", body, **tight)
        assert "x-ballast-cache" not in reply.headers
        same = await stack.post("/v1/embeddings", body | {"user": "somebody"})
        assert same.headers["x-ballast-cache"] == "hit"

    run(check, engines=[kit.engine()], models=[EMBEDDER], **INPUTS)


def test_documents_are_scored_once_and_ranked_anew(run, kit):
    async def check(stack) -> None:
        def asked(*documents: str, **more: Any) -> dict[str, Any]:
            return {"model": "m", "query": "red fox", "documents": list(documents)} | more

        plain = await stack.post("/v1/rerank", asked("a boat", "the red fox", "red", top_n=2))
        assert [row["index"] for row in plain.json["results"]] == [1, 2]
        again = await stack.post("/v1/rerank", asked("red", "a boat", "the red fox"))
        assert again.headers["x-ballast-cache"] == "hit"
        assert [row["index"] for row in again.json["results"]] == [2, 0, 1]
        assert again.json["results"][0]["document"] == {"text": "the red fox"}
        part = await stack.post("/v1/rerank", asked("fox", "red", top_n=1))
        assert part.headers["x-ballast-cache"] == "1/2"
        other = await stack.post("/v1/rerank", asked("red") | {"query": "boat"})
        assert "x-ballast-cache" not in other.headers

    run(check, engines=[kit.engine()], models=[RERANKER], **INPUTS)


def test_a_kill_switch_and_the_key_s_models_hold_for_what_is_kept(run, kit):
    async def check(stack) -> None:
        body = texts("a")
        await stack.post("/v1/embeddings", body)
        assert (await stack.post("/v1/embeddings", body, "some")).status == 403
        stack.gateway._fleet.stops = Stops(models=frozenset({"m"}))
        stack.gateway._fleet.publish()
        reply = await stack.post("/v1/embeddings", body)
        assert (reply.status, reply.error["code"]) == (503, "stopped")

    run(check, engines=[kit.engine()], models=[EMBEDDER], **INPUTS)


ANSWERS = {"cache": {"answers": [{"tenant": "acme", "models": ["m", "api"]}]}}


def sold(kit, told: str, **changes: Any) -> dict[str, Any]:
    """A model of weights Qwen/C that only a provider has, whose row names `told`."""
    row = kit.row("alpha") | {"surfaces": ["chat", "embeddings"]}
    row["models"] = [row["models"][0] | {"weights": told}]
    api = {"name": "api", "offerings": ["alpha/big"], "weights": "Qwen/C"} | changes
    models = [{"name": "m", "profile": "instant"}, api]
    return {"rows": [row], "providers": {"alpha": kit.provider()}, "models": models}


def test_a_deterministic_answer_is_given_again_for_nothing_and_says_so(run, kit):
    async def check(stack) -> None:
        first = await stack.chat(model="api", temperature=0)
        again = await stack.chat(model="api", temperature=0)
        assert again.body == first.body
        assert "x-ballast-cache" not in first.headers
        assert again.headers["x-ballast-cache"] == "hit"
        assert len(await stack.seen()) == 1
        paid, free = await stack.rows(2)
        cost = stack.attempts(paid.request_id)[0].end.charge
        assert cost.micro > 0
        assert (free.attempts, free.saved, paid.saved.micro) == (0, cost, 0)
        for changes in (
            {"temperature": 0.5}, {}, {"temperature": 0, "stream": True},
            {"temperature": 0, "n": 2}, {"temperature": 0, "max_tokens": 9},
            {"temperature": 0, "tools": [{"type": "function", "function": {"name": "f"}}]},
        ):  # fmt: skip
            reply = await stack.chat(model="api", **changes)
            assert "x-ballast-cache" not in reply.headers
        other = await stack.chat("other", model="api", temperature=0)
        assert "x-ballast-cache" not in other.headers
        await stack.chat(model="api", seed=7)
        assert (await stack.chat(model="api", seed=7)).headers["x-ballast-cache"] == "hit"

    run(check, engines=[kit.engine()], **sold(kit, "Qwen/C"), **ANSWERS)


@pytest.mark.parametrize(("named", "whose"), [("Qwen/C", "tier2"), ("", "declared")])
def test_an_answer_of_weights_that_are_not_proven_is_not_kept(run, kit, named, whose):
    async def check(stack) -> None:
        for _ in range(2):
            reply = await stack.chat(model="api", temperature=0)
            assert reply.headers["x-ballast-weights"] == whose
            assert "x-ballast-cache" not in reply.headers
        assert len(await stack.seen()) == 2

    content = {"routing": {"substitutes_max_tier": 2}}
    model = sold(kit, "Qwen/Other", weights=named)
    run(check, engines=[kit.engine()], **model, **ANSWERS, **content)


def test_a_key_that_may_not_overflow_is_given_nothing_that_a_third_party_said(run, kit):
    async def check(stack) -> None:
        vectors = {"model": "api", "input": ["a"]}
        for _ in range(2):
            said = await stack.chat(model="api", temperature=0)
            rows = await stack.post("/v1/embeddings", vectors)
        assert said.headers["x-ballast-cache"] == rows.headers["x-ballast-cache"] == "hit"
        for reply in (
            await stack.chat("never", model="api", temperature=0),
            await stack.post("/v1/embeddings", vectors, "never"),
        ):
            assert "x-ballast-cache" not in reply.headers
            assert reply.status == 503

    cache = {"cache": ANSWERS["cache"] | INPUTS["cache"]}
    model = sold(kit, "Qwen/C", surfaces=["chat", "embeddings"])
    run(check, engines=[kit.engine()], **model, **cache)


def test_a_tenant_whose_texts_are_read_by_the_guard_is_never_cached(run, kit):
    async def check(stack) -> None:
        for _ in range(2):
            reply = await stack.chat(temperature=0)
            assert reply.status == 200
            assert "x-ballast-cache" not in reply.headers

    guard = {"guard": {"tenants": {"acme": {"personal": "mask"}}}}
    run(check, engines=[kit.engine()], **ANSWERS, **guard)


def test_a_cache_that_is_away_costs_an_answer_nothing(run, kit):
    async def check(stack) -> None:
        for _ in range(2):
            reply = await stack.post("/v1/embeddings", texts("a"))
            assert reply.status == 200
        assert reply.headers["x-ballast-cache"] == "hit"  # of its own memory

    away = {"cache": INPUTS["cache"] | {"is_shared": True}, "redis": {"url": "redis://127.0.0.1:1"}}
    run(check, engines=[kit.engine()], models=[EMBEDDER], **away)
