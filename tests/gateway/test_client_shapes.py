"""Requests as clients that cannot be run here send them, by their sources (docs/clients.md names
file and repository of each), against a real gateway: answered by an engine and by a third party, or
refused with a reason that names the setting."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
USER = {"role": "user", "content": "hello"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "of a city", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": WEATHER}
ARGUMENTS = json.dumps({"city": "上海"}, ensure_ascii=False)
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}

CHATS: dict[str, dict[str, Any]] = {
    # Dify: a ping when the model is added, then parameters as its form has them.
    "dify ping": {"max_tokens": 5, "messages": [{"role": "user", "content": "ping"}]},
    "dify ping as a stream": {"max_tokens": 10, "stream": True, "messages": [USER]},
    "dify chat": {
        "stream": True, "temperature": 0.7, "top_p": 1.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "max_tokens": 12, "stop": ["Observation"], "user": "u-1",
        "messages": [{"role": "system", "content": "be brief", "name": "sys"}, USER],
    },
    "dify tools": {
        "stream": True, "tool_choice": "auto", "tools": [TOOL],
        "messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT],
    },
    "dify text in parts": {
        "stream": False, "max_tokens": 12,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    },
    "dify json": {"stream": False, "response_format": {"type": "json_object"}, "messages": [USER]},
    # FastGPT: the official Node package; what its model file adds under defaultConfig.
    "fastgpt chat": {
        "stream": True, "max_tokens": 12, "temperature": 0.01, "messages": [USER],
        "stream_options": {"include_usage": True},
    },
    "fastgpt tools": {
        "stream": True, "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True,
        "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT],
    },
    # RAGFlow: max_tokens dropped, thinking of Qwen3 switched off, `content` left out beside calls.
    "ragflow chat": {
        "stream": True, "temperature": 0.1, "top_p": 0.3, "presence_penalty": 0.4,
        "frequency_penalty": 0.7, "messages": [{"role": "system", "content": "be brief"}, USER],
    },
    "ragflow qwen3": {"enable_thinking": False, "max_completion_tokens": 12, "messages": [USER]},
    "ragflow tools": {
        "tools": [TOOL], "tool_choice": "auto",
        "messages": [USER, {"role": "assistant", "tool_calls": [CALL | {"index": 0}]}, RESULT],
    },
    # Coze Studio: both limits, a text format with nothing more.
    "coze chat": {
        "max_tokens": 4096, "max_completion_tokens": 4096, "temperature": 0.7, "top_p": 0.7,
        "response_format": {"type": "text"}, "stream": True,
        "stream_options": {"include_usage": True}, "messages": [USER],
    },
    "coze tools": {
        "tools": [TOOL], "tool_choice": "auto", "max_tokens": 4096,
        "messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT],
    },
    # one-api, new-api: fields without a value are left out, but for `stream` and `content`.
    "one-api channel test": {"max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]},
    "new-api channel test": {"stream": False, "max_tokens": 16, "messages": [USER]},
    "new-api relay": {
        "stream": True, "stream_options": {"include_usage": True}, "seed": 1, "n": 1,
        "top_logprobs": 0, "messages": [USER, {"role": "assistant", "content": None,
                                               "tool_calls": [CALL]}, RESULT],
    },
    # Quirks of many: empty lists and nulls for what was not set, a system prompt in parts.
    "nothing said in many words": {
        "tools": [], "functions": [], "stop": None, "seed": None, "max_tokens": None,
        "response_format": None, "logit_bias": {}, "user": "", "stream": None, "n": None,
        "stream_options": None, "messages": [USER | {"name": None}],
    },
    "system prompt in parts": {
        "messages": [{"role": "system", "content": [{"type": "text", "text": "be brief"}]}, USER],
    },
    "developer instead of system": {
        "messages": [{"role": "developer", "content": "be brief"}, USER],
    },
}  # fmt: skip
ANYWHERE = ("own", "api")
OWN_ALONE = {"ragflow qwen3"}
"""The provider's row here does not say how its model is kept from thinking."""
HEADERS: dict[str, dict[str, str]] = {
    "dify": {"Accept-Charset": "utf-8", "User-Agent": "python-requests/2.32.5"},
    "one-api passes an empty header on": {"Accept": ""},
    "a charset": {"Content-Type": "application/json; charset=utf-8"},
    "openai for node": {"X-Stainless-Lang": "js", "X-Stainless-Retry-Count": "0"},
    "openrouter's": {"HTTP-Referer": "https://example.org", "X-Title": "One API"},
    "a proxy's": {"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1", "Via": "1.1 nginx"},
    "a trace": {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "baggage": "a=b"},
}
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
        faults = {}
        for name, body in CHATS.items():
            for model in ANYWHERE[: 1 if name in OWN_ALONE else 2]:
                reply = await stack.post("/v1/chat/completions", body | {"model": model})
                if reply.status != 200 or not _is_whole(reply, body):
                    faults[name, model] = (reply.status, reply.body[:300])
        assert not faults, faults
        assert all(row.outcome == "ok" for row in await stack.rows(2 * len(CHATS) - len(OWN_ALONE)))

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
        for name, more in HEADERS.items():
            named = {k.lower(): v for k, v in more.items()}
            reply = await stack.post("/v1/chat/completions", body, **named)
            assert (reply.status, reply.text) == (200, plain.text), name

    _stack(run, kit, check)


def test_vectors_and_ranks_are_asked_for_in_many_ways(run, kit):
    async def check(stack) -> None:
        asked = {
            "dify": {"input": ["a"], "encoding_format": "float", "user": "u"},
            "dify ping": {"input": "ping"},
            "fastgpt": {"input": ["a"], "encoding_format": "float"},
            "ragflow": {"input": ["a"], "encoding_format": "float", "drop_params": True},
            "one-api": {"input": ["a"]},
        }
        for name, body in asked.items():
            reply = await stack.post("/v1/embeddings", body | {"model": "vectors"})
            assert reply.status == 200, (name, reply.body)
            assert {"model", "usage"} <= set(reply.json), name
        ranked = {"query": "q", "documents": ["a", "b"]}
        xinference = {"return_documents": "true", "return_len": "true"}
        for name, more in {"jina": {"top_n": 2}, "xinference": xinference}.items():
            reply = await stack.post("/v1/rerank", ranked | more | {"model": "vectors"})
            assert reply.status == 200, (name, reply.body)
            assert len(reply.json["results"]) == 2, name

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

    _stack(run, kit, check)
