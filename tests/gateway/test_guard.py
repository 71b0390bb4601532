"""The guard in a real gateway: what is blocked goes nowhere, what leaves is masked, what must stay
stays."""

from __future__ import annotations

import json

import pytest

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
