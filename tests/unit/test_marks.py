"""Marks: wherever a stream of events breaks, ids and counts say exactly how far it had come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codecs import marks
from serving.codecs.going_on import Answer, Begun, BegunError, begun
from serving.codecs.marks import Marks, Said, Trail, Unsaid, said

_texts = st.text(alphabet="ab\u00e9\u538b\U0001f642 ", max_size=3)


def event(content=None, reasoning=None, finish=None, text=None):
    if text is not None:
        choice = {"index": 0, "text": text, "finish_reason": finish}
    else:
        delta = {"content": content, "reasoning": reasoning}
        choice = {"index": 0, "delta": {k: v for k, v in delta.items() if v is not None},
                  "finish_reason": finish}  # fmt: skip
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def stream(steps):
    """What an engine sends: each step is (ids, thought, word), ids ahead of what they made."""
    answer = Answer()
    out = []
    for ids, thought, word in steps:
        answer.made(ids, None)
        out.append(answer.out(event(word, thought)))
    return out


def whole_events(data: bytes) -> bytes:
    return data[: data.rfind(b"\n\n") + 2] if b"\n\n" in data else b""


_steps = st.lists(
    st.tuples(st.lists(st.integers(0, 99), max_size=3), _texts, _texts), min_size=1, max_size=6
)


@given(_steps, st.data())
def test_a_break_anywhere_leaves_ids_for_all_that_arrived(steps, data):
    sent = b"".join(stream(steps))
    cut = data.draw(st.integers(0, len(sent)))
    arrived = whole_events(sent[:cut])
    pieces = data.draw(st.lists(st.integers(0, len(arrived)), max_size=4).map(sorted))
    found, rest, begin = Marks(), b"", 0
    for end in (*pieces, len(arrived)):
        part = whole_events(arrived[begin:end])
        rest += found.take(part) if part else b""
        begin += len(part)
    assert marks.START not in rest
    trail = found.trail()
    if trail is None:
        assert not rest or not any(ids for ids, _, _ in steps[: rest.count(b"data:")])
        return
    told = Said(*(sum(len(step[at]) for step in steps[: rest.count(b"data:")]) for at in (1, 2)))
    assert trail.said == told == said(rest)
    ids = [i for step in steps for i in step[0]]
    assert list(trail.ids) == ids[: len(trail.ids)]
    made_it = [i for step in steps[: rest.count(b"data:")] for i in step[0]]
    assert len(trail.ids) >= len(made_it), "no text without its ids"


def test_a_text_that_speaks_of_marks_is_no_mark():
    text = " note: ballast x"
    found = Marks()
    rest = found.take(marks.mark([2, 3, 4], Said(0, 5)) + event(text))
    assert rest == event(text)
    assert found.trail() == Trail((2, 3, 4), Said(0, 5 + len(text)))
    assert found.take(event(text)) == event(text)
    assert found.trail() == Trail((2, 3, 4), Said(0, 5 + 2 * len(text)))


def test_an_engine_whose_text_alone_speaks_of_marks_has_told_no_ids():
    found = Marks()
    assert found.take(event("a: ballast 0 0 - 1")) == event("a: ballast 0 0 - 1")
    assert not found.has_any


_own_words = st.text(alphabet="a\n", max_size=2).flatmap(
    lambda end: st.sampled_from([": ballast ", "\n\n: ballast 0 9 - 7", "data: {", "\n\n"]).map(
        lambda word: end + word + end
    )
)
_quoting = st.lists(
    st.tuples(st.lists(st.integers(0, 99), max_size=2), _own_words | _texts, _own_words | _texts),
    min_size=1, max_size=6,
)  # fmt: skip


@given(_quoting, st.data())
def test_whatever_a_text_quotes_ids_and_counts_are_those_of_what_was_sent(steps, data):
    sent = stream([([7], "", ""), *steps])
    found, rest, begin = Marks(), b"", 0
    for end in (*data.draw(st.lists(st.integers(0, len(sent)), max_size=4).map(sorted)), len(sent)):
        if part := b"".join(sent[begin:end]):
            rest += found.take(part)
        begin = end
    assert rest == event("", "") + b"".join(event(word, thought) for _, thought, word in steps)
    ids = tuple(i for step in steps for i in step[0])
    told = Said(*(sum(len(step[at]) for step in steps) for at in (1, 2)))
    assert found.trail() == Trail((7, *ids), told)


@given(_steps, st.data())
def test_of_an_answer_told_anew_only_what_is_missing_leaves(steps, data):
    plain = [event(word, thought) for _, thought, word in steps] + [event("", finish="stop")]
    thoughts = "".join(thought for _, thought, _ in steps)
    words = "".join(word for _, _, word in steps)
    has = Said(data.draw(st.integers(0, len(thoughts))), data.draw(st.integers(0, len(words))))
    out = Unsaid(has, is_told=False)
    got = b"".join(map(out.take, plain))
    rows = [json.loads(raw[6:])["choices"][0] for raw in got.split(b"\n\n")[:-1]]
    deltas = [row["delta"] for row in rows]
    assert "".join(d.get("reasoning") or "" for d in deltas) == thoughts[has.reasoning :]
    assert "".join(d.get("content") or "" for d in deltas) == words[has.content :]
    assert [row["finish_reason"] for row in rows if row["finish_reason"]] == ["stop"]


def test_a_resumed_stream_that_breaks_before_a_mark_counts_from_where_it_began():
    before = Trail((1, 2), Said(0, 3))
    found = Marks(before)
    assert found.trail() == before
    found.take(event("xy"))
    assert found.trail() == Trail((1, 2), Said(0, 5))
    found.take(marks.mark([3], Said(0, 5), "stop") + event("z", finish="stop"))
    assert found.trail() == Trail((1, 2, 3), Said(0, 6), "stop")


def test_an_engine_that_tells_no_ids_leaves_no_trail_and_costs_no_memory():
    found = Marks()
    for _ in range(100):
        assert found.take(event("x")) == event("x")
    assert found.trail() is None
    assert not found.has_any


def test_an_end_that_an_engine_was_forced_to_is_none():
    found = Marks()
    found.take(marks.mark([1], Said(), "abort"))
    assert found.trail() == Trail((1,), Said(), "")


def test_marks_that_cannot_be_read_or_are_too_many_are_not_gone_on_with():
    odd = Marks()
    odd.take(b": ballast 0 0 - x\n\n" + event("a"))
    assert odd.trail() is None
    many = Marks()
    one = marks.mark(range(100_000, 120_000), Said())
    for _ in range(9):
        many.take(one)
    assert many.trail() is None


def test_texts_of_completions_count_too():
    assert said(event(text="\U0001f642ab")) == Said(0, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"\xff", b'{"path":"/v1/embeddings","body":{},"ids":[1],"said":[0,0]}',
        b'{"path":"/v1/completions","body":{},"ids":[],"said":[0,0]}',
        b'{"path":"/v1/completions","body":{},"ids":[-1],"said":[0,0]}',
        b'{"path":"/v1/completions","body":{},"ids":[1],"said":[0,0],"finish":"abort"}',
    ],
)  # fmt: skip
def test_a_resume_that_makes_no_sense_is_named(body):
    with pytest.raises(BegunError):
        begun(body)


def test_marks_of_a_resumed_answer_count_what_the_client_had():
    told = Begun("/v1/completions", b"{}", (1, 2), Said(0, 4))  # type: ignore[arg-type]
    answer = Answer(told)
    assert answer.out(event("abc")) == b""
    assert said(answer.out(event("de"))) == Said(0, 1)
    answer.made([3], None)
    assert answer.out(event("f")) == marks.mark([3], Said(0, 5)) + event("f")
