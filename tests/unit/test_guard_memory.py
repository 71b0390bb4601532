"""What the guard remembers of texts: the same verdict a second time, for one tenant and one state
of the lists."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard.samples import CHINESE, ENGLISH
from serving.guard.folding import Folding
from serving.guard.memory import NOTHING, PLACES_MAX, Held, Memory
from serving.guard.placeholders import NONCE_LETTERS
from serving.guard.reading import Rules, TooLong
from serving.guard.screening import Verdict, screen
from serving.guard.terms import Terms
from serving.guard.values import PERSONAL_ACTIONS, Action, Kind, Personal, Policy, Term
from serving.records import Sensitivity

SECRET = b"k" * 32
PHONE = "13800138000"
POLICY = Policy(lists=frozenset({"list"}), personal=PERSONAL_ACTIONS, opaque=Sensitivity.INTERNAL)
TEXTS = [
    CHINESE, ENGLISH, f"打{PHONE}", "我叫张伟，" + CHINESE, "这是敏感词。", "敏 感 词" + ENGLISH,
    "坏词", "secret plan", "", "hi", "\ud800", f"{CHINESE}绝密项目", "a@b.com wrote: 坏词",
    '{"name": "Trevor Hughes", "phone": "' + PHONE + '"}', "x" * 9000, f"敏感词{PHONE}敏感词",
]  # fmt: skip


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    listed = {"坏词": Action.BLOCK, "敏感词": Action.MASK, "绝密项目": Action.FLAG,
              "secret plan": Action.MASK}  # fmt: skip
    return Terms([Term(text, "list", "c", does) for text, does in listed.items()], folding)


def body(texts: list[str]) -> dict[str, msgspec.Raw]:
    """Messages, and a tool call whose arguments are JSON in a string."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": text} for text in texts]
    call = {"function": {"name": "f", "arguments": json.dumps({"联系人": "".join(texts[:1])})}}
    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    tools = [{"function": {"name": "".join(texts[-1:]), "description": "".join(texts[:1])}}]
    given = {"messages": messages, "tools": tools}
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given.items()}


def looked(fields: dict[str, msgspec.Raw], rules: Rules) -> Verdict:
    return screen(fields, rules, lambda _: "b" * NONCE_LETTERS)


def told(verdict: Verdict) -> Any:
    """All that a verdict says, as plain values."""
    own, egress = (
        {name: bytes(raw) for name, raw in fields.items()}
        for fields in (verdict.fields, verdict.egress_fields)
    )
    return (verdict.sensitivity, dict(verdict.findings), verdict.is_blocked, own, egress,
            verdict.vault.values, verdict.texts)  # fmt: skip


@given(turns=st.lists(st.lists(st.sampled_from(TEXTS), max_size=6), min_size=1, max_size=4))
@settings(max_examples=100)
def test_what_is_remembered_is_what_would_be_found(
    terms: Terms, folding: Folding, turns: list[list[str]]
) -> None:
    memory = Memory(SECRET, terms)
    for turn in [*turns, *turns]:
        fields = body(turn)
        plain = looked(fields, Rules(POLICY, terms, folding))
        recalled = looked(fields, Rules(POLICY, terms, folding, memory.of("acme")))
        assert told(recalled) == told(plain)


def test_no_tenant_meets_what_another_one_sent() -> None:
    memory = Memory(SECRET, None)
    memory.of("acme").put("text", NOTHING)
    assert memory.of("acme").get("text") is NOTHING
    assert memory.of("other").get("text") is None
    assert memory.of("acm").get("etext") is None
    assert Memory(b"other", None).of("acme").get("text") is None


def test_a_text_behind_a_cue_is_another_text() -> None:
    recall = Memory(SECRET, None).of("acme")
    recall.put("text", NOTHING, '"name":')
    assert recall.get("text") is None
    assert recall.get("text", '"name":') is NOTHING
    assert recall.get('"name":text') is None


def test_a_text_that_is_no_utf8_is_not_remembered() -> None:
    memory = Memory(SECRET, None)
    memory.of("acme").put("\ud800", NOTHING)
    assert len(memory) == 0
    assert memory.of("acme").get("\ud800") is None


def test_no_text_is_kept() -> None:
    memory = Memory(SECRET, None)
    memory.of("acme").put("a very telling text", Held((Personal(Kind.NAME, 2, 6),)))
    assert "telling" not in repr(vars(memory))


def test_it_stays_within_its_bound_and_keeps_what_was_met_last() -> None:
    memory = Memory(SECRET, None, units_max=100)
    recall = memory.of("acme")
    for number in range(1000):
        recall.put(f"text {number}", NOTHING)
        assert recall.get("instructions") in (None, NOTHING)
        if number == 0:
            recall.put("instructions", NOTHING)
        assert len(memory) <= 102
    assert recall.get("instructions") is NOTHING
    assert recall.get("text 999") is NOTHING
    assert recall.get("text 0") is None


def test_a_text_with_very_many_places_is_read_each_time() -> None:
    recall = Memory(SECRET, None).of("acme")
    recall.put("text", Held((Personal(Kind.NAME, 2, 6),) * (PLACES_MAX + 1)))
    assert recall.get("text") is None


def test_places_count_against_the_bound() -> None:
    memory = Memory(SECRET, None, units_max=100)
    recall = memory.of("acme")
    for number in range(50):
        recall.put(f"text {number}", Held((Personal(Kind.NAME, 2, 6),) * 9))
    assert len(memory) <= 11


def test_more_to_be_read_closely_than_there_is_time_for_is_said(
    terms: Terms, folding: Folding
) -> None:
    fields = {"messages": msgspec.Raw(json.dumps([{"content": CHINESE + PHONE}]).encode())}
    with pytest.raises(TooLong):
        looked(fields, Rules(POLICY, terms, folding, closely_max=10))
    clear = {"messages": msgspec.Raw(json.dumps([{"content": CHINESE * 20}]).encode())}
    assert not looked(clear, Rules(POLICY, terms, folding, closely_max=10)).findings
