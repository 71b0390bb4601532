"""What strangers and careless hands can send to the admin API, and what it never tells anybody."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import pytest

from serving.auth import digest

OWNER = "ba-owner"
SQL = (
    "x'; DROP TABLE documents;--",
    'x"; DELETE FROM history',
    "%' OR 1=1 --",
    "x\\' UNION SELECT",
)
LINES = ("a\nb", "a\r\nx: y", "\x1b[2J", "a\u2028b", "\u202egood", "a\x00", "a\x85b")


def administrators(pepper: bytes) -> list[dict[str, str]]:
    return [{"id": "owner", "role": "admin", "hmac": digest(pepper, OWNER.encode()).hex()}]


class Ask:
    """Asks the admin API, and keeps every answer."""

    def __init__(self, live) -> None:
        self._live = live
        self.answers: list[str] = []

    async def __call__(self, method: str, path: str, key: str = OWNER, **more: Any):
        head = {"Authorization": f"Bearer {key}"} | more.pop("headers", {})
        url = f"{self._live.ops}/admin/v1{path}"
        async with self._live.session.request(method, url, headers=head, **more) as reply:
            text = await reply.text()
            self.answers.append(text)
            return reply.status, json.loads(text)

    async def refused(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        status, body = await self(method, path, **more)
        assert 400 <= status < 500, (method, path, more, status, body)
        assert set(body) == {"error"}, body
        assert body["error"]["code"]
        assert len(body["error"]["message"]) < 600
        return body["error"]


def bodies(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every field of every request that takes text, with this text in it."""
    switch, key = {"scope": "model", "why": "x"}, {"id": "k", "tenant": "acme"}
    tenant, project = {"id": "t", "residency": "premises"}, {"tenant": "acme", "name": "p"}
    wish = {"key": "k", "tenant": "acme", "why": "x"}
    rows = [
        *(("/tenants", tenant | {name: text}) for name in ("id", "residency")),
        ("/tenants", tenant | {"residency": "named", "jurisdictions": [text]}),
        *(("/projects", project | {name: text}) for name in ("tenant", "name", "environment")),
        *(("/keys", key | {n: text}) for n in ("id", "tenant", "project", "feature", "expires",
                                               "latency_class", "overflow", "exposure")),
        ("/administrators", {"id": text, "role": "viewer"}),
        ("/administrators", {"id": "a", "role": text}),
        ("/administrators", {"id": "a", "role": "viewer", "tenants": [text]}),
        ("/switches", switch | {"scope": text}),
        *(("/key-requests", wish | {name: text}) for name in ("key", "tenant", "project",
                                                              "feature", "latency_class")),
    ]  # fmt: skip
    return [("POST", path, body) for path, body in rows]


def words(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The fields that hold words of people."""
    tenant = {"json": {"id": "t", "residency": "premises"}}
    return [
        ("POST", "/tenants", tenant | {"params": {"why": text}}),
        ("POST", "/projects", {"json": {"tenant": "acme", "name": "p", "owner": text}}),
        ("POST", "/switches", {"json": {"scope": "all", "why": text}}),
        ("POST", "/switches", {"json": {"scope": "model", "value": text, "why": "x"}}),
        ("POST", "/keys", {"json": {"id": "k", "tenant": "acme", "models": [text]}}),
        ("POST", "/key-requests", {"json": {"key": "k", "tenant": "acme", "why": text}}),
        ("DELETE", "/switches", {"params": {"scope": "all", "why": text}}),
    ]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_metacharacters_are_names_of_nothing_and_words_like_others(run, kit, request, kind):
    more = {}
    if kind == "postgres":
        more["ledger.url"] = request.getfixturevalue("new_database")()

    async def check(stack) -> None:
        ask = Ask(stack)
        for text in SQL:
            for method, path, body in bodies(text):
                await ask.refused(method, path, json=body)
            for path in ("/keys/{}/revoke", "/keys/{}/rotate", "/key-requests/{}/approve"):
                await ask.refused("POST", path.format(text.replace("%", "%25")), json={})
        for number, text in enumerate(SQL):
            row = {"tenant": "acme", "name": f"p{number}", "owner": text}
            status, _ = await ask("POST", "/projects", json=row, params={"why": text})
            assert status == 201
            row = {"scope": "model", "value": text, "why": text}
            assert (await ask("POST", "/switches", json=row))[0] == 201
        _, found = await ask("GET", "/directory")
        assert sorted(s["value"] for s in found["switches"]) == sorted(SQL)
        assert [p["owner"] for p in found["projects"]] == list(SQL)
        assert (await ask("GET", "/history/verify"))[1]["is_whole"]

    run(check, administrators=administrators(kit.PEPPER), **more)


def test_nothing_breaks_a_line_turns_it_or_grows_without_bound(run, kit):
    async def check(stack) -> None:
        ask = Ask(stack)
        for text in (*LINES, "x" * 100_000, "\ud800"):
            sent = json.dumps
            for method, path, body in bodies(text):
                await ask.refused(method, path, data=sent(body), headers=JSON)
            for method, path, given in words(text):
                if "params" in given and text in ("\ud800", "x" * 100_000):
                    continue  # no client can send these in an address
                data = sent(given["json"]) if "json" in given else None
                await ask.refused(method, path, data=data, headers=JSON,
                                  params=given.get("params"))  # fmt: skip
        many = ["m"] * 1001
        await ask.refused("POST", "/keys", json={"id": "k", "tenant": "acme", "models": many})
        huge = {"id": "t", "residency": "premises", "allowance": {"concurrent": 10**30}}
        await ask.refused("POST", "/tenants", json=huge)
        assert (await ask("GET", "/directory"))[1]["version"] == 1, "the settings' own record"

    run(check, administrators=administrators(kit.PEPPER))


JSON = {"Content-Type": "application/json"}


def test_bodies_and_headers_are_bounded_before_anybody_reads_them(run, kit):
    async def check(stack) -> None:
        ask = Ask(stack)
        long = b'{"id": "' + b"x" * (1 << 20) + b'"}'

        async def pieces():
            for at in range(0, len(long), 65_536):
                yield long[at : at + 65_536]

        for data in (io.BytesIO(long), pieces()):
            error = await ask.refused("POST", "/tenants", data=data, headers=JSON)
            assert error["code"] == "body_too_large"
        deep = await ask.refused("POST", "/tenants", data=b"[" * 100_000, headers=JSON)
        assert deep["code"] in ("invalid_json", "invalid_value")
        for data in (b"", b"{", b"\xff", b"[]", b"null", b"7"):
            await ask.refused("POST", "/tenants", data=data, headers=JSON)
        await ask.refused("GET", "/directory", key="ba-" + "x" * 20_000)
        await ask.refused("GET", "/nothing")
        await ask.refused("PUT", "/tenants")
        assert (await ask("GET", "/directory"))[0] == 200

    run(check, administrators=administrators(kit.PEPPER))


def test_a_header_speaks_for_nobody(run, kit):
    """Neither at the admin API nor with a key that is no forwarder's."""

    async def check(stack) -> None:
        ask = Ask(stack)
        said = {"x-ballast-tenant": "acme", "x-ballast-user": "owner", "x-forwarded-user": "owner",
                "x-remote-user": "owner", "x-original-url": "/livez"}  # fmt: skip
        await ask.refused("GET", "/directory", key=kit.key_of("gateway"), headers=said)
        row = {"id": "shop", "residency": "premises"}
        await ask("POST", "/tenants", json=row, headers=said)
        _, found = await ask("GET", "/history")
        assert found["entries"][-1]["actor"] == "owner"
        wish = {"key": "k", "why": "x"}
        await ask("POST", "/key-requests", key=kit.key_of("gateway"), json=wish, headers=said)
        _, found = await ask("GET", "/key-requests")
        assert [r["tenant"] for r in found["requests"]] == ["acme"], "the key's own"
        for name in ("tenant", "project", "feature", "user"):
            reply = await stack.chat("main", headers={f"x_ballast_{name}": "beta"})
            assert (reply.status, reply.error["code"]) == (403, "header_not_allowed")
        for name in ("a/b", "a\u00e9", "x" * 65, "a b", "'; --"):
            reply = await stack.chat("gateway", headers={"x_ballast_tenant": name})
            assert (reply.status, reply.error["code"]) == (400, "invalid_value")

    run(check, administrators=administrators(kit.PEPPER), engines=[kit.engine()])


def unsigned_token() -> str:
    parts = ({"alg": "none", "kid": "k"}, {"sub": "boss", "secret-claim": "claim-value"})
    made = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts]
    return ".".join([*made, ""])


def test_no_secret_is_ever_told(run_live, kit):
    """After all that administrators do, right and wrong: nothing of any key, HMAC, ticket, token or
    of the pepper is in logs, metrics, decisions, answers or the history, but a new key, once."""

    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        ask = Ask(live)
        keys, tickets = await _all_that_is_done(ask)
        token = unsigned_token()
        wrong = ("ba-wrong-but-secret", "bl-wrong-but-secret", token, "bt-wrong-but-secret")
        for secret in wrong:
            await ask.refused("GET", "/directory", key=secret)
            await ask.refused("POST", "/key-requests", key=secret, json={"key": "k", "why": "x"})
        for key in (*keys, *wrong):
            head = {"Authorization": f"Bearer {key}"}
            url = f"{live.url}/v1/chat/completions"
            async with live.session.post(url, json=kit.chat(), headers=head) as reply:
                ask.answers.append(await reply.text())
        for path in ("/directory", "/history", "/history/verify", "/key-requests"):
            await ask("GET", path)
        told = [(await live.get(path)).body.decode() for path in PUBLIC]
        await asyncio.to_thread(live.process.terminate)
        await live.process.wait()
        told.append((live.state / "stderr.log").read_text())
        told += ask.answers
        marks = [digest(kit.PEPPER, s.encode()).hex() for s in (*keys, *tickets, OWNER)]
        once = {s: sum(s in text for text in ask.answers) for s in (*keys, *tickets)}
        assert set(once.values()) == {1}, "each is shown in the answer that makes it, only there"
        never = [kit.PEPPER.decode(), OWNER, kit.SECRET, *marks, *wrong, "claim-value"]
        never += token.split(".")[:2]
        elsewhere = told[: len(PUBLIC) + 1]
        for secret in (*never, *keys, *tickets):
            for text in told if secret in never else elsewhere:
                assert secret not in text, secret
        _lines_are_whole(told[len(PUBLIC)], told[0])
        for name in ("directory.sqlite", "directory.sqlite-wal", "ledger.sqlite"):
            raw = (live.state / name).read_bytes() if (live.state / name).exists() else b""
            for secret in (*keys, *tickets, kit.PEPPER.decode()):
                assert secret.encode() not in raw

    run_live(
        check, engines=[kit.engine()], administrators=administrators(kit.PEPPER)
    )  # fmt: skip


PUBLIC = ("/metrics", "/signals", "/fleet", "/decisions", "/readyz", "/openapi.json")


async def _all_that_is_done(ask: Ask) -> tuple[list[str], list[str]]:
    """Every kind of change once; the keys and tickets that were shown."""
    await ask("POST", "/tenants", json={"id": "shop", "residency": "premises"})
    await ask("PATCH", "/tenants/shop", json={"allowance": {"concurrent": 5}})
    await ask("POST", "/projects", json={"tenant": "shop", "name": "p", "owner": "a b"})
    keys = [(await ask("POST", "/keys", json={"id": "k", "tenant": "shop"}))[1]["key"]]
    await ask("POST", "/keys", json={"id": "k", "tenant": "shop"})
    keys.append((await ask("POST", "/keys/k/rotate", json={"grace_s": 60}))[1]["key"])
    await ask("PATCH", "/keys/k", json={"hmac": "a" * 64})
    row = {"id": "eve", "role": "viewer"}
    keys.append((await ask("POST", "/administrators", json=row))[1]["key"])
    tickets = []
    for number, show in enumerate((True, False)):
        wish = {"key": f"r{number}", "tenant": "shop", "why": "x"}
        _, asked = await ask("POST", "/key-requests", json=wish)
        tickets.append(asked["ticket"])
        path = f"/key-requests/{asked['id']}"
        await ask("POST", f"{path}/fetch", json={"ticket": "bt-wrong-but-secret"})
        _, made = await ask("POST", f"{path}/approve", json={"show": show})
        if not show:
            _, made = await ask("POST", f"{path}/fetch", json={"ticket": asked["ticket"]})
        keys.append(made["key"])
    await ask("POST", "/switches", json={"scope": "model", "value": "x", "why": "x"})
    await ask("DELETE", "/switches", params={"scope": "model", "value": "x"})
    await ask("POST", "/keys/k/revoke")
    await ask("DELETE", "/administrators/eve")
    return keys, tickets


def _lines_are_whole(log: str, metrics: str) -> None:
    """Each line of the log is one JSON object, each of the metrics one sample."""
    for line in log.splitlines():
        assert isinstance(json.loads(line), dict)
    for line in metrics.splitlines():
        assert line.startswith("#") or line.rpartition(" ")[0], line
