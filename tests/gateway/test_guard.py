"""The guard in a real gateway: what is blocked goes nowhere, what leaves is masked, what must stay
stays."""

from __future__ import annotations

import contextlib
import json

import pytest
import uvloop
from aiohttp import web

from serving.fakes.server import serve

PHONE, CARD = "13812345678", "6222021234567890128"
MASKING = {"tenants": {"acme": {"personal": "mask"}}}


def asking(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def in_china(kit):
    """A provider in the mainland."""
    return {"rows": [kit.row("alpha", "cn")], "providers": {"alpha": kit.provider()}}


@pytest.mark.parametrize("is_stream", [False, True])
def test_personal_data_leaves_masked_and_only_to_the_mainland(run, kit, is_stream):
    async def check(stack) -> None:
        text = f"我叫张伟，手机 {PHONE}，请写一封信。"
        reply = await stack.chat(stream=is_stream, **asking(text))
        assert reply.status == 200
        (seen,) = await stack.seen("alpha")
        assert PHONE not in json.dumps(seen, ensure_ascii=False)
        assert "请写一封信" in json.dumps(seen, ensure_ascii=False)

    run(check, guard=MASKING, **in_china(kit))


def test_personal_data_of_a_tenant_that_named_no_country_never_goes_abroad(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat(**asking(f"手机 {PHONE}"))
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen("alpha") == []
        assert (await stack.chat(**asking("a poem on the sea"))).status == 200
        assert len(await stack.seen("alpha")) == 1

    run(check, guard=MASKING, providers={"alpha": kit.provider()})


def test_our_own_engine_sees_what_was_written(run, kit):
    async def check(stack) -> None:
        body = asking(f"手机 {PHONE}")
        reply = await stack.chat(**body)
        assert reply.headers["x-ballast-target"].startswith("own")
        assert reply.text == kit.text_of(body["messages"], 8)

    run(check, guard=MASKING, engines=[kit.engine()])


def test_a_blocked_term_goes_nowhere_and_leaves_a_row(run, kit, tmp_path):
    (tmp_path / "house.txt").write_text("#! action: block\n内部代号\n", encoding="utf-8")
    guard = {"terms_dir": str(tmp_path), "tenants": {"acme": {"lists": ["house"]}}}

    async def check(stack) -> None:
        for text in ("内部代号", "內 部 代 號"):
            reply = await stack.chat(**asking(f"什么是{text}？"))
            assert (reply.status, reply.error["code"]) == (400, "content_filter")
            assert text not in reply.error["message"]
        assert (await stack.chat("patient-beta", **asking("内部代号"))).status == 200, "not beta's"
        rows = await stack.rows(3)
        assert sorted((row.status, row.attempts) for row in rows) == [(200, 1), (400, 0), (400, 0)]

    run(check, guard=guard, engines=[kit.engine()])


def test_a_tenant_of_secrets_stays_on_the_premises_whatever_its_key_allows(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen("alpha") == []

    guard = {"tenants": {"acme": {"sensitivity": "secret"}}}
    run(check, guard=guard, providers={"alpha": kit.provider()})


def test_a_list_that_is_named_and_not_there_refuses_to_start(run, kit):
    from serving.settings import SettingsError

    async def check(stack) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(SettingsError, match="nowhere"):
        run(check, guard={"default": {"lists": ["nowhere"]}})


@contextlib.asynccontextmanager
async def judging(judge):
    """A moderation service that asks `judge(text, stage)` what to do."""

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"action": judge(asked["input"], asked["stage"])})

    app = web.Application()
    app.router.add_post("/judge", answer)
    served = await serve(app, "127.0.0.1", 0)
    try:
        yield f"{served.url}/judge"
    finally:
        await served.close()


@pytest.mark.parametrize("way", ["open", "closed"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_the_service_refuses_is_withheld(kit, tmp_path, way, is_stream):
    asked: list[tuple[str, str]] = []

    def judge(text: str, stage: str) -> str:
        asked.append((stage, text))
        return "block" if stage == "output" and len(text) > 200 else "pass"

    async def check(stack) -> None:
        short = await stack.chat(max_tokens=4, stream=is_stream)
        assert short.text == kit.text_of(kit.MESSAGES, 4)
        long = await stack.chat(max_tokens=120, stream=is_stream)
        assert long.status == 200
        body = long.body.decode()
        assert '"finish_reason":"content_filter"' in body
        whole = kit.text_of(kit.MESSAGES, 120)
        assert whole not in long.text
        assert whole.startswith(long.text)
        if way == "closed":
            assert len(long.text) < 200, "the window that was refused did not leave"
        assert {stage for stage, _ in asked} == {"input", "output"}
        row = (await stack.rows(2))[1]
        assert (row.outcome, row.status) == ("ok", 200)
        metrics = (await stack.get("/metrics", None)).body.decode()
        found = 'ballast_guard_findings_total{action="block",kind="moderation",stage="answer"} 1.0'
        assert found in metrics

    async def main() -> None:
        async with judging(judge) as url:
            guard = {"default": {"moderation": way}, "moderation": {"url": url}}
            async with kit.started(tmp_path / "s", [kit.engine()], {"guard": guard}) as stack:
                await check(stack)

    uvloop.run(main())


def test_a_tenant_to_be_moderated_without_a_service_refuses_to_start(run, kit):
    from serving.settings import SettingsError

    async def check(stack) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(SettingsError, match=r"no guard\.moderation"):
        run(check, guard={"default": {"moderation": "open"}})
