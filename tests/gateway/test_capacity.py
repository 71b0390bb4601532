"""`/v1/capacity`: what it promises is what the next call meets, and no key learns of more."""

from __future__ import annotations

import pytest

from serving.api.capacity import KEPT_S


def of(reply, name: str = "m"):
    assert reply.status == 200, reply.body
    return next(row for row in reply.json["data"] if row["id"] == name)


def test_an_idle_engine_says_yes_from_our_own_and_the_next_call_runs_there(run, kit):
    async def check(stack) -> None:
        reply = await stack.get("/v1/capacity")
        row = of(reply)
        assert (row["answer"], row["from"]) == ("yes", "own")
        assert 0 <= row["first_token_s"]["p50"] <= row["first_token_s"]["p90"] < 5
        assert row["own"]["replicas"] == 1
        assert row["own"]["free_slots"] > 0 < row["own"]["free_tokens_per_s"]
        assert row["next_replica_s"] is None
        assert row["overflow"]["first_token_s"]["p50"] > 0
        assert reply.headers["cache-control"] == "private, max-age=1"
        assert 0 <= reply.json["view_age_s"] < 10
        answer = await stack.chat()
        assert answer.headers["x-ballast-target"].startswith("own;")

    fast = {"models.0.profile": "qwen3-32b-fp8-h100"}
    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, **fast)


def test_without_an_engine_it_says_what_the_api_would_do_and_who_may_not_leave_hears_no(run, kit):
    async def check(stack) -> None:
        row = of(await stack.get("/v1/capacity"))
        assert (row["answer"], row["from"]) == ("yes", "api")
        assert row["own"]["replicas"] == row["own"]["free_slots"] == 0
        assert row["overflow"]["first_token_s"] == row["first_token_s"]
        for key in ("never", "home", "load"):
            barred = of(await stack.get("/v1/capacity", key))
            assert barred["answer"] == "no", key
            assert barred["code"] in ("no_capacity", "residency_refused")
            assert barred["overflow"] is None, "it may not leave, so it need not know to where"

    run(check, providers={"alpha": kit.provider()})


def test_a_key_that_is_told_nothing_of_decisions_is_told_yes_or_no_and_when(run, kit):
    async def check(stack) -> None:
        row = of(await stack.get("/v1/capacity", "quiet"))
        assert set(row) == {"id", "prompt_tokens", "answer", "first_token_s", "complete_s"}

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_only_the_models_a_key_may_call_are_listed_and_nobody_asks_without_a_key(run, kit):
    async def check(stack) -> None:
        ids = {row["id"] for row in (await stack.get("/v1/capacity", "some")).json["data"]}
        models = (await stack.get("/v1/models", "some")).json["data"]
        assert ids == {row["id"] for row in models}
        assert "m" not in ids
        gone = await stack.get("/v1/capacity?model=m", "some")
        assert (gone.status, gone.error["code"]) == (404, "model_not_found")
        assert (await stack.get("/v1/capacity", None)).status == 401
        assert (await stack.post("/v1/capacity", {})).status == 405

    run(check, engines=[kit.engine()])


def test_a_longer_prompt_takes_longer_and_an_impossible_one_is_refused_with_a_time(run, kit):
    async def check(stack) -> None:
        short = of(await stack.get("/v1/capacity?prompt_tokens=10&model=m"))
        long = of(await stack.get("/v1/capacity?prompt_tokens=2000&model=m"))
        assert long["prompt_tokens"] == 2000
        assert long["first_token_s"]["p50"] > short["first_token_s"]["p50"] + 1 or (
            long["answer"] == "no"
        )
        far = of(await stack.get("/v1/capacity?prompt_tokens=15000&model=m"))
        assert (far["answer"], far["code"]) == ("no", "deadline_unreachable")
        assert far["retry_after_s"] >= 1
        assert far["own"]["first_token_s"]["p50"] > 5
        for wrong in ("prompt_tokens=-1", "prompt_tokens=1e9", "prompt_tokens=99999999999", "x=1"):
            refused = await stack.get(f"/v1/capacity?{wrong}")
            assert (refused.status, refused.error["code"]) == (400, "invalid_request"), wrong

    slow = {"models.0.profile": "cpu-embedded"}
    run(check, engines=[kit.engine(profile="cpu-embedded")], **slow)


def test_many_that_ask_at_once_get_one_answer_and_leave_no_row(run, kit):
    async def check(stack) -> None:
        replies = [await stack.get("/v1/capacity") for _ in range(20)]
        assert len({reply.body for reply in replies}) <= 2 + 20 * 0.1 / KEPT_S
        await stack.chat()
        assert len(await stack.rows(1)) == 1

    run(check, engines=[kit.engine()])


@pytest.mark.parametrize("path", ["/v1/capacity", "/v1/files", "/v1/batches"])
def test_a_query_with_too_many_fields_is_refused_and_no_fault_of_ours(run, kit, path):
    async def check(stack) -> None:
        reply = await stack.get(path + "?" + "&".join(["limit=1"] * 30))
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")

    run(check)
