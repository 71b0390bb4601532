"""Usual bodies and answers take a short way through the guard: the same is found there as on the
long one, which any unusual member leads to."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard.samples import CHINESE, ENGLISH
from serving.guard.channels import Output
from serving.guard.filtering import TermFilter
from serving.guard.folding import Folding
from serving.guard.inspector import Asked, Inspector
from serving.guard.memory import Memory
from serving.guard.placeholders import NONCE_LETTERS, Vault
from serving.guard.reading import Reader, Rules, TooLong
from serving.guard.screening import Verdict, screen
from serving.guard.terms import Terms
from serving.guard.values import PERSONAL_ACTIONS, Action, Counts, Match, Policy, Term
from serving.guard.whole import is_clear
from serving.records import Block, Usage

PHONE = "13800138000"
LISTS = frozenset({"list"})
POLICY, JUDGED = Policy(lists=LISTS), Policy(lists=LISTS, moderation="open")
TEXTS = [
    CHINESE, ENGLISH, "", "hi", "这是敏感词。", "敏 感 词" + ENGLISH, "坏词", "a secret  plan",
    f"{CHINESE}绝密项目", f"打{PHONE}", "我叫张伟，" + CHINESE, "张伟", ENGLISH * 4 + "secret plan",
    '{"name": "\\u5f20\\u4f1f"}', ' {"x": "\\u574f\\u8bcd"}', "[\\u", "x" * 9000,
    f"{CHINESE * 9}坏词",
]  # fmt: skip
texts = st.sampled_from(TEXTS) | st.text(max_size=9)


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    listed = {"坏词": Action.BLOCK, "敏感词": Action.MASK, "绝密项目": Action.FLAG,
              "secret plan": Action.MASK}  # fmt: skip
    return Terms([Term(text, "list", "c", does) for text, does in listed.items()], folding)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def told(verdict: Verdict) -> Any:
    """All that a verdict says, without what leads a message the long way."""
    bodies = [
        {name: [{**one, "type": 1} if isinstance(one, dict) else one for one in json.loads(value)]
         for name, value in ((name, bytes(value)) for name, value in fields.items())}
        for fields in (verdict.fields, verdict.egress_fields)
    ]  # fmt: skip
    return (verdict.sensitivity, dict(verdict.findings), verdict.is_blocked, bodies,
            verdict.vault.values, verdict.texts)  # fmt: skip


@given(said=st.lists(texts, max_size=5), before=st.sampled_from(TEXTS), remembers=st.booleans())
@settings(max_examples=60)
def test_in_usual_messages_the_same_is_found_as_in_unusual_ones(
    terms: Terms, folding: Folding, said: list[str], before: str, remembers: bool
) -> None:
    policy = Policy(lists=LISTS, personal=PERSONAL_ACTIONS)
    memory = Memory(b"k", terms) if remembers else None
    usual = [{"role": "user", "content": text} for text in said]
    unusual = [{"type": 1, **message} for message in usual]
    found = []
    for messages in (usual, unusual, usual):
        fields = {"instructions": raw([before]), "messages": raw(messages)}
        rules = Rules(policy, terms, folding, memory.of("acme") if memory else None)
        found.append(told(screen(fields, rules, lambda _: "b" * NONCE_LETTERS)))
    assert found[0] == found[1] == found[2]


def test_a_body_in_which_nothing_is_found_is_the_one_that_came(
    terms: Terms, folding: Folding
) -> None:
    fields = {"messages": raw([{"role": "user", "content": CHINESE}])}
    rules = Rules(Policy(lists=LISTS, personal=PERSONAL_ACTIONS), terms, folding)
    verdict = screen(fields, rules, lambda _: "b" * NONCE_LETTERS)
    assert verdict.fields is fields
    assert verdict.egress_fields is fields


def test_no_text_is_read_closely_twice(terms: Terms, folding: Folding) -> None:
    said = ["敏感词" + CHINESE, "hi", f"打{PHONE}"]
    fields = {"messages": raw([{"role": "user", "content": text} for text in said])}
    policy = Policy(lists=LISTS, personal=PERSONAL_ACTIONS)
    size = sum(map(len, said)) - len("hi")
    for left in (size, size - 1):
        rules = Rules(policy, terms, folding, None, left)
        if left == size:
            assert len(screen(fields, rules, lambda _: "b" * NONCE_LETTERS).findings) == 2
        else:
            with pytest.raises(TooLong):
                screen(fields, rules, lambda _: "b" * NONCE_LETTERS)


def inspected(policy: Policy, terms: Terms, data: bytes) -> tuple[Any, ...]:
    output = Output(policy, terms, None)
    inspector = Inspector(output, Asked(lambda events: Usage(1, events)))
    block = Block(data, 1, None, "stop", True, True)
    left = inspector.plain(block)
    return left.data, left.finish, dict(output.findings), output.is_blocked, left is block


def answer(message: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice | more.pop("choice", {})], "usage": usage, **more}  # fmt: skip


values = st.none() | texts | st.integers() | st.lists(texts, max_size=1)
odd = st.dictionaries(
    st.sampled_from(["refusal", "reasoning", "reasoning_content", "tool_calls", "function_call",
                     "annotations", "name", "x", "content"]),
    values, max_size=3,
)  # fmt: skip
beside = st.dictionaries(
    st.sampled_from(["finish_reason", "index", "logprobs", "text", "token_ids", "delta", "message",
                     "stop_reason", "x"]),
    values, max_size=2,
)  # fmt: skip
above = st.dictionaries(
    st.sampled_from(["prompt_logprobs", "kv_transfer_params", "usage", "choices", "x", "provider"]),
    values, max_size=2,
)  # fmt: skip


@given(text=texts, odd=odd, beside=beside, above=above)
@settings(max_examples=150)
def test_of_a_usual_answer_the_same_leaves_as_of_an_unusual_one(
    terms: Terms, text: str, odd: Any, beside: Any, above: Any
) -> None:
    body = answer({"role": "assistant", "content": text, **odd}, choice=beside, **above)
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    # Where somebody judges what leaves, all of it is read the long way.
    assert inspected(POLICY, terms, data) == inspected(JUDGED, terms, data)


@given(data=st.binary(max_size=40) | st.sampled_from([b"", b"{}", b'{"choices":[]}', b"[" * 5000]))
def test_of_no_answer_the_same_leaves(terms: Terms, data: bytes) -> None:
    assert inspected(POLICY, terms, data) == inspected(JUDGED, terms, data)


@pytest.mark.parametrize("more", [
    {}, {"choice": {"stop_reason": None, "token_ids": None}}, {"prompt_logprobs": None},
])  # fmt: skip
def test_usual_answers_go_the_short_way(terms: Terms, more: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": CHINESE + ENGLISH, "tool_calls": [], "refusal": None}
    data = json.dumps(answer(message, **more)).encode()
    assert is_clear(data, Output(POLICY, terms, None))
    assert is_clear(data, Output(Policy(), None, None))
    assert not is_clear(data, Output(JUDGED, terms, None))
    ended = json.dumps(answer({**message, "content": "坏词"}, **more)).encode()
    assert not is_clear(ended, Output(POLICY, terms, None))


@given(
    said=st.lists(texts, max_size=6).map("".join), cuts=st.lists(st.integers(0, 400), max_size=2)
)
@settings(max_examples=50)
def test_the_end_of_a_long_text_is_cleared_of_the_same(
    terms: Terms, said: str, cuts: list[int]
) -> None:
    """`is_short` makes no difference to what leaves."""
    text, results = said + CHINESE * 4, []
    for known in (terms, _Patient(terms)):
        found: list[Match] = []
        one = TermFilter(known, LISTS, "*", found.append)  # type: ignore[arg-type]
        places = [0, *sorted(cuts), len(text)]
        out = [one.feed(text[a:b]) for a, b in pairwise(places[:-1])]
        results.append(("".join([*out, one.feed(text[places[-2] :], True)]), found))
    assert results[0] == results[1]


class _Patient:
    """Terms to which every text is short."""

    def __init__(self, terms: Terms) -> None:
        self.folding, self.quick, self.search = terms.folding, terms.quick, terms.search

    def is_short(self, text: str) -> bool:
        return True


def test_a_text_met_twice_in_a_body_is_read_once(terms: Terms, folding: Folding) -> None:
    memory = Memory(b"k", terms)
    policy = Policy(lists=LISTS, personal=PERSONAL_ACTIONS)
    rules = Rules(policy, terms, folding, memory.of("acme"), len("敏感词"))
    reader = Reader(rules, Vault("b" * NONCE_LETTERS), Counts())
    assert not reader.holds_nothing(["hi", "敏感词", "敏感词"])
    assert reader.read("敏感词", "messages", True) == ("***", "***")
    assert len(memory) == 2
