"""Requests as clients that cannot be run here send them (benchmarks/clients/shapes.yaml, of sources
that docs/clients.md names), against a real gateway: answered by an engine and by a third party, or
refused with a reason that names the setting."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import yaml

from benchmarks.clients import environments

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
USER = {"role": "user", "content": "hello"}
WEATHER = {"name": "weather", "description": "of a city", "parameters": {"type": "object"}}
SHAPES: dict[str, Any] = yaml.safe_load(
    Path(environments.__file__).with_name("shapes.yaml").read_text("utf-8")
)
CHATS = {f"{client}: {name}": body for client, shapes in SHAPES["chats"].items()
         for name, body in shapes.items()}  # fmt: skip
ANYWHERE = ("own", "api")
MODELS = [
    {"name": "own", "profile": "instant", "context_tokens": 32768},
    {"name": "api", "context_tokens": 32768, "offerings": ["alpha/big"]},
    {"name": "seeing", "context_tokens": 32768, "offerings": ["alpha/seeing"]},
    {"name": "vectors", "profile": "instant", "surfaces": ["embeddings", "rerank"]},
]


def _stack(run, kit, check) -> None:
    """One engine for all, and a provider with a model that sees and one that does not."""

    async def begun(stack) -> None:
        url = stack.engines[0].url
        names = ("own", "vectors")
        tree = stack.tree
        tree["fleet"]["static"] = [{"model": n, "url": url, "limit": 64} for n in names]
        await stack.stop()
        await stack.restart(tree)
        await stack.ready(1, "own")
        await stack.ready(1, "vectors")
        await check(stack)

    row = kit.row("alpha")
    row["models"].append(row["models"][0] | {"id": "seeing", "sees": True})
    models = [{"name": "m", "profile": "instant"}, *MODELS]
    run(
        begun, engines=[kit.engine(adapters=("own", "vectors"))], rows=[row],
        providers={"alpha": kit.provider()}, models=models,
    )  # fmt: skip


def test_every_shape_of_a_chat_is_answered_by_engine_and_third_party(run, kit):
    async def check(stack) -> None:
        faults, asked = {}, 0
        for name, shape in CHATS.items():
            body = {key: value for key, value in shape.items() if key != "where"}
            for model in [shape["where"]] if "where" in shape else ANYWHERE:
                reply = await stack.post("/v1/chat/completions", body | {"model": model})
                asked += 1
                if reply.status != 200 or not _is_whole(reply, body):
                    faults[name, model] = (reply.status, reply.body[:300])
        assert not faults, faults
        assert all(row.outcome == "ok" for row in await stack.rows(asked))

    _stack(run, kit, check)


def _is_whole(reply: Any, body: dict[str, Any]) -> bool:
    if not body.get("stream"):
        return reply.json["object"] == "chat.completion" and bool(reply.json["choices"])
    # Dify reads an event that is neither JSON nor [DONE] as the end.
    return reply.events[-1] == "[DONE]" and all("choices" in e for e in reply.events[:-1])


def test_headers_that_clients_and_proxies_add_change_nothing(run, kit):
    async def check(stack) -> None:
        body = json.dumps({"model": "own", "messages": [USER], "max_tokens": 8}).encode()
        plain = await stack.post("/v1/chat/completions", body)
        for name, more in SHAPES["headers"].items():
            named = {k.lower(): v for k, v in more.items()}
            reply = await stack.post("/v1/chat/completions", body, **named)
            assert (reply.status, reply.text) == (200, plain.text), name

    _stack(run, kit, check)


def test_vectors_and_ranks_are_asked_for_in_many_ways(run, kit):
    async def check(stack) -> None:
        for name, body in SHAPES["embeddings"].items():
            reply = await stack.post("/v1/embeddings", body | {"model": "vectors"})
            assert reply.status == 200, (name, reply.body)
            assert {"model", "usage", "data"} <= set(reply.json), name
            assert len(reply.json["data"]) == 1
        ranked = {"query": "q", "documents": ["a", "b"], "model": "vectors"}
        for name, shape in SHAPES["ranks"].items():
            more = {key: value for key, value in shape.items() if key != "path"}
            reply = await stack.post(shape["path"], ranked | more)
            assert reply.status == 200, (name, reply.body)
            assert {"index", "relevance_score"} <= set(reply.json["results"][0]), name
            assert len(reply.json["results"]) == 2, name
            assert reply.json["results"][0]["document"]["text"], "MaxKB shows it"

    _stack(run, kit, check)


def test_a_picture_goes_to_a_model_that_sees_and_to_no_other_third_party(run, kit):
    async def check(stack) -> None:
        path = "/v1/chat/completions"
        for number, part in enumerate(({"url": PNG}, {"url": PNG, "detail": "high"})):
            content = [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": part},
            ]
            body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8}
            seen = await stack.post(path, body | {"model": "seeing"})
            assert seen.status == 200, seen.body
            sent = await stack.seen()
            assert len(sent) == number + 1
            assert sent[-1]["body"]["messages"][0]["content"] == content
            refused = await stack.post(path, body | {"model": "api"})
            assert refused.status == 503, refused.body
            assert "do not know messages=pictures" in refused.error["message"]
            assert (await stack.post(path, body | {"model": "own"})).status == 200

    _stack(run, kit, check)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "'max_tokens' must be between 1 and .*leave it out"),
    ({"functions": [WEATHER]}, "'functions' is the old form.*'tools'"),
]


def test_what_no_engine_can_do_is_refused_with_the_setting_that_helps(run, kit):
    async def check(stack) -> None:
        path, own = "/v1/chat/completions", {"model": "own", "messages": [USER]}
        for body, said in REFUSED:
            reply = await stack.post(path, own | body)
            assert reply.status == 400, reply.body
            assert re.search(said, reply.error["message"]), reply.error
        # A third party may still know the old form.
        asked = REFUSED[1][0] | {"model": "api", "messages": [USER]}
        bought = await stack.post(path, asked)
        assert bought.status == 200, bought.body

    _stack(run, kit, check)


def test_a_wrong_base_url_is_told_what_to_type(run, kit):
    async def check(stack) -> None:
        for path, said in {
            "/chat/completions": "ends in /v1",
            "/models": "ends in /v1",
            "/v1/v1/chat/completions": "/v1 twice",
            "//v1/chat/completions": "without a slash at its end",
            "/v1/chat/completions/chat/completions": "ends in /v1",
            "/api/tags": "the API is under /v1",
        }.items():
            reply = await stack.post(path, {"model": "own", "messages": [USER]})
            assert reply.status == 404, path
            assert said in reply.error["message"], (path, reply.error["message"])

    _stack(run, kit, check)


def test_models_are_listed_however_a_client_probes_for_them(run, kit):
    async def check(stack) -> None:
        for path in ("/v1/models", "/v1/models/", "/v1/models?limit=100"):
            reply = await stack.get(path)
            assert reply.status == 200, path
            assert {"own", "api", "vectors"} <= {row["id"] for row in reply.json["data"]}
            assert reply.json["object"] == "list"
        # RAGFlow's Go server sends a body with it.
        sent = stack.session.get(
            f"{stack.url}/v1/models", headers=stack.headers("main", {}), json={}
        )
        async with sent as reply:
            assert reply.status == 200

    _stack(run, kit, check)
