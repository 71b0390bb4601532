"""Which calls may be gone on with, and after what silence a stream has broken."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from serving import rescue
from serving.codecs.marks import Said, Trail
from serving.progress import Progress
from serving.records import OWN, Overflow, Resume, Surface
from serving.rescue import Pace, going_on, may_go_on, may_prefix, not_prefixing, shows_media
from serving.rescuing import Continued, Rescuer
from serving.settings_rescue import Rescue


def fields(**values):
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


PLAIN = {"model": "m", "messages": [], "stream": True, "max_tokens": 9, "stop": ["x"]}


@pytest.mark.parametrize(
    "more",
    [
        {}, {"temperature": 0.7, "top_p": 0.9}, {"tools": []}, {"tools": None}, {"n": 1},
        {"presence_penalty": 0}, {"frequency_penalty": 0.0}, {"repetition_penalty": 1.1},
        {"response_format": {"type": "text"}}, {"logprobs": False}, {"seed": None},
        {"seed": 7, "temperature": 0}, {"min_tokens": 4}, {"logit_bias": {"5": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_may_go_on_where_the_next_token_depends_on_the_tokens_alone(make, more):
    assert may_go_on(make.call(stream=True, fields=fields(**PLAIN | more)))


@pytest.mark.parametrize(
    "more",
    [
        {"presence_penalty": 0.1}, {"frequency_penalty": -1}, {"seed": 7}, {"logprobs": True},
        {"tools": [{"type": "function"}]}, {"response_format": {"type": "json_object"}},
        {"guided_json": {}}, {"structured_outputs": {}}, {"bad_words": ["x"]}, {"echo": True},
        {"use_beam_search": True}, {"thinking_token_budget": 5}, {"a_field_to_come": 1},
        {"seed": 7, "temperature": 0.2}, {"return_token_ids": True}, {"prompt_logprobs": 1},
    ],
    ids=str,
)  # fmt: skip
def test_may_not_where_it_depends_on_more_or_nobody_knows(make, more):
    assert not may_go_on(make.call(stream=True, fields=fields(**PLAIN | more)))


def test_only_streams_of_one_spoken_answer(make):
    assert not may_go_on(make.call(stream=False))
    assert not may_go_on(make.call(stream=True, n=2))
    assert not may_go_on(make.call(stream=True, surface=Surface.EMBEDDINGS))
    assert may_go_on(make.call(stream=True, surface=Surface.COMPLETIONS))


def test_a_prompt_with_pictures_is_recognised(make):
    picture = b'[{"content":[{"type":"image_url","image_url":{"url":"data:"}}]}]'
    assert shows_media(make.call(prompt=picture))
    assert not shows_media(make.call())


def test_goes_on_at_home_with_what_remains_and_time_of_its_own(make):
    call = make.call(stream=True, max_tokens=10, complete_by_s=60.0, first_token_by_s=1.0)
    resume = Resume(1, Trail((5, 6, 7), Said(0, 9)))
    on = going_on(call, resume, 30.0)
    assert (on.pin, on.max_tokens, on.prompt_tokens) == (OWN, 7, call.prompt_tokens + 3)
    assert (on.first_token_by_s, on.received_s, on.complete_by_s) == (35.0, 30.0, 60.0)
    assert going_on(call, resume, 58.0).first_token_by_s == 60.0
    assert on.fields is call.fields
    assert going_on(msgspec.structs.replace(call, toward="api/big"), resume, 1.0).toward == ""


def test_an_adapter_s_answer_goes_on_at_those_that_stand_in_for_it(make):
    """Its stand-ins are rows of its own: the model's are no use to it, nor its to the model."""
    chat = make.chat(stream=True)
    tuned = msgspec.structs.replace(chat, adapter="m-legal")
    base, tune = make.offering("api/big", prefix_member="partial"), make.offering("api/tune")
    legal = msgspec.structs.replace(tune, id="api/legal", prefix_member="prefix")
    offerings = {"m": (base,), "m-legal": (tune, legal)}
    view = msgspec.structs.replace(make.view([make.replica("r1")]), offerings=offerings)
    assert not_prefixing(chat, view) == {"r1"}
    assert not_prefixing(tuned, view) == {"r1", "api/tune"}
    assert may_prefix(tuned, make.caller(), view)
    only_base = msgspec.structs.replace(view, offerings={"m": (base,)})
    assert not may_prefix(tuned, make.caller(), only_base)


def test_no_third_party_goes_on_where_the_call_or_its_key_forbids_it(make):
    chat, caller = make.chat(stream=True), make.caller()
    view = make.view([make.replica()], [make.offering(prefix_member="partial")])
    assert may_prefix(chat, caller, view)
    for change in ({"pin": OWN}, {"stream": False}, {"surface": Surface.COMPLETIONS}):
        assert not may_prefix(msgspec.structs.replace(chat, **change), caller, view)
    assert not may_prefix(chat, make.caller(overflow=Overflow.NEVER), view)
    assert not may_prefix(chat, caller, make.view([make.replica()], [make.offering()]))


@pytest.mark.parametrize(
    ("settings", "more", "is_followed"),
    [({}, {}, True), ({}, {"seed": 7}, False), ({"inexact": True}, {}, True),
     ({"inexact": True}, {"seed": 7}, False), ({"exact": False}, {}, False),
     ({"exact": False, "inexact": True}, {}, True)],
    ids=str,
)  # fmt: skip
def test_a_stream_is_followed_only_where_somebody_could_go_on(make, settings, more, is_followed):
    view = make.view([make.replica()], [make.offering(prefix_member="partial")])
    stages = SimpleNamespace(
        rescue=Rescue(**settings), fleet=SimpleNamespace(view=view), loop=None
    )  # fmt: skip
    progress, stream = Progress(make.chat(stream=True, **more), make.caller()), object()
    followed = Rescuer(stages, None).followed(stream, progress)
    assert isinstance(followed, Continued) is is_followed
    assert is_followed or followed is stream


def test_a_silence_is_a_break_after_three_seconds_or_twenty_gaps():
    pace = Pace()
    assert pace.limit_s("m") == rescue.STALL_S_UNKNOWN
    for _ in range(3):
        pace.ended("m", 0.02)
    assert pace.limit_s("m") == 3.0
    for _ in range(5):
        pace.ended("m", 0.5)
    assert pace.limit_s("m") == pytest.approx(10.0)
    assert pace.limit_s("other") == rescue.STALL_S_UNKNOWN
