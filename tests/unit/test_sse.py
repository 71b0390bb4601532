"""The Cutter: however the bytes are split, the same events leave and the same is understood."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.records import Usage
from serving.wire.sse import DONE, EVENT_BYTES_MAX, TOKENS_MAX, Cutter, StreamFault, plain


def event(**fields):
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def content(text, finish=None):
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def usage(prompt=3, completion=2, choices=()):
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
    return event(choices=list(choices), usage=tokens)


ROLE = event(choices=[{"delta": {"role": "assistant"}, "finish_reason": None}])
STOP = event(choices=[{"delta": {}, "finish_reason": "stop"}])


class Seen:
    """What one Cutter made of a stream."""

    def __init__(self, pieces, keep_usage=True, choices=1):
        cutter = Cutter(keep_usage, choices)
        self.blocks = []
        self.fault = None
        try:
            for piece in pieces:
                block = cutter.feed(piece)
                if block is not None:
                    self.blocks.append(block)
        except StreamFault as fault:
            self.fault = fault.body
            if fault.before is not None:
                self.blocks.append(fault.before)
        self.data = b"".join(b.data for b in self.blocks)
        self.opens = sum(b.opens for b in self.blocks)
        self.usage, self.finish, self.has_done = cutter.usage, cutter.finish, cutter.has_done

    def __eq__(self, other):
        names = ("data", "fault", "opens", "usage", "finish", "has_done")
        return all(getattr(self, n) == getattr(other, n) for n in names)

    def __repr__(self):
        return repr(vars(self))

    __hash__ = None


# -- any split

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ['"usage":{"prompt_tokens":9}', '"error":{"message":"x"}', '"finish_reason":"length"',
         "data: [DONE]\n\n", "usage", "error", "[DONE]\n", "\r\n\r\n", "汉字🙂", "\u2028"]
    ),
)  # fmt: skip
events = st.one_of(
    texts.map(content),
    texts.map(lambda t: event(choices=[{"delta": {"reasoning_content": t}}])),
    texts.map(lambda t: event(choices=[{"text": t, "finish_reason": None}], usage=None)),
    st.sampled_from(
        [ROLE, b": a comment\n\n", b": ping\n: \"usage\":{}\n\n", b"event: x\nid: 1\n\n",
         b'data:{"choices":[{"delta":{"content":"no space"}}]}\n\n',
         b'data: {"choices":\ndata: [{"delta":{"content":"two lines"}}]}\n\n',
         b"retry: 5\ndata: plain text\n\n", event(choices=[], usage=None)]
    ),
    st.builds(usage, st.integers(0, 99), st.integers(0, 99),
              st.sampled_from([(), ({"delta": {"content": "x"}},)])),
)  # fmt: skip
endings = st.sampled_from(
    [b"", STOP, STOP + DONE, STOP + usage() + DONE, STOP + b"data:[DONE]\n\n",
     STOP + DONE + b": bye\n\n", STOP + usage() + DONE + content("too late"),
     event(error={"message": "down"})]
)  # fmt: skip
streams = st.builds(
    lambda parts, end, mark: (b"".join(parts) + end).replace(b"\n", mark),
    st.lists(events, max_size=8), endings, st.sampled_from([b"\n", b"\r\n", b"\r"]),
)  # fmt: skip


def split(stream, cuts):
    edges = sorted({0, len(stream), *(c % (len(stream) + 1) for c in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=150, deadline=None)
@given(streams, st.lists(st.integers(0, 2000), max_size=12), st.booleans())
@example(usage() + content("late", "stop"), [len(usage())], False)
@example(usage() + usage(4, 5) + DONE, [len(usage())], False)
@example(usage() + event(choices=[], usage=None), [len(usage())], False)
def test_any_split_gives_the_same_output_and_the_same_understanding(stream, cuts, keep):
    # What a trailing CR is shows only with the next byte: close the last event for all alike.
    stream += b": end\n\n" if stream.endswith(b"\r") else b""
    whole = Seen([stream], keep)
    assert Seen(split(stream, cuts), keep) == whole
    assert Seen([stream[i : i + 1] for i in range(len(stream))], keep) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=8), st.booleans())
def test_events_pass_untouched_or_are_dropped_whole(parts, keep):
    def is_usage_only(part):
        return not keep and b'"choices": []' in part and b'"prompt_tokens"' in part

    seen = Seen([b"".join(parts)], keep)
    assert seen.data == b"".join(part for part in parts if not is_usage_only(part))


# -- usage


@pytest.mark.parametrize("keep", [True, False])
def test_the_usage_only_event_leaves_only_if_it_was_asked_for(keep):
    stream = [ROLE, content("x"), STOP, usage(7, 9), DONE]
    seen = Seen([b"".join(stream)], keep)
    assert seen.data == b"".join(e for e in stream if keep or e != usage(7, 9))
    assert seen.usage == Usage(7, 9)
    assert sum(b.events for b in seen.blocks) == 5


def test_usage_beside_choices_is_read_and_stays():
    last = usage(7, 9, [{"delta": {}, "finish_reason": "stop"}])
    seen = Seen([last], keep_usage=False)
    assert (seen.data, seen.usage, seen.finish) == (last, Usage(7, 9), "stop")


def test_the_last_of_several_usages_counts():
    assert Seen([usage(1, 1) + usage(1, 2) + content("x")]).usage == Usage(1, 2)


def test_cached_tokens_under_deepseek_s_name_stand_under_openai_s_too():
    tokens = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}
    stream = ROLE + content('"prompt_cache_hit_tokens"') + event(choices=[], usage=tokens)
    seen = Seen([stream + DONE])
    told = json.loads(b"".join(b.data for b in seen.blocks).split(b"\n\n")[2][6:])["usage"]
    assert told == tokens | {"prompt_tokens_details": {"cached_tokens": 6}}
    block = plain(json.dumps({"choices": [{}], "usage": tokens}).encode())
    assert json.loads(block.data)["usage"]["prompt_tokens_details"] == {"cached_tokens": 6}
    both = tokens | {"prompt_tokens_details": {"cached_tokens": 5}}
    body = json.dumps({"choices": [{}], "usage": both}).encode()
    assert plain(body).data == body


def test_no_usage_is_none():
    assert Seen([content("x") + STOP + DONE]).usage is None


def test_usage_written_with_blanks_is_found_all_the_same():
    odd = b'data: {"choices" : [ ] , "usage" : {"prompt_tokens" : 3}}\n\n'
    assert Seen([odd], keep_usage=False).data == b""
    assert Seen([odd]).usage == Usage(3)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 6}, Usage(5, 6)),
        ({"prompt_tokens": None, "completion_tokens": None}, Usage()),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 0, 4)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None}, Usage(5)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": None}}, Usage(5)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3}, Usage(5, 0, 3)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}},
         Usage(0, 5, 0, 3)),
        ({"prompt_tokens": -5, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": 1 << 60, "completion_tokens": 1 << 62}, Usage(TOKENS_MAX, TOKENS_MAX)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}}, Usage(5, 0, 5)),
        ({"prompt_tokens": 5.0, "completion_tokens": 6.9}, Usage(5, 6)),
        ({"prompt_tokens": 5.0, "prompt_tokens_details": {"cached_tokens": 4.0},
          "completion_tokens_details": {"reasoning_tokens": 3.5}}, Usage(5, 0, 4, 3)),
        ({"prompt_tokens": -0.5, "completion_tokens": 1e300}, Usage(0, TOKENS_MAX)),
    ],
    ids=["plain", "nulls", "cached", "no details", "null detail", "deepseek", "reasoning",
         "negative", "absurd", "more cached than sent", "floats", "float details",
         "absurd floats"],
)  # fmt: skip
def test_usage_is_read_and_nonsense_does_not_reach_the_books(raw, expected):
    assert Seen([event(choices=[], usage=raw)]).usage == expected
    assert plain(json.dumps({"choices": [], "usage": raw}).encode()).usage == expected


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"7"', b"[7]"])
def test_usage_that_is_no_number_breaks_the_answer_and_reaches_no_book(number):
    """No JSON, or none that was asked for: the target failed, and another may be tried."""
    raw = b'{"choices":[],"usage":{"prompt_tokens":%b,"completion_tokens":%b}}' % (number, number)
    seen = Seen([b"data: " + raw + b"\n\n"])
    assert seen.fault is not None
    assert seen.usage is None
    with pytest.raises(StreamFault):
        plain(raw)


# -- the commit point

OPENING = {
    "content": {"delta": {"content": "x"}},
    "reasoning_content": {"delta": {"reasoning_content": "x"}},
    "reasoning": {"delta": {"reasoning": "x"}},
    "refusal": {"delta": {"refusal": "x"}},
    "tool call": {"delta": {"tool_calls": [{"index": 0}]}},
    "text": {"text": "x"},
    "finish": {"delta": {}, "finish_reason": "stop"},
}
NOT_OPENING = {
    "role": {"delta": {"role": "assistant"}},
    "empty content": {"delta": {"content": ""}},
    "null content": {"delta": {"content": None, "reasoning": None, "tool_calls": None}},
    "no tool calls": {"delta": {"tool_calls": []}},
    "no delta": {"finish_reason": None},
    "empty finish": {"delta": {}, "finish_reason": ""},
    "null delta": {"delta": None, "text": ""},
}


@pytest.mark.parametrize("choice", OPENING.values(), ids=OPENING)
def test_these_open_the_stream_once(choice):
    seen = Seen([event(choices=[choice]), content("more")])
    assert [b.opens for b in seen.blocks] == [True, False]


@pytest.mark.parametrize("choice", NOT_OPENING.values(), ids=NOT_OPENING)
def test_these_do_not_open_the_stream(choice):
    assert Seen([event(choices=[choice]) + usage() + b": ping\n\n" + DONE]).opens == 0


# -- the finish reason


@pytest.mark.parametrize("text", ["stop", "tool_calls", "length", "content_filter"])
@pytest.mark.parametrize("blank", [b"", b" "])
def test_the_finish_reason_is_found_with_and_without_a_blank(text, blank):
    raw = b'data: {"choices":[{"delta":{},"finish_reason":%b"%b"}]}\n\n' % (blank, text.encode())
    assert Seen([raw]).finish == text


def test_an_empty_finish_reason_is_none():
    empty = event(choices=[{"delta": {"content": "x"}, "finish_reason": ""}])
    assert Seen([empty]).finish is None
    assert Seen([content("x", "stop") + empty]).finish == "stop"


def test_a_finish_reason_is_cut_to_a_label_s_length():
    assert len(Seen([content("x", "y" * 500)]).finish) == 32


def ended(index, reason="stop", **more):
    choice = {"index": index, "delta": {"content": "x"}, "finish_reason": reason}
    return event(choices=[choice | more])


def test_two_answers_have_finished_only_when_both_have():
    parts = [ended(0, None), ended(1, None), ended(1, "length"), ended(0, None)]
    cut = Seen([*parts, DONE], choices=2)
    assert (cut.finish, cut.has_done) == (None, True), "one was cut off: the end marker lies"
    whole = Seen([*parts, ended(0, "stop"), DONE], choices=2)
    assert (whole.finish, whole.has_done) == ("stop", True)


@pytest.mark.parametrize("pieces", ["one", "each", "bytes"])
@pytest.mark.parametrize("n", [2, 3])
def test_answers_may_end_in_any_order_and_in_any_pieces(n, pieces):
    for order in itertools.permutations(range(n)):
        parts = [ended(i) for i in order]
        stream = b"".join(parts)
        split_up = {"one": [stream], "each": parts,
                    "bytes": [stream[i : i + 1] for i in range(len(stream))]}[pieces]  # fmt: skip
        assert Seen(split_up, choices=n).finish == "stop"
        twice = b"".join([*parts[:-1], parts[0]])
        assert Seen([twice], choices=n).finish is None, "the same one twice is not two"


def test_all_answers_may_end_in_one_event():
    both = event(choices=[{"index": i, "delta": {}, "finish_reason": "stop"} for i in (0, 1)])
    assert Seen([both], choices=2).finish == "stop"
    assert Seen([both], choices=3).finish is None


def test_an_empty_reason_ends_no_answer():
    assert Seen([ended(0), ended(1, "")], choices=2).finish is None


def test_of_one_answer_asked_for_its_number_does_not_matter():
    assert Seen([ended(7)]).finish == "stop"


SMUGGLED = [
    '"usage":{"prompt_tokens":999,"completion_tokens":999}', '"finish_reason":"length"',
    '"finish_reason": "length"', '"error":{"message":"boom"}', "data: [DONE]\n\n", "\n\n",
    'x"}}]}\n\ndata: {"error":{"message":"boom"}}\n\n',
]  # fmt: skip


@pytest.mark.parametrize("text", SMUGGLED)
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_text_that_looks_like_protocol_is_only_text(text, field):
    said = event(choices=[{"delta": {field: text}, "finish_reason": None}])
    seen = Seen([said + STOP + usage(1, 2) + DONE], keep_usage=False)
    assert (seen.fault, seen.usage, seen.finish) == (None, Usage(1, 2), "stop")
    assert seen.data == said + STOP + DONE
    cut = Seen([said])
    assert (cut.fault, cut.usage, cut.finish, cut.has_done) == (None, None, None, False)


# -- errors

ERROR = event(error={"message": "down", "code": 500})


def test_an_error_before_content_faults_with_nothing_before_it():
    with pytest.raises(StreamFault) as caught:
        Cutter(True).feed(ERROR)
    assert caught.value.before is None
    assert json.loads(caught.value.body)["error"]["message"] == "down"


def test_an_error_after_content_in_one_piece_yields_what_was_good():
    with pytest.raises(StreamFault) as caught:
        Cutter(True).feed(ROLE + content("x") + usage(1, 1) + ERROR + content("never"))
    before = caught.value.before
    assert before.data == ROLE + content("x") + usage(1, 1)
    assert (before.opens, before.usage) == (True, Usage(1, 1))


@pytest.mark.parametrize("error", [None], ids=["null"])
def test_an_error_that_is_none_is_no_error(error):
    good = event(choices=[{"delta": {"content": "x"}}], error=error)
    assert Seen([good]).data == good


def test_the_word_error_as_a_value_is_no_error():
    said = event(choices=[{"delta": {"content": "error"}}], object="error")
    assert Seen([said]).data == said


DEEP = b"[" * 5000 + b"]" * 5000
UNREADABLE = {
    "cut short": b'data: {"choices":[{"delta"\n\n',
    "not UTF-8": b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
    "too deep": b'data: {"x":' + DEEP + b"}\n\n",
    "wrong type": b'data: {"choices":[{"delta":{"content":5}}]}\n\n',
    "usage cut short": b'data: {"choices":[],"usage":{"prompt\n\n',
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_a_fault_and_no_crash(raw):
    with pytest.raises(StreamFault) as caught:
        Cutter(True).feed(raw)
    assert caught.value.body == b""


def test_an_event_without_end_in_small_pieces_is_a_fault():
    cutter, piece = Cutter(True), b"x" * 1400
    for _ in range(EVENT_BYTES_MAX // 1400):
        assert cutter.feed(piece) is None
    with pytest.raises(StreamFault, match="8 MiB"):
        cutter.feed(piece)


def test_a_long_event_in_many_small_pieces_is_copied_once():
    """Put together at each piece, 4 MiB would be copied 1,500 times: 6 GB."""
    said = content("x" * (4 << 20))
    pieces = [said[i : i + 1400] for i in range(0, len(said), 1400)]
    cutter = Cutter(True)
    started_s = time.process_time()
    assert [cutter.feed(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    block = cutter.feed(pieces[-1])
    took_s = time.process_time() - started_s
    assert block.data == said
    assert block.opens
    assert took_s < 1.0
    assert cutter.feed(STOP + DONE).ends, "and nothing of it is left over"


def test_an_event_without_end_is_a_fault():
    cutter = Cutter(True)
    assert cutter.feed(b"data: " + b"x" * (EVENT_BYTES_MAX - 6)) is None
    with pytest.raises(StreamFault, match="8 MiB"):
        cutter.feed(b"x")


# -- the end marker


@pytest.mark.parametrize("mark", [DONE, b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n"])
@pytest.mark.parametrize("after", [b"", b": bye\n\n", b"data: [DONE]\n\n", b"\n"])
def test_the_end_marker_ends_the_stream_once_in_its_usual_spelling(mark, after):
    seen = Seen([STOP + mark + after, content("late"), ERROR])
    assert seen.has_done
    assert seen.data == STOP + DONE
    assert seen.fault is None


def test_the_end_marker_may_come_alone():
    assert Seen([DONE]).has_done


@pytest.mark.parametrize("raw", [b"data: x[DONE]\n\n", b": [DONE]\n\n", b"xdata: [DONE]\n\n"])
def test_a_line_that_only_holds_the_word_is_no_end(raw):
    seen = Seen([raw])
    assert not seen.has_done
    assert seen.data == raw


# -- plain answers


def test_a_plain_answer_is_one_block_that_opens():
    body = b'{"choices":[{"finish_reason":"stop","message":{}}],"usage":{"prompt_tokens":3}}'
    block = plain(body)
    assert (block.data, block.events, block.opens) == (body, 1, True)
    assert (block.usage, block.finish) == (Usage(3), "stop")


def test_a_plain_answer_without_choices_or_usage_passes():
    block = plain(b'{"count":3,"tokens":[1,2,3]}')
    assert (block.usage, block.finish) == (None, None)


@pytest.mark.parametrize("error", [b"null", b"[]"])
def test_an_empty_error_member_is_no_error(error):
    assert plain(b'{"choices":[{"text":"a"}],"error":%b}' % error).opens


@pytest.mark.parametrize("error", [b'{"code":"1113"}', b'"text"', b"5"])
def test_an_error_under_a_good_status_is_a_fault(error):
    body = b'{"error":%b}' % error
    with pytest.raises(StreamFault) as caught:
        plain(body)
    assert caught.value.body == body


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"choices":[{"text":"\xff"}]}', b'{"x":' + DEEP + b"}"],
    ids=["nothing", "html", "list", "not UTF-8", "too deep"],
)
def test_an_answer_that_cannot_be_read_is_a_fault(body):
    with pytest.raises(StreamFault) as caught:
        plain(body)
    assert caught.value.body == b""


def test_an_event_of_many_lines_in_many_pieces_is_joined_once():
    cutter = Cutter(keep_usage=True)
    piece = b"data: " + b"x" * 93 + b"\n"
    for _ in range(20_000):
        assert cutter.feed(piece) is None
    joined = [len(part) for part in cutter._parts]
    assert len(joined) == 20_000, "pieces are kept as they came until the event ends"
    with pytest.raises(StreamFault):
        list(map(cutter.feed, itertools.repeat(piece, 80_000)))


@pytest.mark.parametrize("index", [b"null", b"0.0", b"0"])
def test_an_index_of_any_spelling_is_no_fault(index):
    event = b'data: {"choices":[{"index":%b,"delta":{"content":"a"}}]}\n\n' % index
    block = Cutter(keep_usage=False).feed(event)
    assert block is not None
    assert block.opens
