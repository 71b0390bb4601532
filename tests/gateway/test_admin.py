"""The admin API against a real gateway: what is changed there holds at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp

from serving.auth import digest

OWNER = "ba-owner"


def administrators(pepper: bytes) -> list[dict[str, str]]:
    return [
        {"id": role, "role": role, "hmac": digest(pepper, f"ba-{name}".encode()).hex()}
        for role, name in (("admin", "owner"), ("operator", "op"), ("viewer", "see"),
                           ("auditor", "audit"), ("finance", "money"))
    ]  # fmt: skip


class Desk:
    """Asks the admin API."""

    def __init__(self, stack, key: str | None = OWNER) -> None:
        self._stack, self._key = stack, key

    async def __call__(self, method: str, path: str, **more):
        head = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        url = f"{self._stack.ops}/admin/v1{path}"
        async with self._stack.session.request(method, url, headers=head, **more) as reply:
            return reply.status, await reply.json()


def govern(run, kit, check, **changes):
    """Run a check on a gateway with one administrator of each role in its settings."""
    run(check, administrators=administrators(kit.PEPPER), **changes)


def test_a_key_made_there_calls_at_once_and_a_revoked_one_no_more(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        row = {"id": "shop", "residency": "anywhere"}
        assert (await desk("POST", "/tenants", json=row))[0] == 201
        await desk("POST", "/projects", json={"tenant": "shop", "name": "quiz"})
        row = {"id": "shop-web", "tenant": "shop", "project": "quiz", "feature": "ask"}
        status, made = await desk("POST", "/keys", json=row, params={"why": "for the web shop"})
        assert (status, made["key"][:3]) == (201, "bl-")
        reply = await asking(stack, made["key"])
        assert reply == 200
        row = (await stack.rows(1))[0]
        assert (row.tenant, row.project, row.key_id) == ("shop", "quiz", "shop-web")
        status, rotated = await desk("POST", "/keys/shop-web/rotate", json={"grace_s": 60})
        assert [await asking(stack, k) for k in (made["key"], rotated["key"])] == [200, 200]
        await desk("POST", "/keys/shop-web/revoke", params={"why": "leaked"})
        assert [await asking(stack, k) for k in (made["key"], rotated["key"])] == [401, 401]
        _, found = await desk("GET", "/directory")
        assert made["key"] not in str(found)
        assert "hmac" not in str(found)

    govern(run, kit, check, engines=[kit.engine()])


async def asking(stack, key: str) -> int:
    """The status of a chat with this key."""
    head = {"Authorization": f"Bearer {key}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    url = f"{stack.url}/v1/chat/completions"
    async with stack.session.post(url, json=body, headers=head) as reply:
        await reply.read()
        return reply.status


def test_a_kill_switch_holds_at_once_and_after_a_restart(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack, "ba-op")
        thrown = {"scope": "model", "value": "m", "why": "it says nonsense"}
        assert (await desk("POST", "/switches", json=thrown))[0] == 201
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (503, "stopped")
        assert int(reply.headers["retry-after"]) >= 1
        await stack.stop()
        await stack.restart(stack.tree)
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (503, "stopped")
        desk = Desk(stack, "ba-op")
        _, found = await desk("GET", "/directory")
        (switch,) = found["switches"]
        assert (switch["by"], switch["why"]) == ("operator", "it says nonsense")
        await desk("DELETE", "/switches", params={"scope": "model", "value": "m"})
        await stack.ready(1)
        assert (await stack.chat()).status == 200

    govern(run, kit, check, engines=[kit.engine()])


def test_another_process_s_switch_holds_within_a_second(run, kit):
    """The store is shared: here another process is played by the store itself."""
    from serving.directory import commands
    from serving.directory.commands import By
    from serving.directory.sqlite import SqliteDirectory
    from serving.directory.values import Directory

    async def check(stack) -> None:
        store = SqliteDirectory.open(stack.state / "directory.sqlite")
        loop = asyncio.get_running_loop()
        thrown_s = loop.time()
        store.commit(store.head(), commands.throw_switch(Directory(), "all", "", By("o", 1, "w")))
        await kit.eventually(lambda: _is_stopped(stack))
        assert loop.time() - thrown_s < 5.0, "half a second, and what a busy machine adds"
        store.close()

    async def _is_stopped(stack) -> bool:
        return (await stack.chat()).status == 503

    govern(run, kit, check, engines=[kit.engine()])


def test_each_role_may_what_it_may_and_strangers_nothing(run, kit):
    tenant = {"json": {"id": "t", "residency": "premises"}}
    switch = {"json": {"scope": "all", "why": "x"}}
    cases = [
        (None, "GET", "/directory", {}, 401), ("ba-nobody", "GET", "/directory", {}, 401),
        ("bl-main-key", "GET", "/directory", {}, 401),
        ("ba-see", "GET", "/directory", {}, 200), ("ba-see", "GET", "/history", {}, 403),
        ("ba-see", "POST", "/switches", switch, 403), ("ba-see", "POST", "/tenants", tenant, 403),
        ("ba-op", "POST", "/tenants", tenant, 403), ("ba-op", "GET", "/history", {}, 403),
        ("ba-audit", "GET", "/history", {}, 200), ("ba-audit", "POST", "/switches", switch, 403),
        ("ba-money", "GET", "/history", {}, 403), (OWNER, "POST", "/tenants", tenant, 201),
        (OWNER, "POST", "/tenants", tenant, 409), (OWNER, "POST", "/tenants", {"json": {}}, 400),
        (OWNER, "POST", "/tenants", {"data": b"{"}, 400),
        (OWNER, "POST", "/keys/ghost/revoke", {}, 404),
        (OWNER, "PATCH", "/keys/main", {"json": {"overflow": "never"}}, 409),
    ]  # fmt: skip

    async def check(stack) -> None:
        for key, method, path, more, expected in cases:
            status, body = await Desk(stack, key)(method, path, **more)
            assert status == expected, (key, method, path, body)
            if status >= 400:
                assert set(body) == {"error"}
                assert set(body["error"]) - {"said"} == {"message", "type", "param", "code"}
                assert "ba-" not in body["error"]["message"] or status == 401

    govern(run, kit, check)


def test_the_history_tells_every_change_and_its_chain_holds(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        for name in ("a", "b"):
            row = {"id": name, "residency": "premises"}
            await desk("POST", "/tenants", json=row, params={"why": f"for {name}"})
        await desk("PATCH", "/tenants/a", json={"is_suspended": True}, params={"why": "unpaid"})
        _, found = await desk("GET", "/history", params={"after": 1})
        told = [(e["actor"], e["action"], e["subject"], e["why"]) for e in found["entries"]]
        assert told == [
            ("admin", "create", "tenant:a", "for a"), ("admin", "create", "tenant:b", "for b"),
            ("admin", "change", "tenant:a", "unpaid"),
        ]  # fmt: skip
        _, verdict = await desk("GET", "/history/verify")
        assert (verdict["is_whole"], verdict["head"]["number"]) == (True, 4)
        head = verdict["head"]
        kept = {"number": head["number"], "head": head["hash"]}
        assert (await desk("GET", "/history/verify", params=kept))[1]["is_whole"]
        kept["head"] = "00" * 32
        assert not (await desk("GET", "/history/verify", params=kept))[1]["is_whole"]

    govern(run, kit, check)


def test_while_the_directory_cannot_be_read_nothing_leaves_the_premises(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat()).headers["x-ballast-target"] == "api;alpha/big"
        await stack.stop()
        (stack.state / "directory.sqlite").write_bytes(b"no database at all" * 500)
        for name in ("directory.sqlite-wal", "directory.sqlite-shm"):
            (stack.state / name).unlink(missing_ok=True)
        await stack.restart(stack.tree)
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert len(await stack.seen("alpha")) == 1
        status, body = await Desk(stack)("POST", "/switches", json={"scope": "all", "why": "x"})
        assert (status, body["error"]["code"]) == (503, "directory_away")

    govern(run, kit, check, providers={"alpha": kit.provider()})


def test_the_admin_api_is_not_on_the_public_listener(run, kit):
    async def check(stack) -> None:
        head = {"Authorization": f"Bearer {OWNER}"}
        url = f"{stack.url}/admin/v1/directory"
        async with stack.session.get(url, headers=head) as reply:
            assert reply.status == 404
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{stack.ops}/openapi.json") as reply,
        ):
            assert "/admin/v1/keys" in (await reply.json())["paths"]

    govern(run, kit, check)


def test_a_key_s_own_limit_is_a_429_with_headers_and_leaves_others_alone(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        limit = {"requests_per_min": 2}
        await desk("POST", "/tenants", json={"id": "shop", "residency": "premises"})
        row = {"id": "shop-web", "tenant": "shop", "allowance": limit}
        _, made = await desk("POST", "/keys", json=row)
        head = {"Authorization": f"Bearer {made['key']}"}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        told = []
        for _ in range(3):
            url = f"{stack.url}/v1/chat/completions"
            async with stack.session.post(url, json=body, headers=head) as reply:
                told.append((reply.status, reply.headers["x-ratelimit-remaining-requests"]))
                last, data = reply.headers, await reply.json()
        assert told == [(200, "1"), (200, "0"), (429, "0")]
        assert data["error"]["code"] == "rate_limit_exceeded"
        assert "key:shop-web" in data["error"]["message"]
        assert 1 <= int(last["retry-after"]) <= 30
        assert last["x-ratelimit-limit-requests"] == "2"
        reply = await stack.chat()
        assert reply.status == 200
        assert "x-ratelimit-limit-requests" not in reply.headers
        rows = await stack.rows(4)
        assert sorted(row.status for row in rows) == [200, 200, 200, 429]
        assert {row.attempts for row in rows if row.status == 429} == {0}

    govern(run, kit, check, engines=[kit.engine()])


def test_who_may_see_money_asks_for_a_period_s_costs(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat()).status == 200
        period = {"since": "2020-01-01", "until": "2020-02-01"}
        finance = Desk(stack, "ba-money")
        status, found = await finance("GET", "/costs", params=period)
        assert (status, found["currency"], found["features"]) == (200, "CNY", [])
        for key, more, wanted in (
            ("ba-see", {}, 403),
            ("ba-money", {"until": "2019-01-01"}, 400),
            ("ba-money", {"currency": "EUR"}, 400),
            ("ba-money", {"since": "yesterday"}, 400),
        ):
            status, _ = await Desk(stack, key)("GET", "/costs", params=period | more)
            assert status == wanted

        async def booked():
            today = datetime.now(UTC).date()
            ends = {"since": str(today - timedelta(1)), "until": str(today + timedelta(2))}
            _, found = await finance("GET", "/costs", params=ends)
            return found if found["own_request_share"] is not None else None

        found = await kit.eventually(booked)
        assert found["own_request_share"] == 1.0
        assert found["models"][0]["tier"] == "own"

    govern(run, kit, check, engines=[kit.engine()])


def test_who_may_see_money_asks_for_a_month_s_scorecards(run, kit):
    async def check(stack):
        finance = Desk(stack, "ba-money")
        _, found = await finance("GET", "/scorecard", params={"month": "2026-1"})
        assert "is no month: write it as 2026-11" in found["error"]["message"]
        _, found = await finance("GET", "/scorecard")
        assert "ballast ledger rollup --since" in found["error"]["message"]
        status, _ = await Desk(stack, "ba-see")("GET", "/scorecard")
        assert status == 403

    govern(run, kit, check, engines=[kit.engine()])
