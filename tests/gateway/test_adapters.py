"""LoRA adapters at the gateway: model names of their own, served by their model's engines only."""

from __future__ import annotations

from aiohttp import web

ADAPTERS = {"models.0.adapters": [{"name": "m-legal"}, {"name": "m-code"}]}
NAMES = ("m-legal", "m-code")


def test_an_adapter_is_a_model_name_that_reaches_the_models_engine(run, kit):
    async def check(stack) -> None:
        plain = await stack.chat(model="m-legal")
        assert plain.status == 200
        assert plain.json["model"] == "m-legal"
        assert plain.headers["x-ballast-target"].startswith("own;")
        streamed = await stack.chat(model="m-legal", stream=True)
        assert {e["model"] for e in streamed.events if e != "[DONE]"} == {"m-legal"}
        assert (await stack.chat(model="m-alias")).json["model"] == "m"

    run(check, engines=[kit.engine(adapters=NAMES)], **ADAPTERS)


def test_adapters_are_listed_with_their_model(run, kit):
    async def check(stack) -> None:
        rows = {r["id"]: r for r in (await stack.get("/v1/models")).json["data"]}
        assert rows["m-legal"]["parent"] == "m"
        assert rows["m-legal"]["ballast"] == {"model": "m", "status": "ready"}
        assert "parent" not in rows["m"]

    run(check, engines=[kit.engine(adapters=NAMES)], **ADAPTERS)


def test_an_adapter_never_leaves_for_a_third_party(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat()).status == 200
        refused = await stack.chat(model="m-legal")
        assert (refused.status, refused.error["code"]) == (503, "overloaded")

    run(check, providers={"api": kit.provider()}, **ADAPTERS)


def test_an_adapter_goes_to_the_engine_that_has_it(run, kit):
    async def check(stack) -> None:
        for _ in range(6):
            assert (await stack.chat(model="m-legal")).status == 200
        # The other engine answers 404 to it, which would have shown.
        refused = await stack.chat(model="m-code")
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        assert "adapter 'm-code' loaded" in refused.error["message"]

    run(check, engines=[kit.engine(), kit.engine(adapters=("m-legal",))], **ADAPTERS)


def test_an_adapter_that_was_just_unloaded_does_not_harm_its_engine(run, kit):
    class Forgetful(kit.Recording):
        """Reports an adapter that it no longer has."""

        async def _load(self, request):
            load = {"w": 0, "r": 0, "q": 0, "kv": 0.0, "limit": 8, "adapters": ["m-legal"]}
            return web.json_response(load)

        async def _answer(self, request):
            if (await request.json())["model"] == "m":
                return await super()._answer(request)
            error = {"message": "The model `m-legal` does not exist.", "type": "NotFoundError",
                     "param": "model", "code": 404}  # fmt: skip
            return web.json_response({"error": error}, status=404)

    async def check(stack) -> None:
        for _ in range(12):
            gone = await stack.chat(model="m-legal")
            assert gone.status == 400
            assert "does not exist" in gone.error["message"]
        assert (await stack.chat()).status == 200, "its breaker is closed"

    run(check, engines=[Forgetful()], **ADAPTERS)


def test_a_key_may_be_for_one_adapter_alone(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat(model="m-legal")).status == 200
        for other in ("m", "m-code", "m-alias"):
            refused = await stack.chat(model=other)
            assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        listed = (await stack.get("/v1/models")).json["data"]
        assert [row["id"] for row in listed] == ["m-legal"]

    run(check, engines=[kit.engine(adapters=NAMES)], **ADAPTERS, **{"keys.0.models": ["m-legal"]})


def test_vllms_own_adapter_routes_stay_closed(run, kit):
    async def check(stack) -> None:
        body = {"lora_name": "x", "lora_path": "/x"}
        for path in (
            "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/internal/adapters"
        ):  # fmt: skip
            refused = await stack.post(path, body)
            assert (refused.status, refused.error["code"]) == (404, "not_found")

    run(check, engines=[kit.engine()])
