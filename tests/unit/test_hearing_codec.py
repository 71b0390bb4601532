"""Sound to be written down, as values: what is asked, what is billed, what an answer becomes."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from pydantic import ValidationError

from models.hearing import Hearing
from models.provider import FOLDER, Sold, load
from serving import accounting
from serving.batch.lines import ENDPOINTS
from serving.codecs import coverage, hearing, openai
from serving.errors import CallerError
from serving.guard.channels import Output
from serving.guard.folding import Folding
from serving.guard.inspector import Asked
from serving.guard.terms import Terms
from serving.guard.transcript import Transcript
from serving.guard.values import Action, Policy, Term
from serving.offerings import accounts, offerings
from serving.rates import UnknownPrice, listed
from serving.records import Block, Surface, Usage
from serving.settings import Settings, SettingsError
from serving.wire.sse import StreamFault

BY_TIME = Hearing(by="time", per_hour="0.36", bytes_max=1 << 20, seconds_min=10)
BY_TOKEN = Hearing(by="token", bytes_max=1 << 20)
EARS = {"id": "ears", "context_tokens": None, "source": "test", "as_of": "2026-01-01"}


def answered(told, takes=BY_TIME, tokens=123):
    target = SimpleNamespace(hearing=takes)
    return hearing.plain(SimpleNamespace(prompt_tokens=tokens), target, msgspec.json.encode(told))


@pytest.mark.parametrize(
    ("told", "takes", "usage"),
    [
        ({"text": "a", "usage": {"type": "duration", "seconds": 31}}, BY_TIME, Usage(310)),
        ({"text": "a", "duration": "31.2"}, BY_TIME, Usage(320)),
        ({"text": "a", "duration": 3}, BY_TIME, Usage(100)),
        ({"text": "a"}, BY_TIME, Usage(130, is_estimated=True)),
        ({"text": "a", "usage": {"seconds": "x"}}, BY_TIME, Usage(130, is_estimated=True)),
        ({"text": "a", "usage": {"seconds": -9}, "duration": 1e300}, BY_TIME,
         Usage(130, is_estimated=True)),
        ({"text": "a", "usage": {"input_tokens": 70, "output_tokens": 9}}, BY_TOKEN, Usage(70, 9)),
        ({"text": "abc"}, BY_TOKEN, Usage(123, 3, is_estimated=True)),
        ({"text": "abc", "usage": {"input_tokens": 1, "output_tokens": None}}, BY_TOKEN,
         Usage(123, 3, is_estimated=True)),
    ],
)  # fmt: skip
def test_what_is_billed_is_what_was_told_else_what_was_measured(told, takes, usage):
    block = answered(told, takes)
    assert (block.usage, block.opens, block.ends) == (usage, True, True)


@pytest.mark.parametrize("body", [{"code": 20012, "message": "no"}, {"text": None}, [], "a"])
def test_an_answer_without_a_text_is_a_fault(body):
    with pytest.raises(StreamFault):
        answered(body)


def test_silence_is_an_answer():
    assert answered({"text": ""}).opens


def test_an_hours_price_becomes_a_price_of_tenths():
    price, rates = listed(Sold.model_validate(EARS | {"hearing": BY_TIME}))
    assert (price.input_micro_per_mtok, price.output_micro_per_mtok, rates) == (10_000_000, 0, ())
    assert accounting.charge(price, Usage(36_000)).micro == 360_000
    with pytest.raises(UnknownPrice):
        listed(Sold.model_validate(EARS | {"hearing": {"by": "time", "bytes_max": 9999}}))


@pytest.mark.parametrize(
    "changes",
    [{"input_per_mtok": "1"}, {"audio_formats": ["mp3"]},
     {"hearing": {"by": "token", "per_hour": "1", "bytes_max": 9999}},
     {"hearing": {"by": "time", "bytes_max": 9999, "containers": ["midi"]}}],
)  # fmt: skip
def test_a_row_bills_by_time_or_by_the_token(changes):
    with pytest.raises(ValidationError):
        Sold.model_validate(EARS | {"hearing": BY_TIME} | changes)


def test_times_are_asked_of_those_that_have_them():
    row = load(FOLDER)["openai"]
    plain = coverage.spoken(row, Sold.model_validate(EARS | {"hearing": BY_TIME}))
    timed = BY_TIME.model_copy(update={"has_times": True})
    knows = coverage.spoken(row, Sold.model_validate(EARS | {"hearing": timed}))
    for wanted in ("verbose_json", "srt", "vtt"):
        found = hearing.fields([("model", "m"), ("response_format", wanted)])
        needs = coverage.needs(found, openai.RESERVED)
        assert needs <= knows, wanted
        assert not needs <= plain, wanted
    for wanted in ("json", "text"):
        found = hearing.fields([("model", "m"), ("response_format", wanted), ("language", "zh")])
        assert coverage.needs(found, openai.RESERVED) <= plain
    odd = hearing.fields([("model", "m"), ("chunking_strategy", "auto")])
    assert not coverage.needs(odd, openai.RESERVED) <= knows


@pytest.mark.parametrize(
    ("part", "param"),
    [(("model", "again"), "model"), (("temperature", "nan"), "temperature"),
     (("temperature", "2"), "temperature"), (("stream", "true"), "stream"),
     (("response_format", "docx"), "response_format"),
     (("timestamp_granularities[]", "word"), "timestamp_granularities")],
)  # fmt: skip
def test_what_is_wrong_is_named(part, param):
    with pytest.raises(CallerError) as caught:
        hearing.fields([("model", "m"), part])
    assert caught.value.param == param


def test_a_list_that_is_also_given_as_a_text_is_named():
    grain = "timestamp_granularities"
    with pytest.raises(CallerError, match="given twice"):
        hearing.fields([("model", "m"), (grain, "word"), (f"{grain}[]", "word")])


@pytest.mark.parametrize("segments", [None, 5, "abc", {"a": 1}])
def test_an_answer_whose_segments_are_no_list_has_no_cues(segments):
    body = msgspec.json.encode({"text": "a", "segments": segments})
    assert hearing.written(body, "srt") == b""


def test_subtitles_are_made_of_segments():
    last = {"start": 3599.9996, "end": 3661.25, "text": "b\n"}
    told = {"text": "a b", "segments": [{"start": 0, "end": 1.5, "text": " a"}, "odd", last]}
    body = msgspec.json.encode(told)
    assert hearing.written(body, "srt") == (
        b"1\n00:00:00,000 --> 00:00:01,500\na\n\n2\n01:00:00,000 --> 01:01:01,250\nb\n\n"
    )
    assert hearing.written(body, "vtt").startswith(b"WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na\n")
    assert hearing.written(body, "text") == b"a b\n"
    assert hearing.written(body, "json") == body


@pytest.mark.parametrize("surfaces", [["transcription", "chat"], ["translation", "speech"]])
def test_a_model_that_hears_does_nothing_else(surfaces):
    model = {"name": "m", "profile": "instant", "surfaces": surfaces}
    with pytest.raises(SettingsError, match="is bought"):
        offerings(Settings.model_validate({"models": [model]}), {})


def test_sound_is_no_line_of_a_batch():
    assert not [one for one in ENDPOINTS if "audio" in one]


def test_a_lost_attempt_is_charged_for_all_that_was_measured():
    assert accounting.estimated(1000, 0, Surface.TRANSCRIPTION).prompt_tokens == 1000


def inspected(told):
    terms = Terms([Term("世界秘密", "l", "c", Action.MASK), Term("stop", "l", "c", Action.BLOCK)],
                  Folding({}))  # fmt: skip
    output = Output(Policy(lists=frozenset({"l"})), terms, None)
    made = Transcript(output, Asked(usage=lambda _: Usage()))
    block = made.plain(Block(msgspec.json.encode(told), 0, Usage(10), None, opens=True, ends=True))
    return msgspec.json.decode(block.data), block


def test_a_masked_term_is_masked_in_the_pieces_it_lies_across():
    told = {"text": "你好，世界秘密 end", "segments": [{"text": " 你好，世界"}, {"text": "秘密"},
                                                   {"text": " end"}],
            "words": [{"word": "世界"}, {"word": "秘密"}]}  # fmt: skip
    found, block = inspected(told)
    assert found["text"] == "你好，**** end"
    assert [one["text"] for one in found["segments"]] == [" 你好，**", "**", " end"]
    assert found["words"] == [], "they do not add up to the text: 你好 is missing"
    assert (block.opens, block.ends, block.usage, block.finish) == (True, True, Usage(10), None)


@pytest.mark.parametrize("pieces", [None, 5, "a", [{"start": 0}], [None]])
def test_pieces_of_another_shape_are_left_out_of_a_masked_transcript(pieces):
    found, block = inspected({"text": "世界秘密", "segments": pieces, "words": pieces})
    assert found == {"text": "****", "segments": [], "words": []}
    assert block.finish is None


def test_the_numbers_of_tokens_do_not_spell_what_was_masked():
    told = {"text": "世界秘密 end", "logprobs": [{"token": "世界"}, {"token": "秘密"}],
            "segments": [{"text": "世界秘密 end", "tokens": [1, 2, 3]}]}  # fmt: skip
    found, _ = inspected(told)
    assert found == {"text": "**** end", "segments": [{"text": "**** end"}]}


def test_a_blocked_transcript_is_empty_and_says_so():
    found, block = inspected({"text": "please stop", "segments": [{"text": "please stop"}]})
    assert found == {"text": "", "segments": [], "finish_reason": "content_filter"}
    assert (block.finish, block.usage) == ("content_filter", Usage(10))


def test_a_transcript_without_terms_passes_byte_for_byte():
    told = {"text": "hello", "usage": {"type": "duration", "seconds": 1}}
    assert inspected(told)[1].data == msgspec.json.encode(told)


@pytest.mark.parametrize(("provider", "upstream"),
                         [("zhipu-cn", "glm-asr-2512"), ("openai-compatible", "ears")])  # fmt: skip
def test_the_settings_name_a_price_that_nobody_has_read(provider, upstream):
    told = {"by": "time", "per_hour": "3.6", "seconds_max": 30, "bytes_max": 1 << 20}
    model = {"name": "m", "profile": "instant", "surfaces": ["transcription"],
             "offerings": [f"{provider}/{upstream}"]}  # fmt: skip
    access = {"id": provider, "base_url": "http://x/v1", "api_key_env": "K"}
    terms = {"currency": "CNY", "as_of": "2026-01-01", "hearing": told}

    def made(**changes):
        settings = Settings.model_validate({"models": [model], "providers": [access | changes]})
        return offerings(settings, accounts(settings, {"K": "k"}))["m"][0]

    row = made(models={upstream: terms})
    assert (row.price.input_micro_per_mtok, row.context_tokens) == (100_000_000, 300)
    assert row.surfaces == {Surface.TRANSCRIPTION}
    assert coverage.TIMES not in row.speaks
    with pytest.raises(SettingsError, match=r"price is unknown|sells no"):
        made()
