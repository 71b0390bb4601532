"""`ballast tenants|keys|switch|admins|history ...` against a real gateway, as typed."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
import yaml
from typer.testing import CliRunner

from ballast.cli import app
from serving.auth import digest

KEY = re.compile(r"bl-[A-Za-z0-9_-]{43}")


class Shell:
    """Types commands to a stack that runs in this loop."""

    def __init__(self, stack) -> None:
        self._stack = stack
        self.config = stack.state / "settings.yaml"
        gateway = {"port": int(stack.url.rpartition(":")[2])}
        gateway["ops_port"] = int(stack.ops.rpartition(":")[2])
        tree = {"state_dir": str(stack.state), "gateway": gateway}
        self.config.write_text(yaml.safe_dump(tree), encoding="utf-8")
        (stack.state / "admin-key").write_text("ba-owner")

    async def __call__(self, *words: str) -> tuple[int, str]:
        words = (*words, "--config", str(self.config))
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    async def good(self, *words: str) -> str:
        code, output = await self(*words)
        assert code == 0, output
        return output

    async def bad(self, *words: str) -> str:
        code, output = await self(*words)
        assert code == 1, output
        assert "what to do:" in output
        assert "Traceback" not in output
        return output

    async def json(self, *words: str):
        return json.loads(await self.good(*words, "--json"))

    def key_file(self, key: str) -> str:
        path = self._stack.state / f"key-of-{key[:2]}-{abs(hash(key))}"
        path.write_text(key)
        return str(path)

    async def calls(self, key: str) -> int:
        head = {"Authorization": f"Bearer {key}"}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        url = f"{self._stack.url}/v1/chat/completions"
        async with self._stack.session.post(url, json=body, headers=head) as reply:
            await reply.read()
            return reply.status


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def typed(run, kit) -> Callable[..., None]:
    """Runs a check with a shell on a stack whose owner is `ba-owner`, with a viewer `ba-see`."""

    def start(check, **changes) -> None:
        rows = [
            {"id": name, "role": role, "hmac": digest(kit.PEPPER, key).hex()}
            for name, role, key in (("owner", "admin", b"ba-owner"), ("see", "viewer", b"ba-see"))
        ]

        async def main(stack) -> None:
            await check(Shell(stack), stack)

        run(main, administrators=rows, engines=[kit.engine()], **changes)

    return start


def test_a_tenant_a_project_and_a_key_are_made_used_rotated_and_revoked(typed):
    async def check(shell: Shell, stack) -> None:
        await shell.good("tenants", "create", "shop", "--residency", "premises", "--why", "trial")
        await shell.good("projects", "create", "shop", "quiz", "--owner", "王小明")
        output = await shell.good(
            "keys", "create", "shop-web", "--tenant", "shop", "--project", "quiz", "--days", "9",
            "--model", "m", "--class", "patient", "--overflow", "never", "--concurrent", "5",
        )  # fmt: skip
        (key, *again) = KEY.findall(output)
        assert set(again) == {key}, "on a line of its own, and in a line to copy"
        assert await shell.calls(key) == 200
        (row,) = [r for r in await shell.json("keys", "list") if r["id"] == "shop-web"]
        assert (row["models"], row["latency_class"], row["overflow"]) == (["m"], "patient", "never")
        assert row["allowance"]["concurrent"] == 5
        assert key not in await shell.good("keys", "list")
        new = (await shell.json("keys", "rotate", "shop-web", "--grace-hours", "0"))["key"]
        assert [await shell.calls(one) for one in (key, new)] == [401, 200]
        await shell.good("keys", "revoke", "shop-web", "--why", "leaked")
        assert await shell.calls(new) == 401
        assert "revoked" in await shell.good("keys", "list", "--tenant", "shop")

    typed(check)


def test_a_tenant_s_terms_change_one_by_one_and_it_can_be_suspended(typed):
    async def check(shell: Shell, stack) -> None:
        await shell.good(
            "tenants", "create", "shop", "--residency", "named", "--jurisdiction", "us",
            "--jurisdiction", "sg", "--requests-per-min", "100",
        )  # fmt: skip
        await shell.good("tenants", "change", "shop", "--tokens-per-min", "5000")
        (row,) = [t for t in (await shell.json("tenants", "list"))["tenants"] if t["id"] == "shop"]
        assert (row["residency"], row["jurisdictions"]) == ("named", ["us", "sg"])
        assert row["allowance"] == {
            "requests_per_min": 100, "tokens_per_min": 5000, "concurrent": 0,
        }  # fmt: skip
        await shell.good("tenants", "change", "shop", "--residency", "mainland")
        key = (await shell.json("keys", "create", "k", "--tenant", "shop"))["key"]
        assert await shell.calls(key) == 200
        await shell.good("tenants", "suspend", "shop", "--why", "unpaid")
        assert await shell.calls(key) == 401
        assert "suspended" in await shell.good("tenants", "list")
        await shell.good("tenants", "suspend", "shop", "--undo")
        assert await shell.calls(key) == 200

    typed(check)


def test_a_key_s_terms_change_its_limits_show_and_at_last_it_is_removed(typed, tmp_path):
    async def check(shell: Shell, stack) -> None:
        await shell.good("tenants", "create", "shop", "--residency", "premises")
        await shell.good("projects", "create", "shop", "quiz", "--plan", "tokens/week=1000000")
        made = await shell.json("keys", "create", "k", "--tenant", "shop", "--project", "quiz")
        await shell.good("keys", "create", "probe", "--tenant", "shop", "--canary")
        rows = await shell.json("keys", "list")
        assert [row["id"] for row in rows if row.get("is_canary")] == ["probe"]
        await shell.good("keys", "revoke", "probe")
        await shell.good("keys", "remove", "probe")
        await shell.good(
            "keys", "change", "k", "--plan", "requests/5h=2", "--requests-per-min", "100",
            "--class", "patient", "--model", "m", "--days", "30", "--why", "as agreed",
        )  # fmt: skip
        file = tmp_path / "key"
        file.write_text(made["key"])
        assert [await shell.calls(made["key"]) for _ in range(3)] == [200, 200, 429]
        answer = await shell.json("limits", "--subject", "key:k")
        (found,) = answer["subjects"]
        left = {use["what"]: (use["limit"], use["left"]) for use in found["limits"]}
        assert left["requests per 5 hours"] == (2, 0)
        assert left["requests per minute"][0] == 100
        assert answer["away"] == {}
        shown = await shell.good("limits")
        assert "project:shop:quiz" in shown
        assert "tokens per week" in shown
        await shell.good("keys", "change", "k", "--plan", "requests/5h=3", "--for-ever")
        assert [await shell.calls(made["key"]) for _ in range(2)] == [200, 429]
        (row,) = [r for r in await shell.json("keys", "list") if r["id"] == "k"]
        assert row["allowance"]["requests_per_5h"] == 3
        assert row["latency_class"] == "patient"
        assert "expires" not in row
        await shell.good("keys", "change", "k", "--plan", "requests/5h=0")
        told = await shell.good("chat", "hi", "--key", str(file), "--model", "m")
        assert told
        await shell.good("keys", "revoke", "k")
        await shell.good("keys", "remove", "k", "--why", "of no more use")
        assert await shell.calls(made["key"]) == 401
        await shell.good("projects", "remove", "shop", "quiz")
        await shell.good("tenants", "suspend", "shop")
        await shell.good("tenants", "remove", "shop")
        assert "shop" not in str(await shell.json("tenants", "list"))
        assert "of no more use" in await shell.good("history")
        await shell.good("history", "verify")

    typed(check)


def test_a_switch_is_thrown_listed_and_taken_back_also_by_an_alias(typed, kit):
    async def check(shell: Shell, stack) -> None:
        await shell.good("switch", "throw", "model", "m-alias", "--why", "it says nonsense")
        assert await shell.calls(kit.key_of("main")) == 503
        output = await shell.good("switch", "list")
        assert all(word in output for word in ("model", " m ", "owner", "it says nonsense"))
        await shell.good("switch", "back", "model", "m-alias")
        assert await shell.calls(kit.key_of("main")) == 200
        output = await shell.good("switch", "throw", "model", "nmae", "--why", "x")
        assert "mind the spelling" in output
        assert "none" in await shell.good("switch", "back", "model", "nmae") + await shell.good(
            "switch", "list"
        )

    typed(check)


def test_a_key_is_asked_for_approved_and_fetched_once(typed, kit):
    async def check(shell: Shell, stack) -> None:
        own = shell.key_file(kit.key_of("never"))
        asked = await shell.json(
            "keys", "request", "acme-two", "--why", "a second shop", "--key-file", own
        )
        output = await shell.good("keys", "requests")
        assert all(word in output for word in ("acme-two", "acme:default", "key:never", "waits"))
        assert "1 asked for and not approved" in await shell.good("keys", "list")
        fetch = ("keys", "fetch", asked["id"], "--key-file", own)
        assert "not approved" in await shell.bad(*fetch)
        await shell.good("keys", "approve", asked["id"])
        output = await shell.good(*fetch)
        key = KEY.findall(output)[0]
        assert await shell.calls(key) == 200
        assert "no ticket" in await shell.bad(*fetch)
        asked = await shell.json("keys", "request", "k3", "--tenant", "acme", "--why", "x")
        assert KEY.search(await shell.good("keys", "approve", asked["id"], "--show"))
        asked = await shell.json("keys", "request", "k4", "--tenant", "acme", "--why", "x")
        await shell.good("keys", "approve", asked["id"], "--refuse", "--why", "no need")
        assert "none" in await shell.good("keys", "requests")

    typed(check)


def test_an_administrator_is_made_may_what_the_role_says_and_is_removed(typed):
    async def check(shell: Shell, stack) -> None:
        made = await shell.json("admins", "create", "eve", "--role", "operator", "--tenant", "acme")
        eve = shell.key_file(made["key"])
        found = await shell.json("tenants", "list", "--key-file", eve)
        assert [row["id"] for row in found["tenants"]] == ["acme"]
        output = await shell.bad(
            "tenants", "create", "x", "--residency", "premises", "--key-file", eve
        )
        assert "your role may not" in output
        throw = ("switch", "throw", "--why", "x", "--key-file", eve)
        await shell.good(*throw, "tenant", "acme")
        assert "for all tenants" in await shell.bad(*throw, "all")
        assert "for this tenant" in await shell.bad(*throw, "tenant", "beta")
        await shell.good("admins", "remove", "eve")
        assert "no administrator's key" in await shell.bad("tenants", "list", "--key-file", eve)

    typed(check)


def test_refusals_say_what_is_wrong_and_what_to_do(typed):
    async def check(shell: Shell, stack) -> None:
        see = ("--key-file", shell.key_file("ba-see"))
        create = ("tenants", "create", "shop", "--residency", "premises")
        assert "your role may not" in await shell.bad(*create, *see)
        await shell.good(*create)
        assert "there already" in await shell.bad(*create)
        assert "settings" in await shell.bad("keys", "revoke", "main")
        assert "no key 'ghost'" in await shell.bad("keys", "revoke", "ghost")
        assert "no tenant" in await shell.bad("keys", "create", "k", "--tenant", "ghost")
        assert "residency" in await shell.bad("tenants", "create", "t", "--residency", "moon")
        assert "no administrator" in await shell.bad(
            "tenants", "list", "--key-file", shell.key_file("ba-nobody")
        )
        assert "no administrator's key" in await shell.bad("tenants", "list", "--key-file", "gone")
        assert "holds no key" in await shell.bad(
            "tenants", "list", "--key-file", shell.key_file("two words")
        )
        assert "there is no tenant" in await shell.bad("tenants", "suspend", "../../livez?x=1")

    typed(check)


def test_without_a_stack_the_answer_says_how_to_start_one(typed):
    async def check(shell: Shell, stack) -> None:
        shell.config.write_text(f"{{state_dir: {stack.state}, gateway: {{ops_port: 1}}}}")
        for words in (["tenants", "list"], ["history"], ["history", "verify"], ["keys", "list"]):
            output = await shell.bad(*words)
            assert "nothing answers" in output
            assert "ballast up" in output

    typed(check)


def test_the_history_is_shown_and_an_alteration_found(typed):
    async def check(shell: Shell, stack) -> None:
        for name in ("a1", "b2", "c3"):
            await shell.good("tenants", "create", name, "--residency", "premises")
        output = await shell.good("history", "--after", "2")
        assert "tenant:b2" in output
        assert "tenant:a1" not in output
        assert "whole: 4 changes" in await shell.good("history", "verify")
        await shell.good("tenants", "suspend", "a1")
        assert "with entry 4 as it was seen before" in await shell.good("history", "verify")
        with closing(sqlite3.connect(stack.state / "directory.sqlite")) as db:
            db.execute("DELETE FROM history WHERE number > 3")
            db.commit()
        code, output = await shell("history", "verify")
        assert (code, "cut off" in output) == (1, True)
        with closing(sqlite3.connect(stack.state / "directory.sqlite")) as db:
            db.execute("UPDATE history SET data = CAST('{}' AS BLOB) WHERE number = 1")
            db.commit()
        code, output = await shell("history", "verify")
        assert (code, "entry 1 was changed" in output) == (1, True)
        assert "unreadable" in await shell.good("history")

    typed(check)


def test_what_somebody_wrote_into_the_store_does_nothing_to_a_terminal(typed):
    async def check(shell: Shell, stack) -> None:
        await shell.good("tenants", "create", "a1", "--residency", "premises")
        event = {
            "at_ms": 1, "actor": "\x1b[2Jroot", "action": "x", "subject": "y",
            "why": "all is well\n99  now  owner  nothing\u202e", "details": {},
        }  # fmt: skip
        with closing(sqlite3.connect(stack.state / "directory.sqlite")) as db:
            db.execute(
                "UPDATE history SET data = ? WHERE number = 2", (json.dumps(event).encode(),)
            )
            db.commit()
        output = await shell.good("history", "--after", "1")
        assert "\x1b" not in output
        assert "\u202e" not in output
        assert len(output.strip().splitlines()) == 2

    typed(check)


def test_budgets_are_set_shown_raised_and_removed_as_typed(typed):
    async def check(shell: Shell, stack) -> None:
        await shell.good(
            "budgets", "set", "month", "1500.50", "--tenant", "acme", "--why", "contract",
            "--step", "0.5=smaller_model:m2", "--step", "0.8=queue_longer:30",
            "--step", "0.9=local_only", "--step", "1=refuse",
        )  # fmt: skip
        (row,) = (await shell.json("budgets", "list"))["budgets"]
        assert (row["limit_micro"], row["currency"], row["kind"]) == (1_500_500_000, "CNY", "hard")
        assert [step["action"] for step in row["ladder"]] == [
            "smaller_model", "queue_longer", "local_only", "refuse",
        ]  # fmt: skip
        assert "1,500.50 CNY" in await shell.good("budgets", "list")
        await shell.good("budgets", "set", "month", "10", "--kind", "soft")
        await shell.good("budgets", "raise", "month", "5", "--hours", "2", "--why", "launch")
        shown = await shell.good("budgets", "show", "month")
        assert "15.00 CNY a month (Asia/Shanghai), made by owner" in shown
        assert "raised by 5.00 CNY until" in shown
        assert "from 50%: smaller_model m2" in shown
        for words in (("set", "x", "ten"), ("set", "x", "1", "--step", "much=refuse"),
                      ("set", "month", "1", "--period", "day"), ("remove", "none"),
                      ("set", "x", "1", "--tenant", "nobody"), ("show", "none")):  # fmt: skip
            await shell.bad("budgets", *words)
        file = shell.key_file("ba-see")
        await shell.bad("budgets", "remove", "month", "--key-file", file)
        assert len((await shell.json("budgets", "list", "--key-file", file))["budgets"]) == 1
        await shell.good("budgets", "remove", "month")
        assert (await shell.json("budgets", "list"))["budgets"] == []
        told = [(e["action"], e["subject"]) for e in await shell.json("history")]
        assert [action for action, subject in told if subject == "budget:month"] == [
            "create", "change", "raise", "remove",
        ]  # fmt: skip

    typed(check)


def test_a_rollout_is_planned_started_watched_paused_taken_back_and_told_of(typed):
    async def check(shell: Shell, stack) -> None:
        name = "m-alias"
        words = ("rollout", "start", name, "--to", "m2")
        assert "would go from m to m2" in await shell.good(*words, "--plan")
        assert await shell.json("rollout", "status") == []
        await shell.bad(*words, "--in-place")  # its gap is not accepted
        assert "say it like" in await shell.bad(*words, "--steps", "few")
        assert "say it like" in await shell.bad(*words, "--check", "calls_min=many")
        await shell.good(*words, "--steps", "5,100", "--check", "calls_min=9", "--why", "newer")
        (row,) = await shell.json("rollout", "status")
        assert (row["percent"], row["steps"], row["checks"]["calls_min"]) == (0, [5, 100], 9)
        assert "started" in await shell.good("rollout", "status")
        await shell.good("rollout", "pause", name)
        await shell.good("rollout", "resume", name, "--why", "go on")
        await shell.good("rollout", "abort", name)
        await shell.good("rollout", "close", name)
        assert "there is no rollout" in await shell.bad("rollout", "pause", name)
        (span,) = await shell.json("rollout", "history", name)
        assert (span["meaning"], span["until_ms"]) == ("m", None)
        assert "now" in await shell.good("rollout", "history", name)

    typed(check)
