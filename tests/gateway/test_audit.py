"""What leaves a real gateway stands on the chain, is signed for, and cannot be altered unseen."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zipfile
from contextlib import closing

import pytest
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from autoscale.checkpoints import Checkpoints, Kept
from ballast.cli import app
from serving.audit import sign
from serving.audit.anchor import LAST_FILE
from serving.audit.auditor import ANCHOR_FILE, KEY_FILE, signer
from serving.auth import digest
from serving.directory.store import opener as directory_opener
from serving.fakes.server import serve
from serving.ledger.store import opener as ledger_opener
from serving.logs import utc_ms


class Shell:
    """Types `ballast audit ...` beside a gateway of this loop."""

    def __init__(self, stack, tmp_path, **audit: str) -> None:
        self.config = tmp_path / "settings.yaml"
        tree = {"state_dir": str(stack.state), "audit": audit}
        self.config.write_text(yaml.safe_dump(tree))

    async def __call__(self, *words: str, code: int = 0) -> str:
        words = ("audit", *words, "--config", str(self.config))
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
        assert done.exit_code == code, (done.output, done.exception)
        return done.output


def checkpoints(stack) -> Checkpoints:
    settings = stack.settings
    stores = ledger_opener(settings), directory_opener(settings)
    return Checkpoints(signer(settings), Kept.of(settings), stores, utc_ms, CollectorRegistry())


def watched(run, kit, check) -> None:
    """Run a check on a gateway with a key to sign and an auditor."""
    people = [
        {"id": role, "role": role, "hmac": digest(kit.PEPPER, f"ba-{role}".encode()).hex()}
        for role in ("auditor", "operator")
    ]

    async def keyed(stack) -> None:
        (stack.state / KEY_FILE).write_text(sign.new_key())
        for _ in range(3):
            assert (await stack.chat()).status == 200
        await stack.rows(3)
        await check(stack)

    run(keyed, providers={"alpha": kit.provider()}, administrators=people)


def test_a_gateway_without_the_audit_s_key_says_so_and_does_not_fail(run, kit):
    async def check(stack) -> None:
        (stack.state / KEY_FILE).unlink()
        url = f"{stack.ops}/admin/v1/egress/verify"
        async with stack.session.get(url, headers={"Authorization": "Bearer ba-auditor"}) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"]) == (409, "conflict")
            assert "audit.key_file" in error["message"]

    watched(run, kit, check)


def edit(stack, statement: str) -> None:
    with closing(sqlite3.connect(stack.state / "ledger.sqlite")) as db:
        db.execute(statement)
        db.commit()


def test_what_left_is_listed_verified_and_signed_for(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        rows = json.loads(await shell("query", "--json"))
        assert len(rows) == 3
        heads = (await shell("query")).splitlines()[0].split("  ")
        assert [head.strip() for head in heads if head.strip()][:4] == [
            "at (UTC)", "tenant", "class", "rule",
        ]  # fmt: skip
        assert {(r["provider"], r["jurisdiction"], r["class"]) for r in rows} == {
            ("alpha", "us", "internal")
        }  # fmt: skip
        made = await asyncio.to_thread(checkpoints(stack).once)
        assert made is not None
        assert sorted(number for _, number, _ in made.heads) == [1, 3]
        text = await shell("verify")
        assert "whole: 4 entries on 2 chains" in text
        assert "held against 1 signed checkpoints" in text
        found = json.loads(await shell("query", "--class", "personal", "--json"))
        assert found == []

    watched(run, kit, check)


def test_the_policy_of_settings_and_files_is_on_the_chain(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        (one,) = json.loads(await shell("policy", "--json"))
        assert (one["actor"], one["number"]) == (f"gateway:{kit.DEPLOYMENT}/0", 1)
        text = await shell("policy", "--number", "1")
        told = yaml.safe_load(text)["policy"]
        assert told["tenants"]["home"] == {
            "residency": "premises", "jurisdictions": [], "is_suspended": False
        }  # fmt: skip
        assert told["keys"]["never"]["overflow"] == "never"
        assert told["offerings"]["alpha/big"]["label"]["jurisdiction"] == "us"
        for secret in (kit.PROVIDER_KEY, kit.SECRET, kit.PEPPER.decode(), "hmac"):
            assert secret not in text
        assert "no record" in await shell("policy", "--number", "7", code=1)
        await stack.stop()
        await stack.restart(stack.tree)
        assert len(json.loads(await shell("policy", "--json"))) == 1, "the same as before"
        keys = [key for key in stack.tree["keys"] if key["id"] != "quiet"]
        await stack.stop()
        await stack.restart(stack.tree | {"keys": keys})
        _, last = json.loads(await shell("policy", "--json"))
        assert last["changed"] == ["keys.quiet"]

    watched(run, kit, check)


def test_an_anchor_that_is_gone_is_no_proof(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        await asyncio.to_thread(checkpoints(stack).once)
        (stack.state / ANCHOR_FILE).unlink()
        text = " ".join((await shell("verify", code=1)).split())
        assert "the controller's state folder holds it" in text
        (stack.state / LAST_FILE).unlink()
        assert "held against 0 signed checkpoints" in await shell("verify", code=2)

    watched(run, kit, check)


LAST_INTENT_GONE = "DELETE FROM intents WHERE request_id = (SELECT max(request_id) FROM intents)"


async def copy_at(stack, answer) -> tuple[object, str]:
    """An address that gives back what it took; `answer` is asked at each GET."""
    app = web.Application()

    async def give(_: web.Request) -> web.Response:
        return answer()

    app.router.add_get("/copy", give)
    served = await serve(app, "127.0.0.1", 0)
    return served, f"{served.url}/copy"


def test_an_end_cut_off_database_and_anchor_shows_against_the_copy(run, kit, tmp_path):
    async def check(stack) -> None:
        signing = checkpoints(stack)
        await asyncio.to_thread(signing.once)
        file = stack.state / ANCHOR_FILE
        first = file.read_bytes()
        await stack.chat()
        await stack.rows(4)
        await asyncio.to_thread(signing.once)
        whole = file.read_bytes()
        given = [web.Response(body=whole)]
        served, url = await copy_at(stack, lambda: given[0])
        shell = Shell(stack, tmp_path, anchor_copy_url=url)
        try:
            assert "2 of them stand in the copy" in await shell("verify")
            edit(stack, "DELETE FROM audit_chain WHERE number = 4")
            edit(stack, LAST_INTENT_GONE)
            file.write_bytes(first)
            (stack.state / LAST_FILE).unlink()
            given[0] = web.Response(body=whole)
            text = " ".join((await shell("verify", code=1)).split())
            assert "here it is gone: cut off" in text
            assert "the chain was cut off" in text
            assert "whole" in await shell("verify", "--no-copy"), "the file and the chain agree"
            for given[0] in (web.Response(status=404),
                             web.HTTPFound(f"{stack.ops}/livez")):  # fmt: skip
                assert "the copy was not read" in await shell("verify", code=2)
        finally:
            await served.close()

    watched(run, kit, check)


def test_an_end_cut_off_database_and_anchor_shows_against_what_the_controller_saw(
    run, kit, tmp_path
):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        signing = checkpoints(stack)
        await asyncio.to_thread(signing.once)
        first = (stack.state / ANCHOR_FILE).read_bytes()
        await stack.chat()
        await stack.rows(4)
        await asyncio.to_thread(signing.once)
        edit(stack, "DELETE FROM audit_chain WHERE number = 4")
        edit(stack, LAST_INTENT_GONE)
        (stack.state / ANCHOR_FILE).write_bytes(first)
        text = " ".join((await shell("verify", code=1)).split())
        assert "cut off" in text
        await asyncio.to_thread(checkpoints(stack).once)  # another controller starts
        for _ in range(2):
            await stack.chat()

        def are_stored() -> bool:
            with stack.ledger() as ledger:
                return len(ledger.requests(10)) == 6

        await kit.eventually(are_stored)
        await asyncio.to_thread(checkpoints(stack).once)
        text = " ".join((await shell("verify", code=1)).split())
        assert "differs from what a checkpoint saw: the chain was written anew" in text

    watched(run, kit, check)


def test_a_last_checkpoint_of_long_ago_is_a_finding_unless_the_stack_is_stopped(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        settings = stack.settings
        stores = ledger_opener(settings), directory_opener(settings)
        ago = lambda: utc_ms() - 200_000  # noqa: E731
        made = Checkpoints(signer(settings), Kept.of(settings), stores, ago, CollectorRegistry())
        await asyncio.to_thread(made.once)
        assert "nobody signs" in " ".join((await shell("verify", code=1)).split())
        assert "whole" in await shell("verify", "--stopped")

    watched(run, kit, check)


FORGED = (
    "INSERT INTO intents SELECT 'forged', 1, at_ms + 60000, tenant, sensitivity, rule,"
    " jurisdiction, provider, upstream_model FROM intents LIMIT 1"
)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE intents SET jurisdiction = 'cn' WHERE attempt = 1", "differs"),
        ("DELETE FROM intents", "is gone"),
        ("DELETE FROM audit_chain WHERE number = 2", "missing"),
        ("DELETE FROM audit_chain WHERE number = 3", "cut off"),
        ("DELETE FROM audit_chain", "cut off"),
        ("UPDATE audit_chain SET data = CAST('[]' AS BLOB) WHERE number = 1", "changed"),
        (FORGED, "stand on no chain"),
    ],
)  # fmt: skip
def test_whoever_alters_the_record_is_found_out(run, kit, tmp_path, statement, told):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        await asyncio.to_thread(checkpoints(stack).once)
        edit(stack, statement)
        assert told in " ".join((await shell("verify", code=1)).split())

    watched(run, kit, check)


def test_a_stranger_verifies_with_the_public_key_alone(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        await asyncio.to_thread(checkpoints(stack).once)
        public = (await shell("key")).split()[2]
        (stack.state / KEY_FILE).unlink()
        assert "whole" in await shell("verify", "--public-key", public)
        assert "another key" in " ".join(
            (await shell("verify", "--public-key", "00" * 32, code=1)).split()
        )  # fmt: skip

    watched(run, kit, check)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_report_is_signed_and_an_altered_one_shows(run, kit, tmp_path, lang):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        await asyncio.to_thread(checkpoints(stack).once)
        made = (await shell("report", str(tmp_path / "out"), "--lang", lang)).split("\n")[:3]
        page, rows, _ = map(tmp_path.__class__, made)
        assert ("3 calls left" if lang == "en" else "3 次调用离开") in page.read_text("utf-8")
        assert len(rows.read_text("utf-8-sig").splitlines()) == 4
        public = (await shell("key")).split()[2]
        assert "as it was signed" in await shell("check", str(page), "--public-key", public)
        page.write_text(page.read_text("utf-8").replace("3", "2"), "utf-8")
        assert "was changed" in " ".join((await shell("check", str(page), code=1)).split())

    watched(run, kit, check)


def test_a_breachs_bundle_names_calls_tenants_vendors_and_keys(run, kit, tmp_path):
    async def check(stack) -> None:
        shell = Shell(stack, tmp_path)
        text = await shell("breach", str(tmp_path / "breach.zip"), "--provider", "alpha")
        assert "3 calls, 1 tenants, 1 vendors, 1 API keys" in text
        with zipfile.ZipFile(tmp_path / "breach.zip") as bundle:
            assert bundle.read("keys.txt") == b"main\n"
            assert len(bundle.read("calls.csv").splitlines()) == 4
            assert "from the beginning until" in bundle.read("about.txt").decode()
            assert "3 calls in calls.csv" in bundle.read("about.txt").decode()
        assert "0 calls" in await shell("breach", str(tmp_path / "b.zip"), "--provider", "beta")

    watched(run, kit, check)


def test_the_auditor_asks_over_http_and_the_operator_may_not(run, kit):
    async def check(stack) -> None:
        async def get(role: str, path: str):
            head = {"Authorization": f"Bearer ba-{role}"}
            url = f"{stack.ops}/admin/v1{path}"
            async with stack.session.get(url, headers=head) as reply:
                return reply.status, await reply.json()

        status, found = await get("auditor", "/egress?class=internal&limit=2")
        assert (status, len(found["egress"])) == (200, 2)
        last = found["egress"][-1]
        after = f"{last['at_ms']}:{last['request_id']}:{last['attempt']}"
        _, rest = await get("auditor", f"/egress?after={after}")
        assert len(rest["egress"]) == 1
        status, found = await get("auditor", "/egress/verify")
        assert (status, found["is_whole"], found["entries"]) == (200, True, 4)
        for path in ("/egress", "/egress/verify"):
            assert (await get("operator", path))[0] == 403
        for wrong in ("class=nobody", "after=x", "limit=0", "colour=red"):
            assert (await get("auditor", f"/egress?{wrong}"))[0] == 400

    watched(run, kit, check)
