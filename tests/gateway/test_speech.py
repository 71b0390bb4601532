"""Texts said aloud by third parties, asked for with the official client."""

from __future__ import annotations

import io
import wave

import openai
import pytest
from openai import AsyncOpenAI

from serving import auth
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
            streamed = asked.audio.speech.with_streaming_response
            async with streamed.create(**ASKED, response_format="wav", speed=1.5) as reply:
                sound = await reply.read()
                assert reply.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(sound)) as file:
            assert file.getnframes() == len(TEXT) * spoken.SAMPLES_PER_CHARACTER
        assert raw.content == spoken.answered(ASKED)[1]
        assert raw.headers["content-type"] == "audio/mpeg"
        assert raw.headers["x-ballast-target"] == "api;alpha/loud"
        first, second = (one["body"] for one in await stack.seen())
        assert first == ASKED | {"model": "loud", "response_format": "mp3"}
        assert second == first | {"response_format": "wav", "speed": 1.5}
        row = (await stack.rows(2))[0]
        assert (row.surface, row.outcome, row.status) == ("speech", "ok", 200)
        (attempt,) = stack.attempts(row.request_id)
        assert (attempt.end.charge.currency, attempt.end.charge.micro) == ("USD", 15 * len(TEXT))
        assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (len(TEXT), 0)
        assert row.usage.is_estimated, "counted by us: sound tells no usage"
        assert attempt.begin.is_egress

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
        for path, body in (
            (SPEECH, ASKED | {"model": "m2"}),
            ("/v1/chat/completions", {"model": "m", "messages": kit.MESSAGES}),
        ):
            reply = await stack.post(path, body)
            assert (reply.status, reply.error["code"]) == (404, "unsupported_surface"), path
        for key, headers in (("never", {}), ("load", {}), ("main", {"x_ballast_residency": "cn"})):
            reply = await stack.post(SPEECH, ASKED, key, **headers)
            assert reply.status in (403, 503), (key, reply.body)
        reply = await stack.post(SPEECH, ASKED | {"input": "x" * 4097})
        assert reply.status in (400, 503), reply.body
        assert await stack.seen() == []
        assert {row.attempts for row in await stack.rows(8)} == {0}

    # An engine of ours that has the model answers nothing of this: none speaks.
    models = [*sold(kit)["models"], {"name": "m2", "profile": "instant"}]
    run(check, engines=[kit.engine()], **sold(kit, models=models))


def test_a_masked_text_is_not_said_aloud_and_personal_data_stays(run, kit):
    async def check(stack) -> None:
        reply = await stack.post(SPEECH, ASKED | {"input": "打 13812345678"})
        assert (reply.status, reply.error["code"]) == (403, "residency_refused")
        assert await stack.seen() == []
        assert (await stack.post(SPEECH, ASKED)).status == 200

    guard = {"tenants": {"acme": {"personal": "mask"}}}
    run(check, guard=guard, **sold(kit, seller(kit, jurisdiction="cn")))


FAULTS = ("wrong_content_type", "reset_after_headers", "timeout", "redirect", "error_in_200")


@pytest.mark.parametrize(
    "fault", ["unavailable", *(pytest.param(one, marks=pytest.mark.full) for one in FAULTS)]
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


@pytest.mark.full
def test_an_error_under_a_good_status_is_no_sound(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default="error_in_200")
        reply = await stack.post(SPEECH, ASKED)
        assert reply.status >= 500
        assert reply.headers["content-type"].startswith("application/json")

    run(check, **sold(kit))


@pytest.mark.full
def test_a_voice_that_fails_often_is_left_alone_by_its_breaker(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default="unavailable")
        replies = [await stack.post(SPEECH, ASKED) for _ in range(20)]
        assert {reply.status for reply in replies} <= {429, 502, 503}
        assert 0 < len(await stack.seen()) < 20

    run(check, **sold(kit))


@pytest.mark.full
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


@pytest.mark.full
def test_a_budget_pays_by_characters_and_refuses_before_anything_is_sent(run, kit):
    """15 micro-dollars a character: 200 pay for two texts of five, not for a third."""

    async def check(stack) -> None:
        given = {"id": "b", "tenant": "acme", "currency": "USD", "limit_micro": 200,
                 "period": "day"}  # fmt: skip
        head = {"authorization": "Bearer ba-owner"}
        url = f"{stack.ops}/admin/v1/budgets"
        async with stack.session.put(url, json=given, headers=head, params={"why": "t"}) as reply:
            assert reply.status == 200, await reply.text()
        replies = [await stack.post(SPEECH, ASKED) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 429, 429]
        assert replies[-1].error["code"] == "budget_exceeded"
        assert len(await stack.seen()) == 2

    mark = auth.digest(kit.PEPPER, b"ba-owner").hex()
    owner = {"id": "admin", "role": "admin", "hmac": mark}
    run(check, administrators=[owner], **sold(kit))
