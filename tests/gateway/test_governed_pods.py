"""Gateways of several machines under one directory in PostgreSQL: a change at one holds at all."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import signal

import pytest

from serving.auth import digest

pytestmark = pytest.mark.server
OWNER = {"Authorization": "Bearer ba-owner"}


async def ask(live, method: str, path: str, **more):
    url = f"{live.ops}/admin/v1{path}"
    # A connection of its own: one kept may be closed by the server in the moment it is used again.
    headers = OWNER | {"connection": "close"}
    async with live.session.request(method, url, headers=headers, **more) as reply:
        return reply.status, await reply.json()


@contextlib.asynccontextmanager
async def beside(live, kit, tree, folder):
    """A second gateway with a state folder of its own."""
    other = type(live)(folder)
    kit.write_files(other.state, [])
    other.session = live.session
    other_tree = copy.deepcopy(tree) | {"state_dir": str(folder)}
    try:
        await asyncio.gather(live.start(tree), other.start(other_tree))
        await asyncio.gather(live.ready(), other.ready())
        yield other
    finally:
        await other.kill()


def administrators(kit):
    mark = digest(kit.PEPPER, b"ba-owner").hex()
    return [{"id": "owner", "role": "admin", "hmac": mark}]


def test_keys_and_switches_made_at_one_machine_hold_at_the_other(
    run_live, kit, tmp_path, new_database
):
    async def check(live, stack, tree) -> None:
        async with beside(live, kit, tree, tmp_path / "other") as other:
            loop = asyncio.get_running_loop()
            await ask(live, "POST", "/tenants", json={"id": "shop", "residency": "premises"})
            status, made = await ask(
                other, "POST", "/keys", json={"id": "shop-web", "tenant": "shop"}
            )
            assert status == 201, made

            async def status_at(where, key: str) -> int:
                head = {"Authorization": f"Bearer {key}"}
                url = f"{where.url}/v1/chat/completions"
                async with live.session.post(url, json=kit.chat(), headers=head) as reply:
                    return reply.status

            async def is_known() -> bool:
                return await status_at(live, made["key"]) == 200

            await kit.eventually(is_known)
            thrown = {"scope": "tenant", "value": "shop", "why": "leaked"}
            assert (await ask(live, "POST", "/switches", json=thrown))[0] == 201
            thrown_s = loop.time()

            async def is_stopped() -> bool:
                return await status_at(other, made["key"]) == 503

            await kit.eventually(is_stopped)
            took_s = loop.time() - thrown_s
            print(f"the other machine stopped after {took_s:.3f} s")
            assert took_s < 5.0, "half a second, and what a busy machine adds"
            history = [(await ask(one, "GET", "/history"))[1] for one in (live, other)]
            assert history[0] == history[1]
            assert [entry["number"] for entry in history[0]["entries"]] == [1, 2, 3, 4]
            actions = [entry["action"] for entry in history[0]["entries"]]
            assert actions.count("settings.policy") == 1, "both started with the same"

    run_live(
        check, engines=[kit.engine()],
        **{"ledger.url": new_database(), "administrators": administrators(kit)},
    )  # fmt: skip


def test_a_gateway_with_another_pepper_makes_no_key_that_the_others_could_not_know(
    run_live, kit, tmp_path, new_database
):
    async def check(live, stack, tree) -> None:
        folder = tmp_path / "other"
        async with beside(live, kit, tree, folder) as other:
            row = {"id": "shop", "residency": "premises"}
            assert (await ask(live, "POST", "/tenants", json=row))[0] == 201
            await other.kill()
            (folder / "pepper").write_bytes(b"q" * 32)
            owner = {"id": "owner", "role": "admin", "hmac": digest(b"q" * 32, b"ba-owner").hex()}
            await other.start(other.tree | {"administrators": [owner]})
            key = {"id": "k", "tenant": "shop"}
            status, body = await ask(other, "POST", "/keys", json=key)
            assert (status, "pepper" in body["error"]["message"]) == (503, True), body
            assert '"pepper_differs"' in (folder / "stderr.log").read_text()
            assert (await ask(live, "POST", "/keys", json=key))[0] == 201

    run_live(
        check, engines=[kit.engine()],
        **{"ledger.url": new_database(), "administrators": administrators(kit)},
    )  # fmt: skip


def test_changes_made_at_both_machines_at_once_are_all_there(run_live, kit, tmp_path, new_database):
    async def check(live, stack, tree) -> None:
        async with beside(live, kit, tree, tmp_path / "other") as other:
            names = [f"t{number}" for number in range(8)]
            replies = await asyncio.gather(
                *(
                    ask(where, "POST", "/tenants", json={"id": name, "residency": "premises"})
                    for name in names
                    for where in (live, other)
                )
            )
            codes = sorted(status for status, _ in replies)
            assert codes == [201] * 8 + [409] * 8, replies
            _, found = await ask(other, "GET", "/history/verify")
            assert (found["is_whole"], found["head"]["number"]) == (True, 9)

    run_live(
        check, engines=[kit.engine()],
        **{"ledger.url": new_database(), "administrators": administrators(kit)},
    )  # fmt: skip


def test_while_the_database_is_away_changes_are_refused_and_own_engines_serve(
    run_live, kit, postgres, new_database
):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        row = {"id": "shop", "residency": "premises"}
        postgres.stop(signal.SIGQUIT)
        try:
            status, body = await ask(live, "POST", "/tenants", json=row)
            assert (status, body["error"]["code"]) == (503, "directory_away"), body
            assert "directory" in body["error"]["message"]
            assert (await live.chat("never")).status == 200
        finally:
            postgres.start()

        async def is_back() -> bool:
            return (await ask(live, "POST", "/tenants", json=row))[0] == 201

        await kit.eventually(is_back)

    run_live(
        check, engines=[kit.engine()],
        **{"ledger.url": new_database(), "administrators": administrators(kit)},
    )  # fmt: skip
