"""Why something was decided or refused, told by its code wherever it goes: rows, history, wires."""

from __future__ import annotations

import json

import pytest

from ballast.admin_words import reason
from ballast.history_cli import why
from ballast.messages import chosen, tell
from ballast.web import error_text, in_words
from models.worded import Worded, of, packed
from serving import errors
from serving.directory.changes import By, validated
from serving.directory.newer import read
from serving.directory.values import Directory, build
from serving.errors import CallerError
from serving.rollout import commands, words
from serving.rollout.decide import Hold, Pause, RollBack
from serving.rollout.history import spans
from serving.rollout.values import Rollout
from serving.settings import Group

BY = By("controller", 7)


def row(**changes) -> Rollout:
    given = {"id": "chat", "old": "a", "new": "b", "step": 1, "state": "running"}
    return Rollout.model_validate(given | changes)


def stored(change) -> dict:
    """A row as it comes out of the store and over the wire."""
    found = build(1, change.documents).rollouts["chat"]
    return json.loads(found.model_dump_json(exclude_none=True))


def test_a_step_of_the_controller_is_told_from_its_row_and_from_the_history():
    burn = words.burn(words.LATE, (30, 100), 0.01, 0.05)
    change = commands.taken(row(), RollBack(burn), BY)
    english = "a late first token in 30 of 100 calls (30.0%); the old model 1.0%, allowed 5.0%"
    chinese = "首词元太迟：100 次调用中 30 次（30.0%）；旧模型 1.0%，允许 5.0%"
    found = stored(change)
    assert (found["reason"], change.event.why) == (english, english)
    entry = json.loads(json.dumps({"why": change.event.why, "details": change.event.details}))
    with chosen.speaking("zh"):
        assert reason(found, "reason") == chinese
        assert why(entry) == chinese
        assert why({"why": "by hand"}) == "by hand"
    assert reason(found, "reason") == english


def test_what_a_person_did_keeps_their_words_in_the_history_and_is_told_in_the_row():
    by = By("wang", 7, "看一下")
    change = commands.pause(Directory(rollouts={"chat": row()}), "chat", by)
    assert (change.event.why, "said" in change.event.details) == ("看一下", False)
    with chosen.speaking("zh"):
        assert reason(stored(change), "reason") == "由 wang 暂停：看一下"


def test_what_a_name_meant_is_told_with_the_reason_of_its_step():
    change = commands.taken(row(step=0), RollBack(words.refused_by_gate("no")), BY)
    entries = [
        {"subject": "rollout:chat", "number": n, "at_ms": n, "actor": "c", "why": w, "details": d}
        for n, w, d in ((1, "x", {"percent": 1, "old": "a", "new": "b"}),
                        (2, change.event.why, change.event.details))
    ]  # fmt: skip
    last = spans(entries, "chat")[-1]
    with chosen.speaking("zh"):
        assert reason(last._asdict(), "why") == "关卡不放行：no"


def test_a_reason_that_was_cut_is_english_alone():
    long = words.refused_by_gate("x" * 600)
    found = stored(commands.taken(row(), Pause(long), BY))
    assert (len(found["reason"]), found.get("said")) == (500, None)
    assert commands.taken(row(), Hold(words.DONE), BY) is None


def test_an_older_gateway_may_do_without_the_code_of_a_reason():
    class Older(Group):
        id: str
        reason: str = ""

    told = row(reason="started", said=packed(words.STARTED)).model_dump(exclude_none=True)
    data = {"id": "chat", "reason": "started", "said": told["said"], "_optional": ["said"]}
    found = read(Older, json.dumps(data).encode())
    assert (set(found.ignored), set(found.binding)) == ({"said", "_optional"}, set())
    written = commands.taken(row(), RollBack(words.NO_ENGINE_CAME), BY).documents[0]
    assert json.loads(written.data)["_optional"] == ["said"]


def test_a_refusal_of_the_admin_api_is_told_by_whoever_asked_and_english_for_programs():
    with pytest.raises(CallerError) as caught:
        commands.resume(Directory(rollouts={"chat": row()}), "chat", BY)
    error = caught.value
    body = errors.told(error.code, of(error), error.param)
    assert tell(error_text(body), "zh") == "'chat' 的发布现在是：进行中"
    assert json.loads(body)["error"]["message"] == "the rollout of 'chat' is running"
    assert type(error.message) is str
    public = json.loads(errors.body(error.code, of(error)))["error"]
    assert public.keys() == {"message", "type", "param", "code"}


def test_a_wrong_field_is_named_in_both_languages():
    with pytest.raises(CallerError) as caught:
        validated(Rollout, {"id": "chat", "old": "a", "new": "b", "steps": [1, 5]})
    body = errors.told(caught.value.code, of(caught.value), caught.value.param)
    assert tell(error_text(body), "zh") == "body：steps 要以 100 结尾"
    assert json.loads(body)["error"]["message"] == "body: steps must end with 100"
    with pytest.raises(CallerError) as caught:
        validated(Rollout, {"id": "chat", "old": "a"})
    assert tell(error_text(errors.told("invalid_value", of(caught.value))), "zh") == "new：必须给出"


def test_a_code_that_says_something_else_than_its_row_is_passed_over():
    stale = {"reason": "paused by wang", "said": packed(words.STARTED)}
    with chosen.speaking("zh"):
        assert reason(stale, "reason") == "paused by wang"
        assert reason(stale | {"reason": "started"}, "reason") == "已开始"


def test_what_the_public_api_refuses_is_told_by_its_code_before_its_english():
    body = errors.body("model_not_found", "no model 'x'")
    assert in_words(body) == "no model 'x'"
    with chosen.speaking("zh"):
        assert tell(in_words(body), "zh") == "这里没有这个模型（no model 'x'）"
        assert in_words(errors.body("internal_error", "")) != ""
        assert in_words(b'{"error": {"message": "m", "code": "of_a_newer_one"}}') == "m"
        assert in_words(b"<html>") == "<html>"


def test_values_that_are_lists_cross_with_the_sentences_in_them():
    said = Worded("list", "{parts}", parts=[words.DONE, "x", 3])
    body = errors.told("conflict", said)
    assert tell(error_text(body), "zh") == "已经完成、x、3"
    assert str(error_text(body)) == "it is done, x, 3"
