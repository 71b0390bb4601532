"""A tenant's own account at a vendor, through the gateway: which key is shown to whom."""

from __future__ import annotations

ACME_KEY = "sk-acme"


def configured(stack) -> dict:
    """One vendor `alpha`: our account there, and the tenant's at an address of its own, so that
    each fake refuses the other's key."""
    tree, file = dict(stack.tree), stack.state / "acme-key"
    file.write_text(ACME_KEY)
    ours = next(p for p in tree["providers"] if p["id"] == "alpha")
    own = {"id": "acme", "provider": "alpha", "tenant": "acme", "api_key_file": str(file),
           "base_url": f"{stack.providers['own'].url}/v1"}  # fmt: skip
    model = tree["models"][0] | {"offerings": ["alpha/big"]}
    modes = {"main": "own-keys", "other": "own-keys", "patient": "own-keys-first"}
    keys = [key | ({"overflow": modes[key["id"]]} if key["id"] in modes else {})
            for key in tree["keys"]]  # fmt: skip
    return tree | {
        "providers": [ours], "tenant_accounts": [own], "models": [model, *tree["models"][1:]],
        "keys": keys,
    }  # fmt: skip


def test_a_key_s_mode_says_whose_account_is_shown_to_the_vendor(run, kit):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(configured(stack))
        reply = await stack.chat(stream=True)
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        assert reply.headers["x-ballast-target"] == "api;alpha@acme/big"
        (sent,) = await stack.seen("own")
        assert sent["authorization"] == "right"
        assert await stack.seen("alpha") == []

        stranger = await stack.chat("other")
        assert (stranger.status, stranger.error["code"]) == (503, "overloaded")
        assert "no account of its own" in stranger.error["message"]
        ours = await stack.chat("quiet")
        assert ours.status == 200
        assert [one["authorization"] for one in await stack.seen("alpha")] == ["right"]

        await stack.control(stack.providers["own"], script=["unavailable"] * 9)
        assert (await stack.chat()).status >= 500
        assert len(await stack.seen("alpha")) == 1, "never with our account"
        assert (await stack.chat("patient")).status == 200
        assert [one["authorization"] for one in await stack.seen("alpha")] == ["right", "right"]

        rows = await stack.rows(5)
        kinds = [
            (one.begin.target, one.end.money_kind, one.intent.provider)
            for row in rows
            for one in stack.attempts(row.request_id)
            if one.end.outcome == "ok"
        ]
        assert kinds == [
            ("alpha@acme/big", "tenant", "alpha"), ("alpha/big", "cash", "alpha"),
            ("alpha/big", "cash", "alpha"),
        ]  # fmt: skip
        spent = sum(
            one.end.charge.micro
            for row in rows
            for one in stack.attempts(row.request_id)
            if one.end.money_kind == "cash"
        )
        text = (await stack.get("/metrics")).body.decode()
        (line,) = [at for at in text.splitlines() if at.startswith("ballast_money_micro_total{")]
        assert float(line.rpartition(" ")[2]) == spent, "a tenant's money is no money of ours"

    run(check, providers={"alpha": kit.provider(), "own": kit.provider(key=ACME_KEY)})


def test_a_slow_account_of_a_tenant_is_not_hedged_with_ours(run, kit):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(configured(stack))
        reply = await stack.chat("patient", stream=True)
        assert reply.status == 200, "it failed at last, and the key may fall back"
        (row,) = await stack.rows(1)
        found = [(one.begin.target, one.begin.reason) for one in stack.attempts(row.request_id)]
        assert found == [("alpha@acme/big", "overflow:no_replica"), ("alpha/big", "overflow:retry")]

    stalled = kit.provider(key=ACME_KEY, scenario="role_then_stall")
    quick = kit.row("alpha") | {"first_token_s": 0.1}
    run(check, providers={"alpha": kit.provider(), "own": stalled}, rows=[quick],
        **{"gateway.rescue": {"hedge": {"hour_max": "1", "after_s": 0.1}}})  # fmt: skip
