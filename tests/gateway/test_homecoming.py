"""A third party refuses the content of a call that overflowed: it comes home to our own engine and
guard, and no other vendor sees it."""

from __future__ import annotations

import pytest

FULL = {"fail_next": 1, "status": 503}


@pytest.mark.parametrize(
    ("scenario", "is_stream"),
    [("content_filter", True), ("forbidden_content", False), ("content_filter_finish", False)],
)
def test_a_vendor_s_refusal_comes_home_and_goes_to_no_other(run, kit, scenario, is_stream):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], **FULL)
        reply = await stack.chat(stream=is_stream)
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        assert reply.headers["x-ballast-target"].startswith("own;")
        assert len(await stack.seen("alpha")) == 1
        assert await stack.seen("beta") == []
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts) == ("ok", 3)
        full, refused, home = stack.attempts(row.request_id)
        assert (full.end.outcome, refused.end.error) == ("full", "content_filter")
        assert (refused.begin.target, home.end.outcome) == ("alpha/big", "ok")
        assert refused.end.charge.micro == 0 or scenario == "content_filter_finish"
        metrics = (await stack.get("/metrics")).body.decode()
        assert 'ballast_homecomings_total{model="m",operator="alpha",outcome="ok"} 1.0' in metrics
        assert (await stack.signals())["burst_total"] == 0, "our own engine did it"

    providers = {"alpha": kit.provider(scenario=scenario), "beta": kit.provider()}
    run(check, engines=[kit.engine()], providers=providers)


def test_without_an_engine_of_ours_the_refusal_stands(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (400, "content_filter")
        assert await stack.seen("beta") == []
        metrics = (await stack.get("/metrics")).body.decode()
        assert 'operator="alpha",outcome="caller_error"} 1.0' in metrics

    run(check, providers={"alpha": kit.provider(scenario="content_filter"), "beta": kit.provider()})


def test_what_our_own_guard_blocks_in_a_vendor_s_answer_does_not_come_home(run, kit, tmp_path):
    words = kit.text_of(kit.MESSAGES, 8).split(" ")
    word = next(word for word in words if word.isalpha())
    (tmp_path / "house.txt").write_text(f"#! action: block\n{word}\n", encoding="utf-8")
    guard = {"terms_dir": str(tmp_path), "tenants": {"acme": {"lists": ["house"]}}}

    async def check(stack) -> None:
        await stack.control(stack.engines[0], **FULL)
        reply = await stack.chat()
        assert reply.json["choices"][0]["finish_reason"] == "content_filter"
        (row,) = await stack.rows(1)
        assert (row.attempts, row.target) == (2, "alpha/big")

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, guard=guard)
