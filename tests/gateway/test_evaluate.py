"""`ballast evaluate` on a running gateway: two arms asked, checked, kept and gated."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from ballast import evaluating
from ballast.cli import app
from ballast.problem import ProblemError
from serving.auth import digest
from serving.evaluation.questions import parse

SET = """
- {id: plain, prompt: Say something., max_tokens: 8, expect: {chars_min: 1}}
- {id: json, prompt: As JSON., max_tokens: 8, expect: {json: true}}
- {id: list, messages: [{role: user, content: Hi}], max_tokens: 8}
"""


def with_key(run, kit, check, **changes):
    hmac = digest(kit.PEPPER, kit.key_of("canary").encode()).hex()
    run(
        check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        keys=[
            {"id": "canary", "tenant": "acme", "hmac": hmac, "is_canary": True,
             "exposure": "full"},
            {"id": "main", "tenant": "acme",
             "hmac": digest(kit.PEPPER, kit.key_of("main").encode()).hex()},
        ], **changes,
    )  # fmt: skip


def plan(repeats: int = 1) -> evaluating.Plan:
    arms = tuple(evaluating.arm(text, "m", {"m"}) for text in ("own", "alpha/big"))
    return evaluating.Plan(parse(SET.encode(), is_lines=False), arms, repeats, 4, 30.0)


def test_both_arms_answer_each_question_where_they_were_asked(run, kit):
    async def check(stack):
        told: list[tuple[int, int]] = []
        found = await evaluating.ask(
            f"{stack.url}/v1", kit.key_of("canary"), plan(repeats=2),
            lambda *at: told.append(at),
        )  # fmt: skip
        assert len(found) == 12
        assert told[-1] == (12, 12)
        assert all(one.is_answered and one.whole_ms >= 0 for one in found)
        assert {(one.arm, one.target.partition(";")[0]) for one in found} == {
            (0, "own"),
            (1, "api"),
        }
        rows = {row.request_id: row.target for row in await stack.rows(12)}
        assert {rows[one.request_id] == "alpha/big" for one in found if one.arm == 1} == {True}
        faulty = {one.question for one in found if not one.is_passed}
        assert faulty == {"json"}

    with_key(run, kit, check)


def test_a_key_that_may_not_name_targets_is_told_before_all_is_asked(run, kit):
    async def check(stack):
        with pytest.raises(ProblemError) as problem:
            await evaluating.ask(f"{stack.url}/v1", kit.key_of("main"), plan(), lambda *_: None)
        assert "is_canary" in problem.value.remedy

    with_key(run, kit, check)


def test_an_arm_that_is_away_has_answers_that_did_not_come(run, kit):
    async def check(stack):
        await stack.control(stack.providers["alpha"], default="server_error")
        found = await evaluating.ask(
            f"{stack.url}/v1", kit.key_of("canary"), plan(), lambda *_: None
        )
        missing = [one for one in found if not one.is_answered]
        assert {one.arm for one in missing} == {1}
        assert all(one.why for one in missing)

    with_key(run, kit, check)


def test_the_command_keeps_what_it_found_and_the_gate_has_exit_codes(run, kit, tmp_path):
    async def check(stack):
        questions, key, config = (tmp_path / name for name in ("set.yaml", "key", "c.yaml"))
        questions.write_text(SET)
        key.write_text(kit.key_of("canary"))
        port = int(stack.url.rpartition(":")[2])
        tree = stack.tree | {"gateway": stack.tree["gateway"] | {"port": port}}
        config.write_text(json.dumps(tree))

        async def ballast(*words: str) -> tuple[int, str]:
            given = [*words, "-c", str(config)]
            done = await asyncio.to_thread(CliRunner().invoke, app, given)
            return done.exit_code, " ".join(done.output.split())

        arms = ["--arm", "own", "--arm", "m@alpha/big"]
        code, said = await ballast("evaluate", "run", str(questions), *arms, "--key", str(key))
        assert code == 0, said
        assert "3 questions" in said
        assert "questions passed 0.667" in said
        code, said = await ballast("evaluate", "gate", "--json")
        assert (code, json.loads(said)["is_pass"]) == (2, False)
        loose = ["--questions-min", "3", "--passed-min", "0.5", "--drop-max", "0.9"]
        code, said = await ballast("evaluate", "gate", *loose)
        assert (code, "PASS: m@alpha/big" in said) == (0, True)
        await stack.rows(6)
        code, said = await ballast("evaluate", "show", "--json")
        assert json.loads(said)["results"]["questions"] == 3
        own, api = json.loads(said)["paid"]
        assert own == {}
        assert api["USD"] > 0
        code, said = await ballast("evaluate", "show")
        assert "paid at list price: base nothing, candidate USD 0.00" in said
        code, said = await ballast("evaluate", "list", "--json")
        (kept,) = json.loads(said)
        assert (await ballast("evaluate", "remove", kept["id"]))[0] == 0
        code, said = await ballast("evaluate", "gate")
        assert (code, "no evaluation is kept" in said) == (1, True)
        code, said = await ballast("evaluate", "run", str(questions), "--arm", "own")
        assert (code, "give --arm twice" in said) == (1, True)
        wrong = ["--arm", "own", "--arm", "m@alpha/bigg"]
        code, said = await ballast("evaluate", "run", str(questions), *wrong)
        assert (code, "it has: own, alpha/big" in said) == (1, True)

    with_key(run, kit, check)


def test_arms_name_a_known_model_or_are_refused():
    known = {"m", "org/model"}
    found = [evaluating.arm(text, "m", known) for text in (
        "own", "alpha/big", "alpha/big@2026", "org/model@own", "m@")]  # fmt: skip
    assert [(one.model, one.target) for one in found] == [
        ("m", "own"), ("m", "alpha/big"), ("m", "alpha/big@2026"), ("org/model", "own"), ("m", "")
    ]  # fmt: skip
    for text, model in (("own", "other"), ("", "m"), ("mm@own", "m"), ("mm@", "m")):
        with pytest.raises(ProblemError, match="no model"):
            evaluating.arm(text, model, known)
