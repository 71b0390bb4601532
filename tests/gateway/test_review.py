"""Sampled conversations in a real gateway: kept sealed, read by who may, judged, forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ballast.cli import app
from serving.auth import digest
from serving.settings import SettingsError

SAID = "内部代号是什么"
GUARD = {"tenants": {"acme": {"lists": ["house"]}}}
REVIEWERS = {"judge-1": "reviewer", "judge-2": "reviewer", "owner": "admin", "op": "operator",
             "aud": "auditor"}  # fmt: skip


def governed(run, kit, check, tmp_path: Path, review, **changes) -> None:
    """Run a check with a key to seal, a term list that flags, and people of some roles."""
    (tmp_path / "house.txt").write_text("#! action: flag\n内部代号\n", encoding="utf-8")
    key = tmp_path / "review-key"
    key.write_text("ab" * 32)
    people = [
        {"id": name, "role": role, "hmac": digest(kit.PEPPER, f"ba-{name}".encode()).hex()}
        for name, role in REVIEWERS.items()
    ]
    of_beta = {"id": "beta-only", "role": "reviewer", "tenants": ["beta"]}
    people.append(of_beta | {"hmac": digest(kit.PEPPER, b"ba-beta-only").hex()})
    review = {"key_file": str(key), **review}
    guard = GUARD | {"terms_dir": str(tmp_path)}
    changes = {"engines": [kit.engine()], "guard": guard} | changes
    run(check, administrators=people, review=review, **changes)


class Desk:
    """One administrator."""

    def __init__(self, stack, name: str) -> None:
        self._stack, self._name = stack, name

    async def __call__(self, method: str, path: str, **more):
        head = {"Authorization": f"Bearer ba-{self._name}"}
        url = f"{self._stack.ops}/admin/v1{path}"
        async with self._stack.session.request(method, url, headers=head, **more) as reply:
            return reply.status, await reply.json()

    async def cases(self, kit, count: int, **wanted):
        async def seen():
            _, found = await self("GET", "/reviews", params=wanted)
            return found["cases"] if len(found["cases"]) >= count else None

        found = await kit.eventually(seen)
        assert len(found) == count
        return found


def asking(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_flagged_conversation_is_kept_sealed_and_read_as_it_was(run, kit, tmp_path, is_stream):
    async def check(stack) -> None:
        body = asking(SAID)
        await stack.chat(**asking("a poem"))
        reply = await stack.chat(stream=is_stream, **body)
        judge = Desk(stack, "judge-1")
        (case,) = await judge.cases(kit, 1)
        assert case["why"] == "flagged"
        assert case["findings"] == ["input/house/flag"]
        assert (case["tenant"], case["model"], case["outcome"]) == ("acme", "m", "ok")
        status, text = await judge("GET", f"/reviews/{case['id']}/text", params={"why": "weekly"})
        assert status == 200
        assert json.loads(text["prompt"]) == body["messages"]
        assert text["answer"][0]["content"] == reply.text == kit.text_of(body["messages"], 8)
        for path in stack.state.glob("reviews.sqlite*"):
            stored = path.read_bytes()
            assert SAID.encode() not in stored
            assert reply.text[:12].encode() not in stored

    governed(run, kit, check, tmp_path, {"default": {"flagged_rate": 1}})


def test_who_reads_a_conversation_stands_in_the_history(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat()
        judge = Desk(stack, "judge-1")
        (case,) = await judge.cases(kit, 1)
        await judge("GET", f"/reviews/{case['id']}/text", params={"why": "complaint 7"})
        await judge("POST", f"/reviews/{case['id']}/verdict", json={"verdict": "fine"})
        _, history = await Desk(stack, "aud")("GET", "/history", params={"after": 1})
        told = [(e["actor"], e["action"], e["why"]) for e in history["entries"]]
        assert told == [
            ("judge-1", "review.read", "complaint 7"), ("judge-1", "review.judge_fine", ""),
        ]  # fmt: skip
        assert history["entries"][0]["subject"] == f"review:{case['id']}"

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}})


def test_only_reviewers_see_conversations_and_only_their_tenants(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat()
        (case,) = await Desk(stack, "judge-1").cases(kit, 1)
        for name in ("op", "aud"):
            for path in ("/reviews", f"/reviews/{case['id']}", f"/reviews/{case['id']}/text"):
                status, found = await Desk(stack, name)("GET", path)
                assert (status, found["error"]["code"]) == (403, "role_required")
        beta = Desk(stack, "beta-only")
        assert (await beta("GET", "/reviews"))[1] == {"cases": []}
        assert (await beta("GET", f"/reviews/{case['id']}/text"))[0] == 404
        row = {"verdict": "fine"}
        assert (await beta("POST", f"/reviews/{case['id']}/verdict", json=row))[0] == 404
        complaint = {"tenant": "acme", "words": "no"}
        assert (await beta("POST", "/complaints", json=complaint))[0] == 403

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}})


def test_a_verdict_is_contested_and_judged_by_another(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat()
        one, two = Desk(stack, "judge-1"), Desk(stack, "judge-2")
        (case,) = await one.cases(kit, 1)
        path = f"/reviews/{case['id']}"
        await one("POST", f"{path}/verdict", json={"verdict": "violation", "text": "insult"})
        await two("POST", f"{path}/appeal", json={"text": "a quotation"})
        status, found = await one("POST", f"{path}/verdict", json={"verdict": "violation"})
        assert (status, found["error"]["code"]) == (409, "conflict")
        _, case = await two("POST", f"{path}/verdict", json={"verdict": "fine"})
        assert [n["state"] for n in case["notes"]] == ["violation", "appealed", "fine"]
        _, history = await Desk(stack, "aud")("GET", "/history", params={"after": 1})
        acts = [e["action"].removeprefix("review.") for e in history["entries"]]
        assert acts == ["judge_violation", "appeal", "judge_fine"], "what was refused is no act"
        assert [c["id"] for c in await one.cases(kit, 1, state="fine")] == [case["id"]]

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}})


def test_a_complaint_is_kept_sealed_with_the_request_it_names(run, kit, tmp_path):
    async def check(stack) -> None:
        reply = await stack.chat()
        judge = Desk(stack, "judge-1")
        words = "它说我的电话是 13812345678"
        row = {"tenant": "acme", "request_id": reply.headers["x-request-id"], "words": words}
        status, made = await judge("POST", "/complaints", json=row)
        assert status == 201
        assert [c["id"] for c in await judge.cases(kit, 1, kind="complaint")] == [made["id"]]
        _, text = await judge("GET", f"/reviews/{made['id']}/text")
        assert text["words"] == words
        stored = b"".join(p.read_bytes() for p in stack.state.glob("reviews.sqlite*"))
        assert b"13812345678" not in stored

    governed(run, kit, check, tmp_path, {})


def test_a_client_that_leaves_early_does_not_escape_review(run, kit, tmp_path):
    async def check(stack) -> None:
        async with stack.streaming(max_tokens=400) as got:
            await got.content.readline()
        (case,) = await Desk(stack, "judge-1").cases(kit, 1)
        assert case["outcome"] == "disconnected"
        _, text = await Desk(stack, "judge-1")("GET", f"/reviews/{case['id']}/text")
        assert text["answer"][0]["content"]

    engines = [kit.engine(**kit.SLOW)]
    governed(run, kit, check, tmp_path, {"default": {"flagged_rate": 1}}, engines=engines)


def test_what_the_guard_refused_can_be_reviewed(run, kit, tmp_path):
    async def check(stack) -> None:
        (tmp_path / "house.txt").write_text("#! action: block\n内部代号\n", encoding="utf-8")

        async def refused():
            return (await stack.chat(**asking(SAID))).status == 400

        await kit.eventually(refused)
        found = await Desk(stack, "judge-1")("GET", "/reviews")
        assert {c["findings"][0] for c in found[1]["cases"]} <= {
            "input/house/block", "input/house/flag"
        }  # fmt: skip
        metrics = (await stack.get("/metrics", None)).body.decode()
        assert 'ballast_guard_findings_total{action="block",kind="house",stage="input"}' in metrics

    governed(run, kit, check, tmp_path, {"default": {"flagged_rate": 1}})


def test_a_person_is_erased_by_the_mark_that_the_ledger_shows(run, kit, tmp_path):
    async def check(stack) -> None:
        for user in ("ann", "bob"):
            headers = {"x_ballast_user": user, "x_ballast_tenant": "cust"}
            assert (await stack.chat("gateway", headers)).status == 200
        judge = Desk(stack, "judge-1")
        cases = await judge.cases(kit, 2)
        person = {"tenant": "acme/cust", "end_user": cases[0]["end_user"]}
        assert (await judge("DELETE", "/reviews", params=person))[0] == 403
        _, done = await Desk(stack, "owner")("DELETE", "/reviews", params=person)
        assert done["removed"] == 1
        assert [c["id"] for c in await judge.cases(kit, 1)] == [cases[1]["id"]]

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}})


def test_a_long_conversation_is_cut_and_says_so(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat(stream=True, max_tokens=600, **asking("x" * 5000))
        (case,) = await Desk(stack, "judge-1").cases(kit, 1)
        _, text = await Desk(stack, "judge-1")("GET", f"/reviews/{case['id']}/text")
        assert text["is_cut"]
        assert len(text["prompt"]) == 1024
        assert 0 < len(text["answer_as_sent"]) <= 1024

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}, "text_bytes_max": 1024})


def test_samples_to_keep_without_a_key_to_seal_them_refuse_to_start(run, kit):
    async def check(stack) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(SettingsError, match="review-key"):
        run(check, review={"default": {"rate": 0.1}})


def test_nothing_is_kept_where_nothing_is_set(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat(**asking(SAID))
        await stack.rows(1)
        assert (await Desk(stack, "judge-1")("GET", "/reviews"))[1] == {"cases": []}

    governed(run, kit, check, tmp_path, {})


def test_the_command_lists_shows_and_judges(run, kit, tmp_path):
    async def check(stack) -> None:
        await stack.chat(**asking("你好"))
        (case,) = await Desk(stack, "judge-1").cases(kit, 1)
        config = tmp_path / "settings.yaml"
        ports = {"port": int(stack.url.rpartition(":")[2])}
        ports["ops_port"] = int(stack.ops.rpartition(":")[2])
        config.write_text(yaml.safe_dump({"state_dir": str(stack.state), "gateway": ports}))
        (stack.state / "admin-key").write_text("ba-owner")

        async def typed(*words: str) -> str:
            words = (*words, "--config", str(config))
            done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
            assert done.exit_code == 0, done.output
            return done.output

        assert case["id"] in await typed("review", "list", "--json")
        shown = await typed("review", "show", case["id"], "--why", "trying")
        assert "你好" in shown
        await typed("review", "judge", case["id"], "fine", "--text", "harmless")
        assert (await Desk(stack, "judge-1").cases(kit, 1, state="fine"))[0]["id"] == case["id"]
        (tmp_path / "words.txt").write_text("too slow", "utf-8")
        assert "complaint-" in await typed(
            "review", "complain", "acme", str(tmp_path / "words.txt")
        )

    governed(run, kit, check, tmp_path, {"default": {"rate": 1}})
