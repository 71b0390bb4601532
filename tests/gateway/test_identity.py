"""Tokens of an identity provider at the admin API, and administrators who have some tenants."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from serving.auth import digest
from serving.fakes.server import serve

KEYS = {"r1": rsa.generate_private_key(65537, 2048), "e1": ec.generate_private_key(ec.SECP256R1())}
LATER = {"r2": rsa.generate_private_key(65537, 2048)}
ISSUER = "https://id.example/realms/here"


def published(keys: dict[str, Any]) -> dict[str, Any]:
    kinds = {True: jwt.algorithms.RSAAlgorithm, False: jwt.algorithms.ECAlgorithm}
    return {
        "keys": [
            kinds[kid[0] == "r"].to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid, key in keys.items()
        ]
    }


def token(kid: str = "r1", keys: dict[str, Any] = KEYS, **changes: Any) -> str:
    now_s = int(time.time())
    said = {"iss": ISSUER, "aud": "ballast", "sub": "u-1", "iat": now_s, "exp": now_s + 300,
            "roles": ["boss"]} | changes  # fmt: skip
    algorithm = "RS256" if kid[0] == "r" else "ES256"
    return jwt.PyJWS().encode(json.dumps(said).encode(), keys[kid], algorithm, {"kid": kid})


def unsigned(head: dict[str, Any]) -> str:
    body = token().split(".")[1]
    return base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode() + f".{body}."


class Asked:
    """Asks the admin API with any Authorization header."""

    def __init__(self, stack) -> None:
        self._stack = stack

    async def __call__(self, secret: str, method: str, path: str, **more: Any):
        head = {"Authorization": f"Bearer {secret}"}
        url = f"{self._stack.ops}/admin/v1{path}"
        async with self._stack.session.request(method, url, headers=head, **more) as reply:
            return reply.status, await reply.json()


@pytest.fixture
def with_provider(run, kit):
    """Runs a check beside an identity provider: `check(ask, stack, provider)`."""

    def start(check, **changes) -> None:
        provider: dict[str, Any] = {"keys": dict(KEYS), "asked": 0}

        async def answer(_: web.Request) -> web.Response:
            provider["asked"] += 1
            return web.json_response(published(provider["keys"]))

        async def main(stack) -> None:
            app = web.Application()
            app.router.add_get("/keys", answer)
            async with contextlib.AsyncExitStack() as closing:
                served = await serve(app, "127.0.0.1", 0)
                closing.push_async_callback(served.close)
                oidc = {
                    "issuer": ISSUER, "audience": "ballast", "jwks_url": f"{served.url}/keys",
                    "roles": {"boss": "admin", "ops": "operator",
                              "acme-boss": {"role": "admin", "tenants": ["acme"]}},
                }  # fmt: skip
                await stack.stop()
                await stack.restart(stack.tree | {"oidc": oidc})
                await check(Asked(stack), stack, provider)

        rows = [
            {"id": name, "role": role, "hmac": digest(kit.PEPPER, key).hex()} | more
            for name, role, key, more in (
                ("owner", "admin", b"ba-owner", {}),
                ("acme-op", "operator", b"ba-acme", {"tenants": ["acme"]}),
                ("acme-see", "viewer", b"ba-look", {"tenants": ["acme"]}),
            )
        ]
        run(main, administrators=rows, **changes)

    return start


TENANT = {"id": "shop", "residency": "premises"}


def test_a_person_with_a_token_may_what_the_role_says_and_is_told_of_in_the_history(with_provider):
    async def check(ask, stack, provider) -> None:
        for kid in KEYS:
            row = TENANT | {"id": f"of-{kid}"}
            assert (await ask(token(kid), "POST", "/tenants", json=row))[0] == 201
        ops = token(roles="ops")
        assert (await ask(ops, "POST", "/tenants", json=TENANT))[0] == 403
        switch = {"scope": "all", "why": "x"}
        assert (await ask(ops, "POST", "/switches", json=switch))[0] == 201
        _, found = await ask("ba-owner", "GET", "/history?after=2")
        assert {entry["actor"] for entry in found["entries"]} == {"oidc:u-1"}
        assert provider["asked"] == 1

    with_provider(check)


def test_a_token_that_proves_nothing_changes_nothing(with_provider):
    async def check(ask, stack, provider) -> None:
        now_s = int(time.time())
        alien = {"r1": rsa.generate_private_key(65537, 2048)}
        bad = [
            unsigned({"alg": "none", "kid": "r1"}), unsigned({"alg": "none"}),
            token(keys=alien), token(exp=now_s - 60), token(nbf=now_s + 60), token(aud="other"),
            token(iss=ISSUER + "x"), token(sub="a\nadmin"), token("r2", LATER),
            token()[:-6] + "AAAAAA", token() + "." + "A" * 9000, "A" * 20_000, "..",
            token(exp=None),
            token().replace(".", " ."),
        ]  # fmt: skip
        for text in bad:
            status, body = await ask(text, "POST", "/tenants", json=TENANT)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key"), (text[:99], body)
            assert len(body["error"]["message"]) < 200
        status, body = await ask(token(roles=["none"]), "POST", "/tenants", json=TENANT)
        assert (status, body["error"]["code"]) == (403, "role_required")
        assert (await ask("ba-owner", "GET", "/directory"))[1]["version"] == 2, "policy only"

    with_provider(check)


def test_keys_of_the_provider_rotate_while_we_run(with_provider):
    async def check(ask, stack, provider) -> None:
        provider["keys"] = dict(LATER)  # before the first fetch
        assert (await ask(token(), "GET", "/directory"))[0] == 401
        assert (await ask(token("r2", LATER), "GET", "/directory"))[0] == 200

    with_provider(check)


def test_while_the_provider_is_away_people_wait_and_keys_still_open(run, kit):
    rows = [{"id": "owner", "role": "admin", "hmac": digest(kit.PEPPER, b"ba-owner").hex()}]
    oidc = {"issuer": ISSUER, "audience": "ballast", "jwks_url": "http://127.0.0.1:1/keys",
            "roles": {"boss": "admin"}}  # fmt: skip

    async def check(stack) -> None:
        ask = Asked(stack)
        status, body = await ask(token(), "GET", "/directory")
        assert (status, body["error"]["code"]) == (503, "identity_away")
        assert (await ask("ba-owner", "GET", "/directory"))[0] == 200

    run(check, administrators=rows, oidc=oidc)


def test_without_a_provider_no_token_opens(run):
    async def check(stack) -> None:
        status, body = await Asked(stack)(token(), "GET", "/directory")
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")

    run(check)


# -- administrators of some tenants


def test_one_tenant_s_administrator_sees_and_changes_that_tenant_only(with_provider):
    async def check(ask, stack, provider) -> None:
        for row in (TENANT, {"id": "acme/web", "residency": "premises"}):
            assert (await ask("ba-owner", "POST", "/tenants", json=row))[0] == 201
        for row in ({"id": "a", "tenant": "acme"}, {"id": "s", "tenant": "shop"}):
            assert (await ask("ba-owner", "POST", "/keys", json=row))[0] == 201
        boss = token(roles=["acme-boss"])
        _, found = await ask(boss, "GET", "/directory")
        assert {row["id"] for row in found["tenants"]} == {"acme", "acme/web"}
        assert {row["tenant"] for row in found["keys"]} == {"acme"}
        assert "key:other" not in found["in_settings"], "that is beta's"
        assert found["administrators"] == []
        key = {"tenant": "acme", "id": "n"}
        cases = [
            ("POST", "/keys", {"json": key}, 201),
            ("POST", "/keys", {"json": key | {"id": "o", "tenant": "shop"}}, 403),
            ("POST", "/keys", {"json": key | {"id": "o", "tenant": "ghost"}}, 403),
            ("POST", "/keys", {"json": key | {"id": "o", "is_load_test": True}}, 403),
            ("POST", "/keys", {"json": key | {"id": "o", "is_forwarder": True}}, 403),
            ("PATCH", "/keys/a", {"json": {"is_load_test": True}}, 403),
            ("PATCH", "/keys/a", {"json": {"feature": "f"}}, 200),
            ("PATCH", "/keys/s", {"json": {"feature": "f"}}, 404),
            ("PATCH", "/keys/ghost", {"json": {"feature": "f"}}, 404),
            ("POST", "/keys/s/rotate", {"json": {}}, 404),
            ("POST", "/keys/s/revoke", {}, 404), ("POST", "/keys/a/revoke", {}, 200),
            ("POST", "/projects", {"json": {"tenant": "acme", "name": "p"}}, 201),
            ("POST", "/projects", {"json": {"tenant": "shop", "name": "p"}}, 403),
            ("POST", "/tenants", {"json": {"id": "mine", "residency": "anywhere"}}, 403),
            ("POST", "/tenants", {"json": {"id": "acme/two", "residency": "premises"}}, 201),
            ("POST", "/tenants", {"json": {"id": "shop/two", "residency": "premises"}}, 403),
            ("PATCH", "/tenants/acme", {"json": {"residency": "anywhere"}}, 403),
            ("PATCH", "/tenants/acme/two", {"json": {"is_suspended": True}}, 200),
            ("PATCH", "/tenants/shop", {"json": {"is_suspended": True}}, 403),
            ("POST", "/administrators", {"json": {"id": "me", "role": "admin"}}, 403),
            ("DELETE", "/administrators/acme-op", {}, 403),
            ("GET", "/history", {}, 403), ("GET", "/history/verify", {}, 403),
            ("POST", "/switches", {"json": {"scope": "tenant", "value": "acme", "why": "x"}}, 201),
            ("POST", "/switches", {"json": {"scope": "tenant", "value": "shop", "why": "x"}}, 403),
            ("POST", "/switches", {"json": {"scope": "model", "value": "m", "why": "x"}}, 403),
        ]  # fmt: skip
        for method, path, more, expected in cases:
            status, body = await ask(boss, method, path, **more)
            assert status == expected, (method, path, more, body)

    with_provider(check)


def test_what_was_stopped_from_above_is_not_let_flow_from_below(with_provider):
    async def check(ask, stack, provider) -> None:
        row = {"scope": "tenant", "value": "acme", "why": "it attacks others"}
        assert (await ask("ba-owner", "POST", "/switches", json=row))[0] == 201
        taken = {"params": {"scope": "tenant", "value": "acme"}}
        assert (await ask("ba-acme", "DELETE", "/switches", **taken))[0] == 403
        assert (await ask("ba-owner", "DELETE", "/switches", **taken))[0] == 200
        assert (await ask("ba-acme", "POST", "/switches", json=row))[0] == 201
        assert (await ask("ba-acme", "DELETE", "/switches", **taken))[0] == 200

    with_provider(check)


# -- asking for a key


def test_an_api_key_asks_for_its_own_tenant_and_may_nothing_else(with_provider, kit):
    async def check(ask, stack, provider) -> None:
        own, other = kit.key_of("main"), kit.key_of("other")
        wish = {"key": "acme-two", "why": "a second shop"}
        status, asked = await ask(own, "POST", "/key-requests", json=wish)
        assert status == 201, asked
        path = f"/key-requests/{asked['id']}"
        for changes in ({"tenant": "beta"}, {"tenant": "ghost"}):
            assert (await ask(own, "POST", "/key-requests", json=wish | changes))[0] == 403
        for method, where in (("GET", "/directory"), ("GET", "/history"), ("POST", "/keys")):
            assert (await ask(own, method, where))[0] == 401
        assert [(await ask(k, "GET", "/key-requests"))[1]["requests"] != [] for k in (own, other)] \
            == [True, False]  # fmt: skip
        assert "ticket" not in str((await ask(own, "GET", "/key-requests"))[1])
        ticket = {"json": {"ticket": asked["ticket"]}}
        assert (await ask(own, "POST", f"{path}/fetch", **ticket))[0] == 409
        assert (await ask(own, "POST", f"{path}/approve"))[0] == 403
        for stranger in (other, kit.key_of("revoked"), "bl-nobody"):
            assert (await ask(stranger, "POST", f"{path}/fetch", **ticket))[0] in (401, 404)
        for secret in ("ba-acme", "ba-look"):
            assert (await ask(secret, "POST", f"{path}/approve", json={}))[0] == 403
        boss = token(roles=["acme-boss"])
        assert (await ask(boss, "POST", f"{path}/approve", json={}))[0] == 200
        wrong = {"json": {"ticket": "bt-wrong"}}
        assert (await ask(own, "POST", f"{path}/fetch", **wrong))[0] == 400
        status, made = await ask(own, "POST", f"{path}/fetch", **ticket)
        assert status == 200, made
        head = {"Authorization": f"Bearer {made['key']}"}
        url = f"{stack.url}/v1/models"
        async with stack.session.get(url, headers=head) as reply:
            assert reply.status == 200
        assert (await ask(own, "POST", f"{path}/fetch", **ticket))[0] == 404
        _, found = await ask("ba-owner", "GET", "/history?after=2")
        told = [(e["actor"], e["action"]) for e in found["entries"]]
        assert told == [("key:main", "ask"), ("oidc:u-1", "approve"), ("key:main", "fetch")]

    with_provider(check)


def test_a_viewer_asks_for_the_tenants_it_sees(with_provider):
    async def check(ask, stack, provider) -> None:
        wish = {"key": "k1", "tenant": "acme", "why": "x"}
        assert (await ask("ba-look", "POST", "/key-requests", json=wish))[0] == 201
        assert (await ask("ba-look", "POST", "/key-requests", json=wish | {"tenant": "beta"}))[0] \
            == 403  # fmt: skip
        status, body = await ask("ba-owner", "POST", "/key-requests", json={"key": "k", "why": "x"})
        assert (status, body["error"]["param"]) == (400, "tenant")

    with_provider(check)


def test_whoami_tells_who_asks_and_what_is_allowed(with_provider):
    async def check(ask, stack, provider) -> None:
        status, found = await ask(token(roles="acme-boss"), "GET", "/whoami")
        assert (status, found["id"]) == (200, "oidc:u-1")
        (one,) = found["allowed"]
        assert "manage" in one["rights"]
        assert one["tenants"] == ["acme"]
        _, found = await ask("ba-owner", "GET", "/whoami")
        assert [a["tenants"] for a in found["allowed"]] == [None]

    with_provider(check)
