"""Texts said aloud by third parties, asked for with the official client."""

from __future__ import annotations

import io
import wave

import openai
import pytest
from openai import AsyncOpenAI

from serving.fakes import spoken

MODEL = {"name": "m", "profile": "instant", "surfaces": ["speech"], "context_tokens": 4096}
TEXT = "你好，世界"
ASKED = {"model": "m", "input": TEXT, "voice": "alloy"}
SPEECH = "/v1/audio/speech"


def seller(kit, name: str = "alpha", jurisdiction: str = "us", **changes):
    """A row that sells a voice for 15 dollars a million characters."""
    row = kit.row(name, jurisdiction)
    loud = {"id": "loud", "context_tokens": 4096, "currency": "USD", "input_per_mtok": "15",
            "output_per_mtok": "0", "audio_formats": ["mp3", "wav"], "source": "test",
            "as_of": "2026-01-01"}  # fmt: skip
    row["models"] = [*row["models"], loud | changes]
    return row


def sold(kit, *sellers, **changes):
    """A gateway whose model is bought from them in that order."""
    rows = sellers or (seller(kit),)
    model = MODEL | {"offerings": [f"{row['id']}/loud" for row in rows]}
    providers = {row["id"]: kit.provider() for row in rows}
    return {"rows": list(rows), "providers": providers, "models": [model]} | changes


def client(stack, kit, key: str = "main") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=kit.key_of(key), max_retries=0)


def test_a_text_is_said_aloud_and_costs_what_its_characters_cost(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            raw = await asked.audio.speech.with_raw_response.create(**ASKED)
            sound = raw.content
        assert sound == spoken.answered(ASKED)[1]
        assert raw.headers["content-type"] == "audio/mpeg"
        assert raw.headers["x-ballast-target"] == "api;alpha/loud"
        (seen,) = await stack.seen()
        assert seen["path"].endswith("/audio/speech")
        assert seen["body"] == ASKED | {"model": "loud", "response_format": "mp3"}
        row = (await stack.rows(1))[0]
        assert (row.surface, row.outcome, row.status) == ("speech", "ok", 200)
        (attempt,) = stack.attempts(row.request_id)
        assert (attempt.end.charge.currency, attempt.end.charge.micro) == ("USD", 15 * len(TEXT))
        assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (len(TEXT), 0)
        assert row.usage.is_estimated, "counted by us: sound tells no usage"
        assert attempt.begin.is_egress

    run(check, **sold(kit))


def test_a_streaming_client_gets_the_format_it_asked_for(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            streamed = asked.audio.speech.with_streaming_response
            async with streamed.create(**ASKED, response_format="wav", speed=1.5) as reply:
                sound = await reply.read()
                assert reply.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(sound)) as file:
            assert file.getnframes() == len(TEXT) * spoken.SAMPLES_PER_CHARACTER
        assert (await stack.seen())[0]["body"]["speed"] == 1.5

    run(check, **sold(kit))


def test_what_no_seller_can_say_is_refused_by_name(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            with pytest.raises(openai.APIStatusError, match="response_format=opus"):
                await asked.audio.speech.create(**ASKED, response_format="opus")
            with pytest.raises(openai.APIStatusError, match="instructions"):
                await asked.audio.speech.create(**ASKED, instructions="whisper")
            with pytest.raises(openai.BadRequestError, match="stream_format"):
                await asked.audio.speech.create(**ASKED, stream_format="sse")
        for changed in ({"input": ""}, {"input": [1]}, {"response_format": "midi"}):
            reply = await stack.post(SPEECH, ASKED | changed)
            assert (reply.status, reply.error["code"]) == (400, "invalid_value"), changed
        reply = await stack.post(SPEECH, ASKED | {"input": "x" * 4097})
        assert reply.status in (400, 503), reply.body
        assert await stack.seen() == []

    run(check, **sold(kit))


def test_a_chat_is_not_sent_to_a_voice_nor_a_text_to_a_chat(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert (reply.status, reply.error["code"]) == (404, "unsupported_surface")
        reply = await stack.post(SPEECH, ASKED | {"model": "m2"})
        assert (reply.status, reply.error["code"]) == (404, "unsupported_surface")
        reply = await stack.post("/v1/audio/transcriptions", ASKED)
        assert (reply.status, reply.error["code"]) == (404, "unsupported_surface")
        assert "hears" in reply.error["message"]
        assert await stack.seen() == []

    models = [*sold(kit)["models"], {"name": "m2", "profile": "instant"}]
    run(check, **sold(kit, models=models))


@pytest.mark.parametrize(
    "fault", ["unavailable", "wrong_content_type", "reset_after_headers", "timeout", "redirect"]
)
def test_another_seller_answers_when_the_first_fails(run, kit, fault):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default=fault)
        reply = await stack.post(SPEECH, ASKED)
        assert (reply.status, reply.body) == (200, spoken.answered(ASKED)[1])
        row = (await stack.rows(1))[0]
        first, second = stack.attempts(row.request_id)
        assert (first.begin.target, second.begin.target) == ("alpha/loud", "beta/loud")
        assert (first.end.outcome != "ok", second.end.outcome) == (True, "ok")
        assert row.usage.prompt_tokens == len(TEXT)

    run(check, **sold(kit, seller(kit), seller(kit, "beta")))


def test_an_error_under_a_good_status_is_no_sound(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default="error_in_200")
        reply = await stack.post(SPEECH, ASKED)
        assert reply.status >= 500
        assert reply.headers["content-type"].startswith("application/json")

    run(check, **sold(kit))


def test_a_caller_who_may_not_leave_is_not_heard_abroad(run, kit):
    async def check(stack) -> None:
        for key, headers in (("never", {}), ("load", {}), ("main", {"x_ballast_residency": "cn"})):
            reply = await stack.post(SPEECH, ASKED, key, **headers)
            assert reply.status in (403, 503), (key, reply.body)
        assert await stack.seen() == []
        rows = await stack.rows(3)
        assert {row.attempts for row in rows} == {0}

    run(check, **sold(kit))


def test_a_masked_text_is_not_said_aloud_and_personal_data_stays(run, kit):
    async def check(stack) -> None:
        reply = await stack.post(SPEECH, ASKED | {"input": "打 13812345678"})
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen() == []
        assert (await stack.post(SPEECH, ASKED)).status == 200

    guard = {"tenants": {"acme": {"personal": "mask"}}}
    run(check, guard=guard, **sold(kit, seller(kit, jurisdiction="cn")))


def test_the_same_key_is_answered_with_the_same_sound_once_paid(run, kit):
    async def check(stack) -> None:
        first = await stack.post(SPEECH, ASKED, idempotency_key="k")
        again = await stack.post(SPEECH, ASKED, idempotency_key="k")
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["content-type"] == "audio/mpeg"
        other = await stack.post(SPEECH, ASKED | {"voice": "ash"}, idempotency_key="k")
        assert other.status == 422
        assert len(await stack.seen()) == 1
        assert [row.reason for row in await stack.rows(3)][1] == "replay"

    run(check, **sold(kit))


def test_a_batch_takes_no_speech():
    from serving.batch.lines import ENDPOINTS

    assert SPEECH not in ENDPOINTS
