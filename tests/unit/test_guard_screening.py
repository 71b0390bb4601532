"""Screening an input: every place a text can stand, both forms of the body, the class."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.folding import Folding
from serving.guard.placeholders import NONCE_LETTERS, VALUES_MAX, Restorer, nonce
from serving.guard.reading import Rules
from serving.guard.screening import DEPTH_MAX, Verdict, screen
from serving.guard.terms import Terms
from serving.guard.values import PERSONAL_ACTIONS, Action, Kind, Policy, Term
from serving.records import Sensitivity

PHONE = "13800138000"
POLICY = Policy(lists=frozenset({"list"}), personal=PERSONAL_ACTIONS)


def letters(attempt: int) -> str:
    return nonce(b"secret", "request", attempt)


NONCE = letters(0)


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    secret = Sensitivity.SECRET
    return Terms([
        Term("坏词", "list", "bad", Action.BLOCK),
        Term("敏感词", "list", "rude", Action.MASK),
        Term("绝密项目", "list", "projects", Action.FLAG, secret),
        Term("别人的词", "other", "else", Action.BLOCK),
    ], folding)  # fmt: skip


@pytest.fixture(scope="module")
def look(terms: Terms, folding: Folding) -> Any:
    """Screens a body given as Python values."""

    def run(body: dict[str, Any], policy: Policy = POLICY) -> Verdict:
        fields = {name: msgspec.Raw(json.dumps(v).encode()) for name, v in body.items()}
        return screen(fields, Rules(policy, terms, folding), letters)

    return run


def value(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw))


def chat(text: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def kinds(verdict: Verdict) -> dict[str, Action]:
    return {finding.kind: finding.action for finding in verdict.findings}


def test_without_a_policy_nothing_is_read(look: Any) -> None:
    verdict = look(chat(PHONE), Policy(label=Sensitivity.SECRET))
    assert verdict.sensitivity is Sensitivity.SECRET
    assert verdict.fields is verdict.egress_fields
    assert not verdict.findings


def test_a_clean_input_passes_byte_for_byte(look: Any) -> None:
    verdict = look(chat("你好，今天天气怎么样？", temperature=0.7))
    assert verdict.sensitivity is Sensitivity.INTERNAL
    assert not verdict.findings
    body = chat("你好，今天天气怎么样？", temperature=0.7)
    for fields in (verdict.fields, verdict.egress_fields):
        assert {n: bytes(r) for n, r in fields.items()} == {
            n: json.dumps(v).encode() for n, v in body.items()
        }


PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "content": (chat("打{}"), "messages"),
    "a part": (chat([{"type": "text", "text": "打{}"}]), "messages"),
    "a tool's answer": (
        {"messages": [{"role": "tool", "tool_call_id": "c", "content": "打{}"}]}, "messages"),
    "arguments": (
        {"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function",
             "function": {"name": "f", "arguments": '{"to":"{}"}'}}]}]}, "messages"),
    "reasoning": (
        {"messages": [{"role": "assistant", "reasoning_content": "打{}"}]}, "messages"),
    "a prompt": ({"prompt": "打{}"}, "prompt"),
    "prompts": ({"prompt": ["你好", "打{}"]}, "prompt"),
    "embeddings": ({"input": ["打{}"]}, "input"),
    "a query": ({"query": "打{}", "documents": ["a"]}, "query"),
    "documents": ({"query": "a", "documents": [{"text": "打{}"}]}, "documents"),
    "a description": (
        {"tools": [{"type": "function", "function": {"name": "f", "description": "打{}"}}]},
        "tools"),
    "a parameter's description": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {
            "properties": {"a": {"type": "string", "description": "打{}"}}}}}]}, "tools"),
    "a suffix": ({"prompt": "a", "suffix": "打{}"}, "suffix"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "member"), PLACES.values(), ids=list(PLACES))
def test_personal_data_leaves_the_premises_masked(
    look: Any, body: dict[str, Any], member: str
) -> None:
    filled = json.loads(json.dumps(body).replace("{}", PHONE))
    verdict = look(filled)
    assert kinds(verdict) == {Kind.PHONE: Action.MASK}
    assert verdict.sensitivity is Sensitivity.PERSONAL
    own, egress = bytes(verdict.fields[member]), bytes(verdict.egress_fields[member])
    assert PHONE.encode() in own
    assert PHONE.encode() not in egress
    expected = json.dumps(body[member]).replace("{}", f"MASKED_PHONE_1_{NONCE}")
    assert value(verdict.egress_fields[member]) == json.loads(expected)


def test_masking_does_not_lower_the_class(look: Any) -> None:
    verdict = look(chat(f"打{PHONE}"))
    assert PHONE.encode() not in bytes(verdict.egress_fields["messages"])
    assert verdict.sensitivity is Sensitivity.PERSONAL


def test_what_was_found_once_is_masked_everywhere(look: Any) -> None:
    body = {"messages": [
        {"role": "user", "content": "张三丰是谁"},
        {"role": "user", "content": "我叫张三丰，电话" + PHONE},
        {"role": "user", "content": f"张三丰 {PHONE}"},
    ]}  # fmt: skip
    verdict = look(body)
    name, phone = f"MASKED_NAME_1_{NONCE}", f"MASKED_PHONE_2_{NONCE}"
    assert [m["content"] for m in value(verdict.egress_fields["messages"])] == [
        f"{name}是谁", f"我叫{name}，电话{phone}", f"{name} {phone}",
    ]  # fmt: skip


def test_screening_again_gives_the_same_body(look: Any) -> None:
    first, second = look(chat(f"打{PHONE}")), look(chat(f"打{PHONE}"))
    assert first.egress_fields["messages"] == second.egress_fields["messages"]
    assert first.vault.values == second.vault.values


def test_a_text_that_holds_the_nonce_gets_another(look: Any) -> None:
    verdict = look(chat(f"MASKED_PHONE_1_{NONCE} 打{PHONE}"))
    masked = value(verdict.egress_fields["messages"])[0]["content"]
    assert masked == f"MASKED_PHONE_1_{NONCE} 打MASKED_PHONE_1_{letters(1)}"
    flow = Restorer(verdict.vault)
    restored = "".join(piece for piece, _ in flow.feed(masked, is_last=True))
    assert restored == f"MASKED_PHONE_1_{NONCE} 打{PHONE}"


def test_a_nonce_that_is_always_there_ends_the_search(terms: Terms, folding: Folding) -> None:
    fields = {"prompt": msgspec.Raw(b'"' + b"b" * NONCE_LETTERS + b'"')}
    verdict = screen(fields, Rules(POLICY, terms, folding), lambda _: "b" * NONCE_LETTERS)
    assert not verdict.is_blocked


def test_escapes_in_json_hide_nothing(look: Any) -> None:
    hidden = json.dumps({"姓名": "张三", "备注": "敏感词"})
    body = {"messages": [
        {"role": "tool", "tool_call_id": "c", "content": hidden},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": hidden}}]},
    ]}  # fmt: skip
    verdict = look(body)
    tool, call = value(verdict.egress_fields["messages"])
    for text in (tool["content"], call["tool_calls"][0]["function"]["arguments"]):
        assert json.loads(text) == {"姓名": f"MASKED_NAME_1_{NONCE}", "备注": "***"}
    assert json.loads(value(verdict.fields["messages"])[0]["content"])["姓名"] == "张三"


def test_keys_of_json_in_a_string_are_read_too(look: Any) -> None:
    given_json = json.dumps({PHONE: "a", "坏词": 1})
    body = {"messages": [{"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": given_json}}]}]}  # fmt: skip
    verdict = look(body)
    assert kinds(verdict) == {Kind.PHONE: Action.FLAG, "bad": Action.BLOCK}


def test_arguments_that_are_no_json_are_read_as_text(look: Any) -> None:
    body = {"messages": [{"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": f'{{"to": {PHONE}, broken'}}]}]}  # fmt: skip
    text = json.dumps(value(look(body).egress_fields["messages"]))
    assert PHONE not in text


def test_names_ids_and_schemas_are_read_but_not_rewritten(look: Any) -> None:
    body = {
        "messages": [{"role": "user", "name": PHONE, "content": "x", "tool_call_id": PHONE}],
        "tools": [{"type": "function", "function": {"name": "敏感词", "parameters": {
            "properties": {"a": {"enum": [PHONE]}}}}}],
        "user": PHONE,
    }  # fmt: skip
    verdict = look(body)
    assert {n: value(r) for n, r in verdict.egress_fields.items()} == body
    assert kinds(verdict) == {Kind.PHONE: Action.FLAG, "rude": Action.FLAG}
    assert verdict.sensitivity is Sensitivity.PERSONAL


@pytest.mark.parametrize("body", [chat("坏 词"), {"prompt": ["好", "坏\u200b词"]},
                                  {"tools": [{"function": {"name": "坏词"}}]}, {"user": "坏词"},
                                  chat([{"type": "text", "text": "壞詞"}])])  # fmt: skip
def test_a_blocking_term_anywhere_blocks(look: Any, body: dict[str, Any]) -> None:
    assert look(body).is_blocked


def test_terms_are_masked_for_every_target(look: Any) -> None:
    verdict = look(chat("一个敏感词"))
    for fields in (verdict.fields, verdict.egress_fields):
        assert value(fields["messages"])[0]["content"] == "一个***"
    assert not verdict.is_blocked


def test_a_term_can_make_an_input_secret(look: Any) -> None:
    assert look(chat("绝密项目的进度")).sensitivity is Sensitivity.SECRET
    assert look(chat("key AKIAIOSFODNN7EXAMPLE")).sensitivity is Sensitivity.SECRET


def test_only_the_lists_and_kinds_of_the_policy_count(look: Any) -> None:
    assert not look(chat("别人的词")).findings
    policy = Policy(personal={Kind.EMAIL: Action.BLOCK})
    assert not look(chat(PHONE), policy).findings
    assert look(chat("a@example.com"), policy).is_blocked


OPAQUE: dict[str, dict[str, Any]] = {
    "a picture": chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]),
    "sound": chat([{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]),
    "tokens": {"prompt": [1, 2, 3]},
    "prompts in tokens": {"prompt": [[1, 2], [3]]},
    "tokens to embed": {"input": [5]},
    "a data address": chat([{"type": "x", "url": "data:text/plain,hi"}]),
}


@pytest.mark.parametrize("body", OPAQUE.values(), ids=list(OPAQUE))
def test_what_cannot_be_read_is_said_and_classed(look: Any, body: dict[str, Any]) -> None:
    verdict = look(body, Policy(lists=frozenset({"list"}), opaque=Sensitivity.SECRET))
    assert kinds(verdict) == {"opaque": Action.FLAG}
    assert verdict.sensitivity is Sensitivity.SECRET
    strict = Policy(lists=frozenset({"list"}), opaque_action=Action.BLOCK)
    assert look(body, strict).is_blocked


def test_what_is_nested_too_deep_is_refused(look: Any) -> None:
    deep: Any = "x"
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    assert kinds(look({"messages": deep})) == {"unreadable": Action.BLOCK}


def test_too_many_values_are_refused_and_not_sent_unmasked(look: Any) -> None:
    many = " ".join(f"a{n}@example.com" for n in range(VALUES_MAX + 1))
    verdict = look(chat(many))
    assert verdict.is_blocked
    assert "too_many" in kinds(verdict)


def test_long_inputs_are_read_across_the_pieces(look: Any) -> None:
    for shift in range(6):
        verdict = look(chat("。" * (1020 + shift) + "敏感词" + "。" * 3000))
        assert value(verdict.fields["messages"])[0]["content"].count("***") == 1


def test_inspection_follows_policy_target_and_findings(look: Any) -> None:
    found, clean = look(chat(PHONE)), look(chat("你好"))
    masks = Policy(personal=PERSONAL_ACTIONS)
    assert found.inspects(masks, is_egress=True)
    assert not found.inspects(masks, is_egress=False)
    assert not clean.inspects(masks, is_egress=True)
    assert clean.inspects(POLICY, is_egress=False)
    assert clean.inspects(Policy(ai_text="x"), is_egress=False)
    assert not clean.inspects(Policy(), is_egress=True)


def test_texts_for_moderation_are_those_a_model_reads(look: Any) -> None:
    verdict = look(chat([{"type": "text", "text": "一"}], user="u", suffix="二"))
    assert verdict.texts == ("一", "二")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(body=st.dictionaries(st.sampled_from(["messages", "prompt", "tools", "user", "input"]),
                            json_values, max_size=3))  # fmt: skip
def test_no_body_makes_screening_fail(look: Any, body: dict[str, Any]) -> None:
    clean = json.loads(json.dumps(body, ensure_ascii=True).replace("\\ud", "\\u0"))
    verdict = look(clean)
    assert verdict.fields.keys() == clean.keys()
    for member in clean:
        value(verdict.fields[member])
        value(verdict.egress_fields[member])


@given(raw=st.binary(max_size=40))
def test_no_bytes_make_screening_fail(terms: Terms, folding: Folding, raw: bytes) -> None:
    screen({"messages": msgspec.Raw(b"[" + raw)}, Rules(POLICY, terms, folding), letters)
