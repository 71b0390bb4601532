"""Speech as values: what is asked, what it counts, what an answer must be."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError

from models.provider import FOLDER, Sold, load
from serving import accounting
from serving.batch.lines import ENDPOINTS
from serving.codecs import coverage, openai, speech
from serving.errors import CallerError
from serving.offerings import offerings
from serving.records import Surface
from serving.settings import Settings, SettingsError
from serving.wire.sse import StreamFault

ASKED = {"model": "m", "input": "你好 a", "voice": "alloy"}
LOUD = {"id": "loud", "context_tokens": 4096, "input_per_mtok": "15", "output_per_mtok": "0",
        "audio_formats": ["mp3", "wav"], "source": "test", "as_of": "2026-01-01"}  # fmt: skip


def parsed(**changes):
    return openai.parse(Surface.SPEECH, msgspec.json.encode(ASKED | changes))


def test_characters_are_counted_and_the_default_format_is_said():
    found = parsed()
    assert (found.counted, found.max_tokens, found.stream) == (4, 0, False)
    assert bytes(found.fields["response_format"]) == b'"mp3"'
    assert speech.kind(found.fields) == b"audio/mpeg"
    assert speech.kind(parsed(response_format="pcm").fields) == b"audio/pcm"
    assert speech.kind(parsed(response_format=None).fields) == b"audio/mpeg"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a"]}, "input"),
        ({"input": "x" * (speech.CHARACTERS_MAX + 1)}, "input"),
        ({"response_format": "midi"}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stream_format": "sse"}, "stream_format"),
        ({"model": ""}, "model"),
    ],
)
def test_what_is_wrong_is_named(changes, param):
    with pytest.raises(CallerError) as caught:
        parsed(**changes)
    assert caught.value.param == param


def test_a_voice_is_asked_for_its_format_and_knows_no_more_than_speech():
    knows = coverage.spoken(load(FOLDER)["openai"], Sold.model_validate(LOUD))
    for good in ({}, {"response_format": "wav", "speed": 2}, {"stream_format": "audio"}):
        assert coverage.needs(parsed(**good).fields, openai.RESERVED) <= knows, good
    for bad in ({"response_format": "opus"}, {"instructions": "whisper"}, {"tools": [{"a": 1}]}):
        assert not coverage.needs(parsed(**bad).fields, openai.RESERVED) <= knows, bad


def test_an_answer_is_sound_or_a_fault():
    block = speech.plain("audio/mpeg", b"ID3")
    assert (block.data, block.opens, block.ends, block.usage) == (b"ID3", True, True, None)
    assert not speech.plain("audio/mpeg", b"").opens, "an empty answer holds nothing"
    with pytest.raises(StreamFault) as caught:
        speech.plain("application/json", b'{"error": {}}')
    assert caught.value.body == b'{"error": {}}'
    for kind in ("text/html", "text/event-stream"):
        with pytest.raises(StreamFault):
            speech.plain(kind, b"<p>")


def test_characters_that_were_counted_are_not_guessed_down_when_an_attempt_is_lost():
    assert accounting.estimated(1000, 7, Surface.SPEECH).prompt_tokens == 1000
    assert accounting.estimated(1000, 7, Surface.SPEECH).completion_tokens == 0
    assert accounting.estimated(1000, 7, Surface.CHAT).prompt_tokens < 1000


def test_a_row_that_speaks_charges_for_its_text_alone():
    with pytest.raises(ValidationError, match="priced by its text alone"):
        Sold.model_validate(LOUD | {"output_per_mtok": "1"})
    with pytest.raises(ValidationError):
        Sold.model_validate(LOUD | {"audio_formats": ["midi"]})


@pytest.mark.parametrize("surfaces", [["speech", "chat"], ["chat", "speech"]])
def test_a_model_that_speaks_does_nothing_else(surfaces):
    model = {"name": "m", "profile": "instant", "surfaces": surfaces}
    with pytest.raises(SettingsError, match="speech is bought"):
        offerings(Settings.model_validate({"models": [model]}), {})


def test_sound_is_no_line_of_a_batch():
    assert "/v1/audio/speech" not in ENDPOINTS
