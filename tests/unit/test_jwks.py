"""Keys of an identity provider: fetched once, kept, changed, bounded; never from elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from serving.claims import Named
from serving.errors import CallerError, OwnError
from serving.fakes.server import serve
from serving.jwks import AGAIN_S, BYTES_MAX, FRESH_S, STALE_S, KeySet
from serving.settings import Oidc


def public(kid: str) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True) | {"kid": kid}


class Provider:
    """Publishes keys, or what it is told to."""

    def __init__(self) -> None:
        self.kids = ["one"]
        self.answer: Callable[[], Awaitable[web.StreamResponse]] | None = None
        self.asked: list[str] = []
        self.url = ""
        self.now_s = 0.0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.answer is not None:
            return await self.answer()
        return web.json_response({"keys": [public(kid) for kid in self.kids]})

    def keys(self) -> KeySet:
        given = {"issuer": "i", "audience": "a", "roles": {"x": "viewer"}}
        settings = Oidc.model_validate(given | {"jwks_url": f"{self.url}/keys"})
        return KeySet(settings, lambda: self.now_s)


def run(check: Callable[[Provider], Awaitable[None]]) -> None:
    async def main() -> None:
        provider = Provider()
        app = web.Application()
        app.router.add_get("/{path:.*}", provider.respond)
        served = await serve(app, "127.0.0.1", 0)
        provider.url = served.url
        try:
            await check(provider)
        finally:
            await served.close()

    uvloop.run(asyncio.wait_for(main(), 30.0))


ONE, TWO = Named("one", "ES256"), Named("two", "ES256")


async def is_known(keys: KeySet, named: Named) -> bool:
    try:
        await keys.find(named)
    except CallerError:
        return False
    return True


async def is_away(keys: KeySet, named: Named = ONE) -> bool:
    try:
        await keys.find(named)
    except OwnError as error:
        return error.code == "identity_away"
    return False


def test_many_who_ask_at_once_cost_one_fetch() -> None:
    async def check(provider: Provider) -> None:
        keys = provider.keys()
        found = await asyncio.gather(*(keys.find(ONE) for _ in range(20)))
        assert len({id(key) for key in found}) == 1
        assert provider.asked == ["/keys"]

    run(check)


def test_unknown_keys_fetch_anew_once_a_minute_and_no_more() -> None:
    async def check(provider: Provider) -> None:
        keys = provider.keys()
        assert await is_known(keys, ONE)
        for _ in range(50):
            assert not await is_known(keys, TWO)
        assert len(provider.asked) == 1
        provider.kids = ["one", "two"]
        provider.now_s = AGAIN_S
        assert await is_known(keys, TWO)
        for number in range(50):
            assert not await is_known(keys, Named(f"other{number}", "ES256"))
        assert len(provider.asked) == 2

    run(check)


def test_a_key_that_was_withdrawn_is_refused_soon() -> None:
    async def check(provider: Provider) -> None:
        keys = provider.keys()
        assert await is_known(keys, ONE)
        provider.kids = ["two"]
        provider.now_s = FRESH_S + 1
        assert not await is_known(keys, ONE)
        assert await is_known(keys, TWO)

    run(check)


def test_while_the_provider_is_away_its_last_keys_hold_for_an_hour() -> None:
    async def check(provider: Provider) -> None:
        keys = provider.keys()
        assert await is_known(keys, ONE)

        async def fail() -> web.StreamResponse:
            return web.Response(status=500)

        provider.answer = fail
        provider.now_s = STALE_S
        assert await is_known(keys, ONE)
        provider.now_s = STALE_S + 1
        assert await is_away(keys)
        provider.answer = None
        provider.now_s += AGAIN_S
        assert await is_known(keys, ONE)

    run(check)


@pytest.mark.parametrize("kind", ["redirect", "large", "endless", "text", "deep", "list", "zip"])
def test_an_answer_that_is_no_key_set_is_none(kind: str) -> None:
    async def check(provider: Provider) -> None:
        bodies = {
            "large": b'{"keys":[]}' + b" " * BYTES_MAX, "text": b"keys", "deep": b"[" * 100_000,
            "list": b"[]",
        }  # fmt: skip

        async def answer() -> web.StreamResponse:
            if kind == "redirect":
                return web.Response(status=302, headers={"Location": f"{provider.url}/other"})
            if kind == "zip":
                body = b'{"keys":[]}' + b" " * (10 * BYTES_MAX)
                zipped = web.Response(body=body)
                zipped.enable_compression(web.ContentCoding.gzip)
                return zipped
            if kind == "endless":
                return web.Response(body=endless())
            return web.Response(body=bodies[kind])

        async def endless() -> Any:
            while True:
                yield b" " * 65_536

        provider.answer = answer
        assert await is_away(provider.keys())
        assert provider.asked == ["/keys"], "nobody is followed elsewhere"

    run(check)


def test_a_provider_that_does_not_answer_is_given_up_and_not_asked_again_at_once() -> None:
    async def check(provider: Provider) -> None:
        async def cut() -> web.StreamResponse:
            raise ConnectionResetError

        provider.answer = cut
        keys = provider.keys()
        for _ in range(10):
            assert await is_away(keys)
        assert len(provider.asked) <= 2, "a client may repeat a GET on a broken connection once"

    run(check)


def test_keys_may_stand_in_a_file_that_changes(tmp_path: Path) -> None:
    async def check(provider: Provider) -> None:
        path = tmp_path / "keys.json"
        settings = Oidc.model_validate(
            {"issuer": "i", "audience": "a", "jwks_file": path, "roles": {"x": "viewer"}}
        )
        keys = KeySet(settings, lambda: provider.now_s)
        assert await is_away(keys)
        path.write_text(json.dumps({"keys": [public("one")]}))
        provider.now_s += AGAIN_S
        assert await is_known(keys, ONE)
        path.write_text(json.dumps({"keys": [public("two")]}))
        provider.now_s += AGAIN_S
        assert await is_known(keys, TWO)
        assert not await is_known(keys, ONE)
        assert provider.asked == []

    run(check)
