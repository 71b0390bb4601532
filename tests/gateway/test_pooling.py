"""Embeddings, rerankings and scores through a real gateway: same weights, or wait, or refuse."""

from __future__ import annotations

import pytest

EMBEDDER = {"name": "m", "profile": "instant", "surfaces": ["embeddings"], "weights": "Qwen/E"}
RERANKER = {"name": "m", "profile": "instant", "surfaces": ["rerank", "score"]}
ASKED = {"model": "m", "input": ["a sea", "a poem"]}


def seller(kit, weights: str | None):
    """A provider that sells embeddings."""
    row = kit.row("alpha") | {"surfaces": ["chat", "embeddings"]}
    row["models"] = [row["models"][0] | ({"weights": weights} if weights else {})]
    return {"rows": [row], "providers": {"alpha": kit.provider()}}


def bought(model):
    return model | {"offerings": ["alpha/big"]}


def test_texts_become_vectors_and_leave_a_row_without_an_answers_tokens(run, kit):
    async def check(stack) -> None:
        reply = await stack.post("/v1/embeddings", ASKED)
        assert reply.status == 200
        first, second = (row["embedding"] for row in reply.json["data"])
        assert first != second
        assert len(first) == 8
        again = await stack.post("/v1/embeddings", ASKED | {"input": "a sea"})
        assert again.json["data"][0]["embedding"] == first
        row = (await stack.rows(2))[0]
        assert (row.surface, row.outcome) == ("embeddings", "ok")
        assert row.usage.prompt_tokens == reply.json["usage"]["prompt_tokens"] > 0
        assert (row.usage.completion_tokens, row.usage.is_estimated) == (0, False)

    run(check, engines=[kit.engine()], models=[EMBEDDER])


def test_documents_are_ranked_and_pairs_scored(run, kit):
    async def check(stack) -> None:
        documents = ["a boat", "the red fox jumps", "red"]
        body = {"model": "m", "query": "red fox", "documents": documents, "top_n": 2}
        reply = await stack.post("/v1/rerank", body)
        assert [row["index"] for row in reply.json["results"]] == [1, 2]
        row = (await stack.rows(1))[0]
        assert row.usage.prompt_tokens == reply.json["usage"]["total_tokens"]
        body = {"model": "m", "text_1": "red fox", "text_2": documents}
        reply = await stack.post("/v1/score", body)
        scores = [row["score"] for row in reply.json["data"]]
        assert scores[1] == max(scores)

    run(check, engines=[kit.engine()], models=[RERANKER])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/rerank", {"query": "q", "documents": ["d"]}),
    ],
)
def test_a_model_is_asked_only_what_it_serves(run, kit, path, body):
    async def check(stack) -> None:
        reply = await stack.post(path, {"model": "m"} | body)
        assert (reply.status, reply.error["code"]) == (404, "unsupported_surface")
        assert "embeddings" in reply.error["message"]
        assert (await stack.rows(1))[0].attempts == 0

    run(check, engines=[kit.engine()], models=[EMBEDDER])


@pytest.mark.parametrize("weights", ["Qwen/Other", None])
def test_vectors_never_come_from_other_weights(run, kit, weights):
    async def check(stack) -> None:
        reply = await stack.post("/v1/embeddings", ASKED)
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert await stack.seen("alpha") == []

    run(check, models=[bought(EMBEDDER)], **seller(kit, weights))


def test_the_same_weights_elsewhere_may_answer(run, kit):
    async def check(stack) -> None:
        reply = await stack.post("/v1/embeddings", ASKED | {"dimensions": 4})
        assert reply.status == 200
        assert len(reply.json["data"][0]["embedding"]) == 4
        (seen,) = await stack.seen("alpha")
        assert seen["path"].endswith("/embeddings")
        assert seen["body"] == ASKED | {"model": "big", "dimensions": 4}
        row = (await stack.rows(1))[0]
        (attempt,) = stack.attempts(row.request_id)
        assert attempt.end.charge.micro > 0

    run(check, models=[bought(EMBEDDER)], **seller(kit, "Qwen/E"))


def test_masked_text_has_no_vector_so_personal_data_stays_at_home(run, kit):
    async def check(stack) -> None:
        body = ASKED | {"input": "打 13812345678"}
        reply = await stack.post("/v1/embeddings", body)
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen("alpha") == []
        assert (await stack.post("/v1/embeddings", ASKED)).status == 200

    china = seller(kit, "Qwen/E")
    china["rows"][0]["jurisdiction"] = "cn"
    guard = {"tenants": {"acme": {"personal": "mask"}}}
    run(check, models=[bought(EMBEDDER)], guard=guard, **china)
