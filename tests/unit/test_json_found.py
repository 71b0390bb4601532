"""Whether JSON came: read while the answer passes, only where a split's report wants to know."""

from __future__ import annotations

import msgspec
import pytest

from serving.json_found import KEPT_BYTES_MAX, Kept

ASKED = {"response_format": msgspec.Raw(b'{"type": "json_object"}')}
SPLIT = "split:home"


def event(text):
    node = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + msgspec.json.encode(node) + b"\n\n"


def kept(make):
    found = Kept.where_asked(make.call(fields=ASKED, route=SPLIT))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [([event('{"a": '), event("1}") + b"data: [DONE]\n\n"], "valid"),
     ([event('{"a": ')], "invalid"),
     ([msgspec.json.encode({"choices": [{"message": {"content": "[]"}}]})], "valid"),
     ([b"data: [DONE]\n\n"], "unread"), ([], "unread"),
     ([event("[" + " " * 60_000)] * (KEPT_BYTES_MAX // 60_000 + 1), "unread")],
    ids=["stream", "torn", "body", "no-choice", "nothing", "too-large"],
)  # fmt: skip
def test_the_pieces_of_an_answer_are_judged_as_a_whole(make, pieces, verdict):
    found = kept(make)
    for piece in pieces:
        found.took(piece)
    assert found.verdict() == verdict


def test_another_target_begins_anew(make):
    found = kept(make)
    found.took(event("I cannot"))
    found.clear()
    found.took(event("{}"))
    assert found.verdict() == "valid"


@pytest.mark.parametrize(
    ("fields", "route"), [({}, SPLIT), (ASKED, ""), (ASKED, "rule:long")],
    ids=["not-asked", "no-split", "a-rule"],
)  # fmt: skip
def test_what_no_report_reads_is_not_read_here_either(make, fields, route):
    assert Kept.where_asked(make.call(fields=fields, route=route)) is None
