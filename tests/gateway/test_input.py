"""Bad input: each a clear OpenAI-shaped error, counted or in a row, and nothing sent anywhere."""

from __future__ import annotations

import json


def test_every_kind_of_bad_input_is_refused_by_name(run, kit):
    """One gateway for the whole table."""
    good = kit.chat()
    image = [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}]
    remote = {**good, "messages": [{"role": "user", "content": image}]}
    hidden = json.dumps(remote).replace("image_url", "image\\u005furl").encode()
    long = {**good, "messages": [{"role": "user", "content": "x" * (33_000 * 256)}]}
    chats = "/v1/chat/completions"
    table = {
        # name: path, body, key, headers, status, code, part of the message
        "no key": (chats, good, None, {}, 401, "missing_api_key", ""),
        "wrong key": (chats, good, None, {"authorization": "Bearer bl-x"}, 401,
                      "invalid_api_key", "not known"),
        "no bearer": (chats, good, None, {"authorization": "Basic eA=="}, 401,
                      "invalid_api_key", "Bearer"),
        "revoked key": (chats, good, "revoked", {}, 401, "invalid_api_key", "revoked"),
        "not JSON": (chats, b"{oops", "main", {}, 400, "invalid_json", ""),
        "cut JSON": (chats, b'{"model": "m", "mess', "main", {}, 400, "invalid_json", ""),
        "empty": (chats, b"", "main", {}, 400, "invalid_json", ""),
        "a list": (chats, b"[]", "main", {}, 400, "invalid_json", ""),
        "deeper than a stack": (chats, b"[" * 100_000, "main", {}, 400, "invalid_json", ""),
        "not UTF-8": (chats, b'{"model": "\xff"}', "main", {}, 400, "invalid_encoding", "UTF-8"),
        "UTF-16": (chats, json.dumps(good).encode("utf-16"), "main", {}, 400, None, ""),
        "no model": (chats, {"messages": good["messages"]}, "main", {}, 400, "invalid_value",
                     "model"),
        "model a number": (chats, {**good, "model": 7}, "main", {}, 400, "invalid_value", "model"),
        "no messages": (chats, {"model": "m"}, "main", {}, 400, "invalid_value", "messages"),
        "messages a string": (chats, {**good, "messages": "x"}, "main", {}, 400, "invalid_value",
                              "messages"),
        "messages null": (chats, {**good, "messages": None}, "main", {}, 400, "invalid_value", ""),
        "stream a string": (chats, {**good, "stream": "yes"}, "main", {}, 400, "invalid_value",
                            "stream"),
        "max_tokens 0": (chats, {**good, "max_tokens": 0}, "main", {}, 400, "invalid_value",
                         "max_tokens"),
        "max_tokens -1": (chats, {**good, "max_tokens": -1}, "main", {}, 400, "invalid_value",
                          "max_tokens"),
        "max_tokens a float": (chats, {**good, "max_tokens": 1.5}, "main", {}, 400,
                               "invalid_value", "max_tokens"),
        "max_tokens true": (chats, {**good, "max_tokens": True}, "main", {}, 400, "invalid_value",
                            "max_tokens"),
        "n 0": (chats, {**good, "n": 0}, "main", {}, 400, "invalid_value", "n"),
        "n 129": (chats, {**good, "n": 129}, "main", {}, 400, "invalid_value", "n"),
        "stream_options a list": (chats, {**good, "stream_options": []}, "main", {}, 400,
                                  "invalid_value", "stream_options"),
        "prompt missing": ("/v1/completions", {"model": "m"}, "main", {}, 400, "invalid_value",
                           "prompt"),
        "wrong type": (chats, good, "main", {"content_type": "text/plain"}, 415,
                       "unsupported_media_type", "application/json"),
        "wrong charset": (chats, good, "main", {"content_type": "application/json; charset=gbk"},
                          415, "unsupported_media_type", "UTF-8"),
        "gzip": (chats, good, "main", {"content_encoding": "gzip"}, 415,
                 "unsupported_media_type", "compressed"),
        "unknown model": (chats, {**good, "model": "m-alais"}, "main", {}, 404, "model_not_found",
                          "m-alias"),
        "model not for this key": (chats, good, "some", {}, 403, "model_not_allowed", ""),
        "context overflow by max_tokens": (chats, {**good, "max_tokens": 40_000}, "main", {}, 400,
                                           "context_length_exceeded", "32768"),
        "context overflow by prompt": (chats, long, "main", {}, 400, "context_length_exceeded", ""),
        "remote media": (chats, remote, "main", {}, 400, "remote_media_refused", "data:"),
        "remote media in disguise": (chats, hidden, "main", {}, 400, "remote_media_refused", ""),
        "body too large": (chats, b" " * (17 << 20), "main", {}, 413, "body_too_large", ""),
        "hop guard": (chats, good, "main", {"x_ballast_hop": "a, here"}, 508, "loop_detected", ""),
        "deadline not a number": (chats, good, "main", {"x_ballast_ttft_ms": "soon"}, 400,
                                  "invalid_value", "x-ballast-ttft-ms"),
        "deadline zero": (chats, good, "main", {"x_ballast_timeout_ms": "0"}, 400,
                          "invalid_value", "x-ballast-timeout-ms"),
        "sound that is no form": ("/v1/audio/transcriptions", good, "main", {}, 415,
                                  "unsupported_media_type", "multipart/form-data"),
        "audio of another kind": ("/v1/audio/voices", good, "main", {}, 404, "not_found", ""),
        "engine's own route": ("/v1/load_lora_adapter", {}, "main", {}, 404, "not_found", ""),
        "engine's metrics": ("/metrics", {}, "main", {}, 404, "not_found", ""),
        "control of a fake": ("/internal/control", {}, "main", {}, 404, "not_found", ""),
    }  # fmt: skip
    parsed = {"unknown model", "model not for this key", "context overflow by max_tokens",
              "context overflow by prompt", "hop guard"}  # fmt: skip

    async def check(stack) -> None:
        for name, (path, body, key, headers, status, code, part) in table.items():
            reply = await stack.post(path, body, key, **headers)
            assert reply.status == status, (name, reply.body)
            if code is not None:
                assert reply.error["code"] == code, name
            assert part in reply.error["message"], (name, reply.error)
            assert "bl-" not in reply.body.decode()
            if status == 401:
                assert reply.headers["www-authenticate"] == "Bearer"
        rows = await stack.rows(len(parsed))
        assert {row.outcome for row in rows} == {"caller_error"}
        assert {row.attempts for row in rows} == {0}
        assert await stack.seen() == []
        assert (await stack.chat()).status == 200

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_a_wrong_method_is_told(run, kit):
    async def check(stack) -> None:
        reply = await stack.get("/v1/chat/completions")
        assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
        reply = await stack.post("/v1/models", {})
        assert reply.status == 405

    run(check, engines=[kit.engine()])


def test_models_come_from_the_catalogue(run, kit):
    async def check(stack) -> None:
        listed = (await stack.get("/v1/models")).json
        assert listed["object"] == "list"
        rows = {row["id"]: row for row in listed["data"]}
        assert set(rows) == {"m", "m-alias", "m2"}
        assert rows["m"]["max_model_len"] == 32768
        assert rows["m"]["ballast"]["status"] == "ready"
        assert rows["m2"]["ballast"]["status"] == "unavailable"
        one = await stack.get("/v1/models/m-alias")
        assert one.json["ballast"]["model"] == "m"
        assert (await stack.get("/v1/models/none")).error["code"] == "model_not_found"
        assert (await stack.get("/v1/models", key=None)).status == 401
        only = (await stack.get("/v1/models", key="some")).json["data"]
        assert [row["id"] for row in only] == ["m2"]

    run(check, engines=[kit.engine()])


RESERVED = {
    "priority": 1, "cache_salt": "mine", "request_id": "mine", "kv_transfer_params": {"a": 1},
    "vllm_xargs": {"a": 1}, "chat_template": "{{ x }}", "data_parallel_rank": 3,
}  # fmt: skip


def test_reserved_fields_are_ours_and_the_rest_passes_untouched(run, kit):
    recording = kit.Recording()
    body = kit.chat(**RESERVED, guided_choice=["a", "b"], temperature=0.5, unknown={"x": [1.0]})

    async def check(stack) -> None:
        for key in ("main", "other", "main"):
            headers = {"x_ballast_secret": "forged", "x_api_key": "caller's", "cookie": "c=1"}
            reply = await stack.post("/v1/chat/completions", body, key, **headers)
            assert reply.text == "recorded"
        salts = []
        for path, headers, sent in recording.requests:
            assert path == "/v1/chat/completions"
            lower = {name.lower(): value for name, value in headers.items()}
            assert lower["x-ballast-secret"] == kit.SECRET
            assert not {"authorization", "cookie", "x-api-key"} & lower.keys()
            assert sent["request_id"] != "mine"
            salts.append(sent["cache_salt"])
            assert (
                not {"priority", "vllm_xargs", "chat_template", "kv_transfer_params"} & sent.keys()
            )
            assert "data_parallel_rank" not in sent
            assert (sent["guided_choice"], sent["temperature"]) == (["a", "b"], 0.5)
            assert sent["unknown"] == {"x": [1.0]}
        assert salts[0] == salts[2] != salts[1]
        assert "mine" not in salts

    run(check, engines=[recording])


def test_a_provider_sees_neither_reserved_fields_nor_the_callers_key(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat(**RESERVED, user="u", headers={"x_ballast_hop": "upstream"})
        assert reply.status == 200
        (seen,) = await stack.seen()
        assert seen["authorization"] == "right"
        assert seen["headers"]["x-ballast-hop"] == f"upstream,{kit.DEPLOYMENT}"
        assert set(seen["body"]) == {"model", "messages", "max_tokens"}
        assert kit.key_of("main") not in json.dumps(seen)

    run(check, providers={"alpha": kit.provider()})


def test_decision_headers_are_as_open_as_the_key_allows(run, kit):
    async def check(stack) -> None:
        full = (await stack.chat("main")).headers
        assert full["x-ballast-target"].startswith("own;m@127.0.0.1:")
        assert full["x-ballast-reason"] == "local"
        assert full["x-ballast-model"] == "m"
        assert int(full["x-ballast-queue-ms"]) >= 0
        shown = (await stack.chat("other")).headers
        assert (shown["x-ballast-target"], shown["x-ballast-reason"]) == ("own", "local")
        assert "x-ballast-model" not in shown
        none = (await stack.chat("quiet")).headers
        assert not [name for name in none if name.lower().startswith("x-ballast")]
        assert len({h["x-request-id"] for h in (full, shown, none)}) == 3

    run(check, engines=[kit.engine()])
