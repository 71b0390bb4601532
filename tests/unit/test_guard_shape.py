"""Events of one shape, read at once: what leaves is what leaves when each is read by itself."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard.channels import Output
from serving.guard.choice import Choice
from serving.guard.folding import Folding
from serving.guard.inspector import Asked, Inspector
from serving.guard.placeholders import Vault, nonce
from serving.guard.shape import learnt
from serving.guard.terms import Terms
from serving.guard.values import Action, Kind, Policy, Term
from serving.records import Block, Usage

DONE = b"data: [DONE]\n\n"
POLICY = Policy(lists=frozenset({"list"}), ai_text="(AI)")
VAULT = Vault(nonce(b"secret", "request"))
VAULT.placeholder(Kind.PHONE, "13800138000")
(PHONE,) = VAULT.values


class EachByItself(Inspector):
    """Reads every event as if it were the only one of its shape."""

    shapes_max = 0


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    listed = {"坏词": Action.BLOCK, "敏感词": Action.MASK, "提一下": Action.FLAG,
              "bad word": Action.MASK}  # fmt: skip
    return Terms([Term(text, "list", "c", does) for text, does in listed.items()], folding)


def event(
    delta: dict[str, Any],
    index: int = 0,
    finish: str | None = None,
    is_wide: bool = False,
    **more: Any,
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [choice], **more}  # fmt: skip
    separators = (", ", ": ") if is_wide else (",", ":")
    return b"data: " + json.dumps(body, separators=separators).encode() + b"\n\n"


def made(terms: Terms, kind: type[Inspector] = Inspector, vault: Vault | None = None) -> Inspector:
    return kind(Output(POLICY, terms, vault), Asked(lambda events: Usage(7, events)))


PIECES = ["你好", "敏", "感", "词", "坏", "bad", " word", "提一下", PHONE[:9], PHONE[9:], PHONE,
          " ", "。", "", 'a "b" \\ \n', "坏词", "敏感词", "\u200b", "MASKED_"]  # fmt: skip
pieces = st.sampled_from(PIECES)
events = st.one_of(
    pieces.map(lambda text: event({"content": text})),
    pieces.map(lambda text: event({"content": text})),
    pieces.map(lambda text: event({"content": text})),
    pieces.map(lambda text: event({"reasoning_content": text})),
    pieces.map(lambda text: event({"content": text}, index=1)),
    pieces.map(lambda text: event({"content": text}, is_wide=True)),
    pieces.map(lambda text: event({"content": text, "role": "assistant"})),
    pieces.map(lambda text: event({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})),
    pieces.map(lambda text: event({"content": text}, usage={"prompt_tokens": 1})),
    st.sampled_from([b": ping\n\n", event({"content": "x"}, finish="stop"), event({}), DONE]),
)


def said(data: bytes) -> list[tuple[int, str, str]]:
    """(choice, member, text) in order; what follows each other of one text is one."""
    out: list[tuple[int, str, str]] = []
    for raw in data.split(b"\n\n"):
        if raw.startswith(b"data: {"):
            for choice in json.loads(raw[6:])["choices"]:
                for name, value in choice["delta"].items():
                    out.append((choice["index"], name, str(value)))
                out.append((choice["index"], "finish", choice["finish_reason"] or ""))
    return [
        (index, name, "".join(text for *_, text in some))
        for (index, name), some in groupby(
            (one for one in out if one[2]), key=lambda one: (one[0], one[1])
        )
    ]


@given(
    datas=st.lists(st.lists(events, min_size=1, max_size=9), max_size=6), is_masked=st.booleans()
)
@settings(max_examples=300)
def test_what_leaves_is_what_leaves_of_events_read_one_by_one(
    terms: Terms, datas: list[list[bytes]], is_masked: bool
) -> None:
    vault = VAULT if is_masked else None
    answers = []
    for kind in (Inspector, EachByItself):
        one = made(terms, kind, vault)
        out = b"".join(one.feed(Block(b"".join(data), len(data))).data for data in [*datas, [DONE]])
        output = one.output
        answers.append((said(out), dict(output.findings), output.restored, output.mangled,
                        output.is_blocked, out.count(DONE)))  # fmt: skip
    assert answers[0] == answers[1]


def test_events_whose_text_leaves_stay_as_they_came(terms: Terms) -> None:
    inspector = made(terms)
    inspector.feed(Block(event({"content": ""}), 1))
    some = [event({"content": text}) for text in ("Hello", " there", '"\\', "", "敏", "感")]
    inspector.feed(Block(event({"content": "Hi"}), 1))
    data = inspector.feed(Block(b"".join(some), 6)).data
    assert data == b"".join(some[:4])
    last = inspector.feed(Block(event({"content": "的"}), 1)).data
    assert json.loads(last[6:])["choices"][0]["delta"] == {"content": "敏感的"}
    plain = Block(event({"content": "好"}) + event({"content": "吧"}), 2)
    assert inspector.feed(plain) is plain


SHAPED = event({"content": "text"})[:-2]


@pytest.mark.parametrize(
    "raw",
    [
        SHAPED.replace(b'"content":"text"', b'"content":"text","content":"text"'),
        SHAPED.replace(b'"id":"c"', b'"id":"\\"content\\":\\"text\\""').replace(b'"text"}', b'5}'),
        SHAPED.replace(b'{"id"', b'{\n"id"'),
        SHAPED.replace(b'"text"', b'""'),
        SHAPED.replace(b'"logprobs":null', b'"logprobs":{"content":[]}'),
        SHAPED.replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        SHAPED.replace(b'"model":"m"', b'"model":"m","note":"unknown"'),
        SHAPED.replace(b'"model":"m"', b'"model":"m","usage":{"prompt_tokens":1}'),
        SHAPED.replace(b'"index":0', b'"index":7'),
        SHAPED.replace(b'"content"', b'"role"'),
        SHAPED.replace(b'{"content":"text"}', b'{"content":"text","refusal":"no"}'),
        SHAPED.replace(b'{"content":"text"}', b'{"content":["text"]}'),
        SHAPED.replace(b'[{', b'[{"index":1},{'),
    ],
)  # fmt: skip
def test_no_shape_is_learnt_of_an_event_that_may_say_more(terms: Terms, raw: bytes) -> None:
    choices = {0: Choice(made(terms).output, "")}
    assert learnt(SHAPED, json.loads(SHAPED[6:]), choices) is not None
    assert learnt(raw, json.loads(raw[6:]), choices) is None


@pytest.mark.parametrize(
    "inner",
    [b'a","refusal":"b', b'a"},"delta":{"content":"b', b"a\nb", b"\\x", b"\\ud800", b"\xff", b'"'],
)
def test_what_only_looks_like_the_shape_is_read_by_itself(terms: Terms, inner: bytes) -> None:
    shape = learnt(SHAPED, json.loads(SHAPED[6:]), {0: Choice(made(terms).output, "")})
    assert shape is not None
    assert shape.texts([SHAPED, SHAPED], 0) == ["text", "text"]
    raw = SHAPED.replace(b"text", inner)
    assert shape.texts([SHAPED, raw, SHAPED], 0) == ["text"]
    assert shape.texts([shape.head + shape.tail, shape.head[:-1]], 0) == []
