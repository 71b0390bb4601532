"""A placement explained: every target, what it would cost, and the one rule that keeps it out."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ballast.hypothetical import Asked, again, only_tenant, tell
from ballast.sentences import sentences
from models.capacity import Load
from serving.placement.candidates import WORDS, explained
from serving.placement.pacing import Headroom
from serving.placement.tally import Tally
from serving.placement.values import Ceilings, PolicyName, Route
from serving.records import (
    DataLabel,
    LatencyClass,
    Residency,
    ResidencyLevel,
    Stops,
    Surface,
    TargetState,
)
from serving.settings import Settings, TenantSettings

CN = DataLabel("cn", "y")


def dropped(make, call=None, caller=None, replicas=(), **view):
    offerings = view.pop("offerings", ())
    seen = make.view(replicas, offerings, **view)
    found = explained(call or make.call(), caller or make.caller(), seen, 1.0)
    return {row.id: row.dropped for row in found.candidates}


def test_each_target_is_told_with_the_rule_that_drops_it(make):
    broken, full = TargetState(), TargetState()
    broken.open_until_s, full.unfinished = 9.0, 8
    pace = Headroom()
    pace.learn({"x-ratelimit-remaining-requests": "0"}, 1.0, 0.0)
    found = dropped(
        make, caller=make.caller(Residency(ResidencyLevel.NAMED, frozenset({"us", "cn"}))),
        replicas=[make.replica("r1"), make.replica("r2"), make.replica("r3")],
        offerings=[
            make.offering("sg", label=DataLabel("sg", "x")), make.offering("other", tier=2),
            make.offering("small", context_tokens=5), make.offering("paced"),
            make.offering("stopped", provider="b"), make.offering("fit"),
        ],
        state={"r2": broken, "r3": full}, paces={"paced": pace},
        stops=Stops(providers=frozenset({"b"})),
    )  # fmt: skip
    assert found == {
        "r1": "", "r2": "breaker", "r3": "full", "sg": "residency", "other": "tier",
        "small": "context", "paced": "pace", "stopped": "stopped", "fit": "",
    }  # fmt: skip
    assert set(found.values()) - {""} <= WORDS.keys()


def test_what_only_some_calls_meet_is_told_too(make):
    live = make.call(latency_class=LatencyClass.LIVE)
    fixed = {"m": Route(is_thinking=True)}
    assert dropped(make, live, replicas=[make.replica()], routes=fixed) == {"r1": "thinking"}
    lora = make.call(adapter="lora")
    assert dropped(make, lora, replicas=[make.replica()]) == {"r1": "adapter"}
    tally, route = Tally(), {"m": Route(ceilings=Ceilings(day_micro=1))}
    tally.ended("m", 10, 5, 0)
    kept = dropped(make, offerings=[make.offering()], tally=tally, routes=route)
    assert kept == {"api/big": "ceiling"}
    everything = Stops(is_all=True)
    assert dropped(make, replicas=[make.replica()], stops=everything) == {"r1": "stopped"}


labels = st.sampled_from([CN, DataLabel("us", "x")])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_chosen_is_always_a_candidate_and_refused_only_without_one(make, data):
    draw = data.draw
    state = {}
    replicas = [make.replica(f"r{i}", label=draw(labels)) for i in range(draw(st.integers(0, 3)))]
    offerings = [
        make.offering(f"o{i}", label=draw(labels), tier=draw(st.integers(1, 2)),
                      first_token_s=draw(st.sampled_from([0.2, 30.0])))
        for i in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    for target in (*replicas, *offerings):
        one = state[target.id] = TargetState()
        one.unfinished = draw(st.sampled_from([0, 0, 8]))
        one.load, one.load_at_s = Load(0, 0, draw(st.sampled_from([0, 10**11])), 0.0), 1.0
        one.full_until_s = draw(st.sampled_from([0.0, 0.0, 5.0]))
    rule = draw(st.sampled_from(ResidencyLevel))
    view = make.view(replicas, offerings, state=state,
                     routes={"m": Route(policy=draw(st.sampled_from(PolicyName)))})  # fmt: skip
    found = explained(make.call(), make.caller(Residency(rule)), view, 1.0)
    free = {row.id for row in found.candidates if not row.dropped}
    if found.target:
        assert found.target in free
    elif found.reason in ("residency", "no_target"):
        assert not free
    assert len(found.candidates) == len(replicas) + len(offerings)


# -- in words


def shown(found, taken: str = "") -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(tell(found, taken))
    return console.file.getvalue()


def test_the_one_tenant_of_the_settings_is_meant_where_none_is_said():
    one, other = TenantSettings(id="demo"), TenantSettings(id="acme")
    assert only_tenant(Settings(tenants=(one,))) == "demo"
    assert only_tenant(Settings(tenants=(one, other))) == only_tenant(Settings()) == ""


def test_the_table_says_chosen_late_and_out(make):
    view = make.view(
        [make.replica()],
        [make.offering(label=CN), make.offering("slow", first_token_s=99.0),
         make.offering("far", surfaces=frozenset({Surface.COMPLETIONS}))],
        routes={"m": Route(shadow=PolicyName.COST_FIRST)},
    )  # fmt: skip
    found = msgspec.to_builtins(explained(make.call(), make.caller(), view, 1.0))
    for row in found["candidates"]:
        row["why"] = WORDS.get(row["dropped"], "")
    text = shown(found | {"model": "m", "route": "", "tenant": "t"}, "t")
    assert "By the rules of tenant t;" in text
    assert "It would run on r1 (local)." in text
    assert "chosen" in text
    assert "predicted to be late" in text
    assert "out, surface: it does not speak" in text
    assert "Its shadow policy would have chosen cost-first=r1." in text


def test_a_question_holds_only_what_was_said():
    assert Asked("m").query() == {"model": "m"}
    asked = Asked("m", 10, 0, "live", has_tools=True)
    assert asked.query() == {
        "model": "m", "prompt_tokens": "10", "max_tokens": "0", "class": "live", "tools": "yes",
    }  # fmt: skip
    line = {"model": "m", "alias": "a", "prompt_tokens": 7, "completion_tokens": 9,
            "latency_class": "live", "tenant": "acme", "surface": "chat"}  # fmt: skip
    assert again(line) == Asked("a", 7, 9, "live", tenant="acme", surface="chat")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("split:b", "its side of the split 'b' sends it there"),
        ("split:a/local", "its side of the split is 'a', and it had room"),
        ("rule:long/overflow:full", "the rule is 'long', and all engines of ours were full"),
        ("overflow:pressure", "our engines had been under pressure"),
        ("latency:sooner", "worth the money"),
    ],
)
def test_reasons_of_policies_are_told_in_words(reason, said):
    line = {
        "request_id": "x", "outcome": "ok", "status": 200, "model": "m", "project": "p",
        "received_ms": 0, "key_id": "k", "tenant": "t", "surface": "chat", "latency_class": "live",
        "reason": reason, "code": "", "attempts": 1, "target": "r1", "queue_ms": 0,
        "first_token_ms": 1, "total_ms": 2, "prompt_tokens": 1, "completion_tokens": 1,
        "cached_tokens": 0, "reasoning_tokens": 0, "is_estimated": False,
    }  # fmt: skip
    told = dict(sentences(line, (), is_booked=False))
    assert said in told["placed"]
