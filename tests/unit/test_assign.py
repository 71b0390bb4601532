"""Rules and splits: which model and which side a call belongs to, and that they widen nothing."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from serving.placement.assign import arm_of, assign, language
from serving.placement.values import Arm, Route, Rule
from serving.records import Burst, Residency, Run, TargetState
from serving.routing import place

SMALL = "small"


def view_of(make, *rules, arms=(), offerings=(), **more):
    """A gateway with the model and a smaller one, one engine each."""
    routes = {
        "m": Route(model="m", rules=rules, arms=arms), SMALL: Route(model=SMALL, context_tokens=500)
    }  # fmt: skip
    view = make.view([make.replica()], offerings, routes=routes, **more)
    other = make.replica("r2", model=SMALL)
    return msgspec.structs.replace(view, replicas={**view.replicas, SMALL: (other,)})


def assigned(make, view, call=None, headers=None, **policy):
    return assign(call or make.call(), make.caller(**policy), view, headers or {}, 0.0)


KINDS = {
    "long": (Rule("r", SMALL, tokens_max=9), {}, False),
    "short": (Rule("r", SMALL, tokens_max=10), {}, True),
    "large": (Rule("r", SMALL, tokens_min=10), {}, True),
    "no tools": (Rule("r", SMALL, has_tools=False), {}, True),
    "tools": (Rule("r", SMALL, has_tools=True), {}, False),
    "header": (Rule("r", SMALL, header="x-task", value="code"), {b"x-task": b"code"}, True),
    "other header": (Rule("r", SMALL, header="x-task", value="code"), {b"x-task": b"x"}, False),
    "both": (Rule("r", SMALL, tokens_max=10, has_tools=True), {}, False),
}


@pytest.mark.parametrize(("rule", "headers", "holds"), KINDS.values(), ids=KINDS)
def test_a_rule_holds_where_all_that_it_says_does(make, rule, headers, holds):
    call = assigned(make, view_of(make, rule), headers=headers)
    assert (call.model, call.route) == ((SMALL, "rule:r") if holds else ("m", ""))


def test_the_first_rule_that_holds_counts(make):
    view = view_of(make, Rule("a", toward="own"), Rule("b", SMALL))
    assert assigned(make, view).route == "rule:a"


def test_tools_are_seen_in_the_body(make):
    view = view_of(make, Rule("r", SMALL, has_tools=True))
    tool = {"type": "function", "function": {"name": "f"}}
    for tools, model in (([], "m"), (None, "m"), ([tool], SMALL)):
        assert assigned(make, view, make.chat(tools=tools)).model == model


@pytest.mark.parametrize(
    ("text", "said"),
    [("please sum this up", "en"), ("请总结这段文字 in three lines", "zh"),
     ("これを要約して", "other"), ("резюме текста", "other"), ("요약해 주세요", "other"),
     ("\\u8bf7\\u603b\\u7ed3", "zh")],
)  # fmt: skip
def test_the_language_is_told_by_the_script(text, said):
    prompt = f'[{{"role":"user","content":"{text}"}}]'.encode()
    assert language(prompt) == said


def test_a_cascade_begins_small_only_while_that_costs_no_time(make):
    view = view_of(make, Rule("first", SMALL, is_cascade=True))
    assert assigned(make, view).model == SMALL
    full = TargetState()
    full.unfinished = 8
    busy = msgspec.structs.replace(view, state={"r2": full})
    assert assigned(make, busy).model == "m"


def test_no_rule_leads_where_key_or_context_do_not_reach(make):
    view = view_of(make, Rule("r", SMALL))
    assert assigned(make, view, models=frozenset({"m"})).model == "m"
    assert assigned(make, view, models=frozenset({"m", SMALL})).model == SMALL
    assert assigned(make, view, models=frozenset({SMALL})).model == "m", "to be refused"
    assert assigned(make, view, make.call(prompt_tokens=501)).model == "m"
    assert assigned(make, view, make.call(pin="own")).route == ""
    assert assigned(make, view, make.call(adapter="lora")).route == ""


# -- splits

ARMS = (Arm("a", 90, "own"), Arm("b", 10, "api/big"))


def test_a_split_keeps_its_percentages_and_its_people(make):
    view = view_of(make, arms=ARMS)
    counts = Counter()
    for n in range(5000):
        call = make.call(n, session=f"s{n}")
        arm = assigned(make, view, call).route
        again = assigned(make, view, msgspec.structs.replace(call, request_id="f" * 32))
        assert again.route == arm
        counts[arm] += 1
    assert counts["split:b"] / 5000 == pytest.approx(0.1, abs=0.015)


def test_an_end_user_and_else_a_conversation_stand_for_a_missing_session(make):
    route = Route(arms=(Arm("a", 50), Arm("b", 50)))
    caller = make.caller()
    user = msgspec.structs.replace(caller, user="hash")
    arms = {arm_of(make.call(affinity=n), user, route).name for n in range(50)}
    assert len(arms) == 1, "one person, whatever the conversation"
    assert {arm_of(make.call(affinity=n), caller, route).name for n in range(50)} == {"a", "b"}


def test_an_arm_is_followed_and_told_in_the_reason(make):
    api = make.offering()
    view = view_of(make, arms=ARMS, offerings=[api])
    for arm, kind in ((ARMS[0], Run), (ARMS[1], Burst)):
        call = make.call(toward=arm.toward, route=f"split:{arm.name}")
        placement = place(call, make.caller(), view, 0.0)
        assert type(placement) is kind
        assert placement.reason == f"split:{arm.name}" + ("/local" if kind is Run else "")


def test_no_arm_breaks_a_rule_it_gives_way(make):
    api = make.offering()
    view = view_of(make, arms=ARMS, offerings=[api])
    call = make.call(toward="api/big", route="split:b")
    for caller, tried in (
        (make.caller(Residency()), frozenset()), (make.caller(), frozenset({"api/big"})),
        (make.caller(is_load_test=True), frozenset()),
    ):  # fmt: skip
        placement = place(call, caller, view, 0.0, tried)
        assert isinstance(placement, Run)
        assert placement.reason == "split:b/local"
