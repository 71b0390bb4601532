"""The inspector: every channel, held text, blocks, marks; bytes that change nothing pass as is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import labels
from serving.guard.channels import Output
from serving.guard.choice import TEXTS_MAX
from serving.guard.folding import Folding
from serving.guard.inspector import CHOICES_MAX, Asked, Inspector
from serving.guard.placeholders import Vault, nonce
from serving.guard.terms import Terms
from serving.guard.values import Action, Finding, Kind, Policy, Term
from serving.records import Block, Usage
from serving.wire import sse

DONE = b"data: [DONE]\n\n"
POLICY = Policy(lists=frozenset({"list"}))
SIGNED = Policy(lists=frozenset({"list"}), ai_text="(AI)", ai_producer="us")


def usage_of(events: int) -> Usage:
    return Usage(7, events, is_estimated=True)


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    return Terms([
        Term("坏词", "list", "bad", Action.BLOCK),
        Term("敏感词", "list", "rude", Action.MASK),
        Term("提一下", "list", "watched", Action.FLAG),
        Term("badword", "list", "bad", Action.BLOCK),
    ], folding)  # fmt: skip


def vault() -> Vault:
    made = Vault(nonce(b"secret", "request"))
    made.placeholder(Kind.PHONE, "13800138000")
    made.placeholder(Kind.NAME, '张"三')
    return made


VAULT = vault()
PHONE, NAME = VAULT.values


def event(content: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, **content, "logprobs": None, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [choice], **more}  # fmt: skip
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str, key: str = "content", **more: Any) -> bytes:
    return event({"delta": {key: text}}, **more)


def call(text: str, number: int = 0) -> bytes:
    return event({"delta": {"tool_calls": [{"index": number, "function": {"arguments": text}}]}})


def made(terms: Terms, policy: Policy = POLICY, **asked: Any) -> Inspector:
    output = Output(policy, terms, asked.pop("vault", VAULT))
    return Inspector(output, Asked(usage_of, **asked))


def run(inspector: Inspector, datas: Iterable[bytes]) -> list[dict[str, Any]]:
    """The events that left, decoded; the end marker is the string DONE."""
    out = []
    for data in datas:
        block = inspector.feed(Block(data, data.count(b"\n\n"), ends=data.endswith(DONE)))
        out += read(block.data)
    return out


def read(data: bytes) -> list[Any]:
    raws = [raw for raw in data.split(b"\n\n") if raw]
    return ["DONE" if raw == DONE.strip() else json.loads(raw.removeprefix(b"data: "))
            for raw in raws]  # fmt: skip


def text_of(events: Sequence[Any], key: str = "content", index: int = 0) -> str:
    out = ""
    for one in events:
        for choice in one["choices"] if one != "DONE" else ():
            if choice["index"] == index:
                out += (choice.get("text") if key == "text" else choice["delta"].get(key)) or ""
    return out


def arguments_of(events: Sequence[Any], number: int = 0) -> str:
    calls = [
        c for one in events if one != "DONE" for choice in one["choices"]
        for c in choice["delta"].get("tool_calls", ())
    ]  # fmt: skip
    return "".join(c["function"]["arguments"] for c in calls if c["index"] == number)


def finishes(events: Sequence[Any]) -> dict[int, str]:
    return {
        c["index"]: c["finish_reason"]
        for one in events if one != "DONE" for c in one["choices"] if c["finish_reason"]
    }  # fmt: skip


def test_an_event_that_says_nothing_of_interest_is_the_same_block(terms: Terms) -> None:
    inspector = made(terms)
    for data in (event({"delta": {"role": "assistant", "content": ""}}), delta("Hello"),
                 b": ping\n\n", delta("你好", "reasoning_content"), b"event: x\ndata: \n\n",
                 event({"delta": {}}, finish="stop"), DONE):  # fmt: skip
        block = Block(data, 1, Usage(1, 2), "stop", opens=True)
        assert inspector.feed(block) is block


@pytest.mark.parametrize("key", ["content", "reasoning_content", "reasoning", "refusal"])
def test_a_term_is_masked_in_every_text(terms: Terms, key: str) -> None:
    datas = [delta(piece, key) for piece in ("说敏", "感", "词吧")]
    out = run(made(terms), [*datas, event({"delta": {}}, finish="stop"), DONE])
    assert text_of(out, key) == "说***吧"
    assert finishes(out) == {0: "stop"}


def test_completions_and_every_choice_are_covered(terms: Terms) -> None:
    inspector = made(terms, is_chat=False)
    datas = [event({"text": text}, index) for text in ("敏", "感", "词") for index in (0, 1)]
    datas += [event({"text": ""}, index, "stop") for index in (0, 1)]
    out = run(inspector, datas)
    assert text_of(out, "text", 0) == text_of(out, "text", 1) == "***"
    count = inspector.output.findings[Finding("rude", Action.MASK, "text", "list")]
    assert count == 2


def test_choices_do_not_mix(terms: Terms) -> None:
    out = run(made(terms), [delta("敏感", index=0), delta("词", index=1), delta("词汇", index=0)])
    assert text_of(out, index=1) == "词"
    assert text_of(out, index=0) == "***汇"


def test_placeholders_are_restored_across_events(terms: Terms) -> None:
    datas = [delta(PHONE[at : at + 3]) for at in range(0, len(PHONE), 3)]
    inspector = made(terms)
    out = run(inspector, [delta("打"), *datas, delta("吧"), DONE])
    assert text_of(out) == "打13800138000吧"
    assert (inspector.output.restored, inspector.output.mangled) == (1, 0)


def test_a_restored_value_is_no_part_of_a_term(terms: Terms) -> None:
    made_vault = Vault(nonce(b"secret", "request"))
    known = made_vault.placeholder(Kind.NAME, "敏感")
    out = run(made(terms, vault=made_vault), [delta(f"{known}词 敏{known}"), DONE])
    assert text_of(out) == "敏感词 敏敏感"


def test_tool_arguments_are_restored_as_json_writes_them(terms: Terms) -> None:
    text = json.dumps({"name": NAME, "say": "敏感词"}, ensure_ascii=False)
    datas = [call(text[at : at + 4]) for at in range(0, len(text), 4)]
    out = run(made(terms), [*datas, event({"delta": {}}, finish="tool_calls"), DONE])
    assert json.loads(arguments_of(out)) == {"name": '张"三', "say": "***"}


def test_parallel_tool_calls_are_held_apart(terms: Terms) -> None:
    datas = [call(PHONE[:9], 0), call("敏感", 1), call(PHONE[9:], 0), call("词", 1)]
    out = run(made(terms), [*datas, event({"delta": {}}, finish="tool_calls")])
    assert arguments_of(out, 0) == "13800138000"
    assert arguments_of(out, 1) == "***"


def test_the_old_function_call_is_covered(terms: Terms) -> None:
    pieces = ["敏感", "词" + PHONE]
    datas = [event({"delta": {"function_call": {"arguments": piece}}}) for piece in pieces]
    out = run(made(terms), [*datas, event({"delta": {}}, finish="function_call")])
    text = "".join(one["choices"][0]["delta"].get("function_call", {}).get("arguments", "")
                   for one in out)  # fmt: skip
    assert text == "***13800138000"


def test_reasoning_ends_when_content_begins(terms: Terms) -> None:
    out = run(made(terms), [delta("想敏感", "reasoning_content"), delta("答")])
    assert [one["choices"][0]["delta"] for one in out] == [
        {"reasoning_content": "想"}, {"reasoning_content": "敏感"}, {"content": "答"},
    ]  # fmt: skip


def test_two_names_of_one_text_do_not_end_each_other(terms: Terms) -> None:
    both = [event({"delta": {"reasoning": t, "reasoning_content": t}}) for t in ("敏", "感", "词")]
    out = run(made(terms), [*both, event({"delta": {}}, finish="stop")])
    assert text_of(out, "reasoning") == text_of(out, "reasoning_content") == "***"


def test_held_text_leaves_before_the_end(terms: Terms) -> None:
    for last in (event({"delta": {}}, finish="stop"), DONE):
        out = run(made(terms), [delta("敏感"), last])
        assert text_of(out) == "敏感"
    out = run(made(terms), [delta("敏"), delta("感", finish="length")])
    assert text_of(out) == "敏感"


def test_held_text_leaves_when_the_stream_breaks_off(terms: Terms) -> None:
    inspector = made(terms)
    assert run(inspector, [delta("敏感")]) == []
    assert text_of(read(inspector.end())) == "敏感"
    assert inspector.end() == b""
    assert inspector.feed(Block(delta("more"), 1)).data == b""


def test_a_term_that_ends_with_the_break_is_decided(terms: Terms) -> None:
    inspector = made(terms)
    run(inspector, [delta("x badword")])
    assert inspector.end() == b""
    assert inspector.output.is_blocked


def test_a_block_ends_the_stream_with_reason_and_usage(terms: Terms) -> None:
    inspector = made(terms, wants_usage=True)
    out = run(inspector, [delta("好的", index=1), delta("前文坏"), delta("词后文")])
    assert text_of(out) == "前文"
    assert finishes(out) == {0: "content_filter", 1: "content_filter"}
    assert out[-2]["choices"] == []
    assert out[-2]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert out[-1] == "DONE"
    after = inspector.feed(Block(delta("more") + DONE, 2, ends=True))
    assert (after.data, after.ends) == (b"", True)


def test_a_blocked_block_says_so(terms: Terms) -> None:
    block = made(terms).feed(Block(delta("坏词"), 1))
    assert (block.finish, block.opens, block.ends) == ("content_filter", True, True)
    assert block.usage == Usage(7, 1, is_estimated=True)
    assert b'"usage"' not in block.data


def test_a_choice_that_has_ended_ends_only_once(terms: Terms) -> None:
    out = run(made(terms), [delta("好", index=1, finish="stop"), delta("坏词")])
    assert finishes(out) == {1: "stop", 0: "content_filter"}
    assert sum(bool(c["finish_reason"]) for one in out[:-1] for c in one["choices"]) == 2


def test_events_of_one_block_before_the_term_leave(terms: Terms) -> None:
    out = run(made(terms), [delta("一") + delta("二") + delta("坏词") + delta("三") + DONE])
    assert text_of(out) == "一二"
    assert out[-1] == "DONE"


def test_a_flag_is_counted_and_changes_nothing(terms: Terms) -> None:
    inspector = made(terms)
    out = run(inspector, [delta("提一下，"), DONE])
    assert text_of(out) == "提一下，"
    assert inspector.output.findings == {Finding("watched", Action.FLAG, "content", "list"): 1}


CLOSING: dict[str, dict[str, Any]] = {
    "a message": {"message": {"role": "assistant", "content": f"敏感词{PHONE}"}},
    "an unknown member": {"summary": f"敏感词{PHONE}"},
    "a nested one": {"delta": {"annotations": [{"note": f"敏感词{PHONE}"}]}},
}


@pytest.mark.parametrize("content", CLOSING.values(), ids=list(CLOSING))
def test_full_texts_and_unknown_members_are_covered(terms: Terms, content: dict[str, Any]) -> None:
    out = made(terms).feed(Block(event(content), 1)).data.decode()
    assert "敏感词" not in out
    assert "***13800138000" in out


def test_unknown_members_of_the_event_are_covered(terms: Terms) -> None:
    out = made(terms).feed(Block(event({"delta": {}}, output_text="敏感词"), 1)).data.decode()
    assert "***" in out
    assert "敏感" not in out


@pytest.mark.parametrize("content", CLOSING.values(), ids=list(CLOSING))
def test_a_term_in_a_full_text_ends_the_stream(terms: Terms, content: dict[str, Any]) -> None:
    raw = json.loads(json.dumps(content, ensure_ascii=False).replace("敏感词", "坏词"))
    assert finishes(run(made(terms), [event(raw)])) == {0: "content_filter"}


def test_what_shows_tokens_is_dropped(terms: Terms) -> None:
    choice = {"index": 0, "delta": {"content": "好"}, "finish_reason": None, "token_ids": [1],
              "logprobs": {"content": [{"token": "敏感词"}]}}  # fmt: skip
    data = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    (out,) = run(made(terms), [data])
    assert out["choices"][0] | {"delta": 0} == {
        "index": 0, "delta": 0, "finish_reason": None, "token_ids": None, "logprobs": None,
    }  # fmt: skip


def test_other_lines_of_an_event_stay(terms: Terms) -> None:
    data = b"event: chunk\nid: 7\n" + delta("说敏感词吧")
    out = made(terms).feed(Block(data, 1)).data
    assert out.startswith(b"event: chunk\nid: 7\ndata: {")
    assert "说***吧".encode() in out


UNREADABLE = {
    "no JSON": b"data: hello\n\n",
    "broken JSON": b'data: {"choices": [\n\n',
    "no object": b"data: [1]\n\n",
    "no UTF-8": b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    "choices of another kind": b'data: {"choices": {"a": 1}}\n\n',
    "a choice of another kind": b'data: {"choices": ["x"]}\n\n',
    "a text of another kind": b'data: {"choices": [{"text": ["x"]}]}\n\n',
    "a delta of another kind": b'data: {"choices": [{"delta": "x"}]}\n\n',
    "a call of another kind": b'data: {"choices": [{"delta": {"tool_calls": ["x"]}}]}\n\n',
    "nested too deep": b'data: {"x": ' + b"[" * 99 + b"]" * 99 + b"}\n\n",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_cannot_be_read_does_not_pass(terms: Terms, data: bytes) -> None:
    inspector = made(terms)
    out = run(inspector, [delta("好"), data])
    assert text_of(out) == "好"
    assert finishes(out) == {0: "content_filter"}
    assert inspector.output.findings == {Finding("unreadable", Action.BLOCK, "answer"): 1}


def test_choices_and_texts_are_bounded(terms: Terms) -> None:
    out = run(made(terms), [delta("x", index=index) for index in range(CHOICES_MAX + 1)])
    assert out[-1] == "DONE"
    out = run(made(terms), [call("x", number) for number in range(TEXTS_MAX + 1)])
    assert finishes(out) == {0: "content_filter"}


def test_words_for_people_stand_once_at_the_end(terms: Terms) -> None:
    datas = [delta("你"), delta("好"), event({"delta": {}}, finish="stop"), DONE]
    out = run(made(terms, SIGNED), datas)
    assert text_of(out) == "你好(AI)"
    out = run(made(terms, SIGNED), [delta("你"), delta("好", finish="stop"), DONE])
    assert text_of(out) == "你好(AI)"
    out = run(made(terms, SIGNED), [delta("你好，坏词")])
    assert text_of(out) == "你好，(AI)"


def test_words_do_not_stand_where_they_would_break_things(terms: Terms) -> None:
    calls = [call("{}"), event({"delta": {}}, finish="tool_calls"), DONE]
    assert "(AI)" not in str(run(made(terms, SIGNED), calls))
    text = [delta('{"a": 1}'), event({"delta": {}}, finish="stop"), DONE]
    assert "(AI)" not in str(run(made(terms, SIGNED, is_json=True), text))


def test_metadata_stand_in_the_first_event_only(terms: Terms) -> None:
    mark = labels.metadata("us", "request")
    out = run(made(terms, SIGNED, mark=mark), [delta("你"), delta("好"), DONE])
    assert out[0]["AIGC"] == mark
    assert all("AIGC" not in one for one in out[1:])
    out = run(made(terms, SIGNED, mark=mark), [delta("坏词")])
    assert [one.get("AIGC") for one in out[:-1]].count(mark) == 1


def plain(inspector: Inspector, body: dict[str, Any]) -> tuple[Block, Any]:
    block = sse.plain(json.dumps(body, ensure_ascii=False).encode())
    out = inspector.plain(block)
    return out, json.loads(out.data)


def message(content: str | None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **more},
            "finish_reason": "stop", "logprobs": None}  # fmt: skip


def test_a_plain_answer_without_anything_is_the_same_block(terms: Terms) -> None:
    block = sse.plain(json.dumps({"choices": [message("你好")]}).encode())
    assert made(terms).plain(block) is block


def test_a_plain_answer_is_restored_masked_and_marked(terms: Terms) -> None:
    calls = [{"id": "1", "type": "function",
              "function": {"name": "f", "arguments": json.dumps({"n": NAME})}}]  # fmt: skip
    body = {"id": "x", "choices": [message(f"敏感词{PHONE}", tool_calls=calls, reasoning="敏感词"),
                                   {**message("二"), "index": 1}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4}}  # fmt: skip
    out, new = plain(made(terms, SIGNED, mark={"Label": "1"}), body)
    first = new["choices"][0]["message"]
    assert first["content"] == "***13800138000(AI)"
    assert first["reasoning"] == "***"
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {"n": '张"三'}
    assert new["choices"][1]["message"]["content"] == "二(AI)"
    assert new["AIGC"] == {"Label": "1"}
    assert out.usage == Usage(3, 4)
    assert out.finish == "stop"


def test_a_block_in_a_plain_answer_keeps_what_stood_before(terms: Terms) -> None:
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    body = {"choices": [message("前文坏词后文", tool_calls=calls), {**message("二"), "index": 1}]}
    out, new = plain(made(terms), body)
    assert new["choices"][0]["message"] == {"role": "assistant", "content": "前文"}
    assert [c["finish_reason"] for c in new["choices"]] == ["content_filter", "stop"]
    assert (out.finish, out.ends) == ("content_filter", True)
    body = {"choices": [{"index": 0, "text": "前badword", "finish_reason": "stop"}]}
    _, new = plain(made(terms, is_chat=False), body)
    assert new["choices"][0] == {"index": 0, "text": "前", "finish_reason": "content_filter"}


def test_a_plain_answer_that_cannot_be_read_is_withheld(terms: Terms) -> None:
    for data in (b"\xff", b"[]", b'{"choices": ["x"]}', b"", b'{"x": "\xe5\x9d\x8f\xe8\xaf\x8d"}'):
        out = made(terms).plain(Block(data, 1))
        body = json.loads(out.data)
        assert body["choices"][0]["message"]["content"] == ""
        assert body["choices"][0]["finish_reason"] == "content_filter"
    out = made(terms, is_chat=False).plain(Block(b"\xff", 1))
    assert json.loads(out.data)["choices"][0]["text"] == ""


def test_marks_name_what_the_standard_asks_for() -> None:
    assert "AI" in labels.EXPLICIT
    assert "生成" in labels.EXPLICIT
    assert labels.metadata("us", "id") == {
        "Label": "1", "ContentProducer": "us", "ProduceID": "id", "ReservedCode1": "",
        "ContentPropagator": "", "PropagateID": "", "ReservedCode2": "",
    }  # fmt: skip
    assert labels.wants_json({"type": "json_object"})
    assert not labels.wants_json({"type": "text"})
    assert not labels.wants_json(None)


PIECES = ["你好", "敏", "感", "词", "坏", " bad", "word", "提一下", *PHONE[:20], PHONE, NAME,
          PHONE.lower(), "坏词", "MASKED_PHONE_1", " ", "。", "m", "\u200b"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
cuts = st.lists(st.integers(1, 7), max_size=40)


def cut(text: str, sizes: Iterable[int]) -> list[str]:
    out, at = [], 0
    for size in sizes:
        out.append(text[at : at + size])
        at += size
    return [*out, text[at:]]


@given(text=texts, sizes=cuts, joins=st.lists(st.booleans(), min_size=60, max_size=60))
@settings(max_examples=300)
def test_no_cutting_of_text_or_blocks_changes_the_answer(
    terms: Terms, text: str, sizes: list[int], joins: list[bool]
) -> None:
    end = event({"delta": {}}, finish="stop") + DONE

    def answer(datas: list[bytes]) -> tuple[Any, ...]:
        inspector = made(terms, SIGNED)
        out = run(inspector, [*datas, end])
        output = inspector.output
        found = dict(output.findings)
        return text_of(out), finishes(out), found, output.restored, output.mangled

    whole = answer([delta(text)])
    pieces = [delta(piece) for piece in cut(text, sizes)]
    assert answer(pieces) == whole
    joined = [b""]
    for piece, is_joined in zip(pieces, joins, strict=False):
        if is_joined:
            joined[-1] += piece
        else:
            joined.append(piece)
    assert answer([*joined, *pieces[len(joins) :]]) == whole


ODD = [
    b"data: {}\n\n", delta("敏"), delta("感词"), DONE, b"\n\n", b": x\n\n", call("{"),
    event({"text": "x"}), b'data: {"choices":[{"index":-1,"delta":{"content":5}}]}\n\n',
    event({"delta": {"tool_calls": [{"function": {"arguments": {"a": "b"}}}]}}),
    b'data: {"choices":[null]}\n\n', b'data: {"choices":[{"delta":null}]}\n\n',
]  # fmt: skip


@given(datas=st.lists(st.binary(max_size=60) | st.sampled_from(ODD), max_size=8))
def test_no_bytes_make_the_inspector_fail(terms: Terms, datas: list[bytes]) -> None:
    inspector = made(terms, SIGNED, mark={"a": "b"}, wants_usage=True)
    for data in datas:
        inspector.feed(Block(data, 1))
        made(terms, SIGNED).plain(Block(data, 1))
    inspector.end()
