"""After a breach: the keys whose calls left are named, all of them, and taken away at once."""

from __future__ import annotations

import asyncio

import pytest
import yaml
from typer.testing import CliRunner

from ballast.cli import app
from serving.auth import digest


async def status(stack, key: str) -> int:
    """What a call with this key's value is answered."""
    return (await stack.chat(headers={"authorization": f"Bearer {key}"})).status


@pytest.fixture
def breached(run, kit, tmp_path):
    """Runs a check on a gateway where three made keys and the settings' `main` have sent calls
    away; it is handed their values and what types `ballast audit breach`."""

    def start(check) -> None:
        rows = [{"id": "owner", "role": "admin", "hmac": digest(kit.PEPPER, b"ba-owner").hex()}]

        async def called(stack) -> None:
            head = {"Authorization": "Bearer ba-owner"}
            made = {}
            for name in ("web", "app", "bot"):
                body = {"id": name, "tenant": "acme", "overflow": "allowed"}
                url = f"{stack.ops}/admin/v1/keys"
                async with stack.session.post(url, json=body, headers=head) as reply:
                    assert reply.status == 201, await reply.text()
                    made[name] = (await reply.json())["key"]
            statuses = [await status(stack, key) for key in made.values()]
            assert statuses == [200] * 3
            assert (await stack.chat()).status == 200
            await stack.rows(4)
            config = tmp_path / "settings.yaml"
            gateway = {"ops_port": int(stack.ops.rpartition(":")[2])}
            config.write_text(yaml.safe_dump({"state_dir": str(stack.state), "gateway": gateway}))
            (stack.state / "admin-key").write_text("ba-owner")

            async def typed(*words: str, answer: str = "") -> tuple[int, str]:
                line = ["audit", "breach", str(tmp_path / "b.zip"), *words, "--config", str(config)]
                done = await asyncio.to_thread(CliRunner().invoke, app, line, input=answer)
                return done.exit_code, " ".join(done.output.split())

            await check(stack, made, typed)

        run(called, providers={"alpha": kit.provider()}, administrators=rows)

    return start


def test_one_keys_calls_are_bundled_and_only_it_is_revoked(breached):
    async def check(stack, made, typed) -> None:
        code, text = await typed("--key", "web", "--revoke", "--yes", "--why", "laptop stolen")
        assert (code, "1 calls" in text, "revoked 1 of 1" in text) == (0, True, True), text
        assert await status(stack, made["web"]) == 401
        assert await status(stack, made["app"]) == 200
        code, text = await typed("--key", "nobody's", "--revoke")
        assert (code, "0 calls" in text) == (0, True)

    breached(check)


def test_nothing_is_revoked_unless_a_person_says_so(breached):
    async def check(stack, made, typed) -> None:
        for answer in ("n\n", ""):
            code, text = await typed("--key", "web", "--revoke", answer=answer)
            assert (code, "revoke these 1 API keys" in text) == (1, True), text
        assert await status(stack, made["web"]) == 200
        assert (await typed("--key", "web", "--revoke", answer="y\n"))[0] == 0
        assert await status(stack, made["web"]) == 401

    breached(check)


def test_all_keys_that_can_be_are_revoked_and_the_rest_is_told(breached):
    async def check(stack, made, typed) -> None:
        code, text = await typed("--provider", "alpha", "--revoke", "--yes")
        assert "4 API keys" in text, text
        for key in made.values():
            assert await status(stack, key) == 401
        assert (code, "revoked 3 of 4" in text) == (1, True)
        assert "key 'main' stands in the settings" in text

    breached(check)
