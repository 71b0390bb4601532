"""Sound written down by third parties, asked for with the official client."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI

from serving import auth
from serving.audit.values import Question
from serving.fakes.listening import said
from serving.records import Sensitivity

MODEL = {"name": "m", "profile": "instant", "surfaces": ["transcription", "translation"],
         "context_tokens": 4096}  # fmt: skip
HEARING = {"by": "time", "per_hour": "0.36", "bytes_max": 1 << 20, "has_times": True,
           "translates": True}  # fmt: skip
PATH = "/v1/audio/transcriptions"
WORDS = "你好，世界\nsecond line"
FORM = "multipart/form-data; boundary=b"


def seller(kit, name: str = "alpha", model: str = "whisper-x", jurisdiction: str = "cn", **changes):
    """A row that hears for 0.36 dollars an hour: a ten-thousandth of a dollar a second."""
    row = kit.row(name, jurisdiction)
    priced = {key: changes.pop(key) for key in ("input_per_mtok", "output_per_mtok")
              if key in changes}  # fmt: skip
    ears = {"id": model, "context_tokens": None, "currency": "USD", "hearing": HEARING | changes,
            "source": "test", "as_of": "2026-01-01"}  # fmt: skip
    row["models"] = [*row["models"], ears | priced]
    return row


def sold(kit, *sellers, **changes):
    """A gateway whose model is bought from them in that order."""
    rows = sellers or (seller(kit),)
    model = MODEL | {"offerings": [f"{row['id']}/{row['models'][-1]['id']}" for row in rows]}
    providers = {row["id"]: kit.provider() for row in rows}
    return {"rows": list(rows), "providers": providers, "models": [model]} | changes


def client(stack, kit, key: str = "main") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=kit.key_of(key), max_retries=0)


def form(*fields: tuple[str, str], file: bytes | None = None, mark: str = "b") -> bytes:
    """A form as bytes, the model named unless the fields name one."""
    given = [*fields, *([] if any(name == "model" for name, _ in fields) else [("model", "m")])]
    parts = [f'--{mark}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
             for n, v in given]  # fmt: skip
    if file is not None:
        head = f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        parts.append(head.encode() + file + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode()


def test_what_is_said_is_written_down_in_each_format_and_costs_what_its_length_costs(run, kit):
    file = ("张三 13812345678.wav", said(WORDS, 2.5))

    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            ears = asked.audio.transcriptions
            raw = await ears.with_raw_response.create(model="m", file=file, language="zh")
            plain = await ears.create(model="m", file=file, response_format="text")
            cues = await ears.create(model="m", file=file, response_format="srt")
            web = await ears.create(model="m", file=file, response_format="vtt")
            whole = await ears.create(
                model="m", file=file, response_format="verbose_json",
                timestamp_granularities=["word", "segment"], temperature=0.2, prompt="names",
            )  # fmt: skip
            with pytest.warns(
                DeprecationWarning, match="deprecated"
            ):  # of the client's own: all models that can
                english = await asked.audio.translations.create(model="m", file=file)
        assert raw.headers["x-ballast-target"] == "api;alpha/whisper-x"
        text = WORDS.replace("\n", " ")
        assert raw.parse().text == english.text == whole.text == text
        assert plain == f"{text}\n"
        assert cues == ("1\n00:00:00,000 --> 00:00:01,250\n你好，世界\n\n"
                        "2\n00:00:01,250 --> 00:00:02,500\nsecond line\n\n")  # fmt: skip
        assert web.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.250\n你好")
        assert (whole.duration, len(whole.segments), whole.words[0].word) == (2.5, 2, "你好，世界")
        first, second, third, _, fifth, last = (one["body"] for one in await stack.seen())
        shown = {"name": "sound.wav", "type": "audio/wav", "bytes": len(file[1])}
        assert first == {
            "model": "whisper-x", "response_format": "json", "language": "zh", "file": shown,
        }  # fmt: skip
        assert second["response_format"] == last["response_format"] == "json"
        assert third["response_format"] == "verbose_json"
        assert fifth["timestamp_granularities[]"] == ["word", "segment"]
        assert (fifth["temperature"], fifth["prompt"]) == ("0.2", "names")
        rows = await stack.rows(6)
        assert [row.surface for row in rows] == ["transcription"] * 5 + ["translation"]
        assert {(row.outcome, row.status, row.usage.prompt_tokens) for row in rows} == {
            ("ok", 200, 30)
        }, "three whole seconds, in tenths"
        (attempt,) = stack.attempts(rows[0].request_id)
        assert (attempt.end.charge.currency, attempt.end.charge.micro) == ("USD", 300)
        assert not rows[0].usage.is_estimated
        assert attempt.begin.is_egress

    run(check, **sold(kit))


def test_what_is_no_sound_or_no_form_is_refused_by_name_and_leaves_nothing(run, kit):
    good = said("x")
    cases = {
        "no file": (form(), {}, 400, "invalid_value", "file"),
        "empty file": (form(file=b""), {}, 400, "invalid_value", "file"),
        "wrong type": (form(file=b"%PDF-1.7 not sound"), {}, 400, "invalid_value", "file"),
        "no model": (form(("model", ""), file=good), {}, 400, "invalid_value", "model"),
        "format": (form(("response_format", "docx"), file=good), {}, 400, "invalid_value",
                   "response_format"),
        "stream": (form(("stream", "true"), file=good), {}, 400, "invalid_value", "stream"),
        "number": (form(("temperature", "hot"), file=good), {}, 400, "invalid_value",
                   "temperature"),
        "json": (b'{"model": "m"}', {"content_type": "application/json"}, 415,
                 "unsupported_media_type", None),
        "charset": (b'--b\r\ncontent-disposition: form-data; name="_charset_"\r\n\r\n'
                    + b"x" * 40 + b"\r\n" + form(file=good), {}, 400, "invalid_value", None),
        "name": (form(("\xff", "1"), file=good).replace(b"\xc3\xbf", b"\xff"), {}, 400,
                 "invalid_value", None),
        "boundary": (b"nothing", {}, 400, "invalid_value", None),
        "oversized": (form(file=said("x", 70.0)), {}, 413, "body_too_large", None),
        "unknown model": (form(("model", "nix"), file=good), {}, 404, "model_not_found", "model"),
        "no key": (form(file=good), {"key": None}, 401, "missing_api_key", None),
    }  # fmt: skip

    async def check(stack) -> None:
        for name, (body, more, status, code, param) in cases.items():
            reply = await stack.post(PATH, body, **{"content_type": FORM} | more)
            told = (reply.status, reply.error["code"], reply.error["param"])
            assert told == (status, code, param), (name, reply.body)
        reply = await stack.post("/v1/chat/completions", form(file=said("x", 4.0)),
                                 content_type=FORM)  # fmt: skip
        assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
        reply = await stack.post("/v1/chat/completions", {"model": "m", "messages": kit.MESSAGES})
        assert (reply.status, reply.error["code"]) == (404, "unsupported_surface")
        assert await stack.seen() == []
        assert {row.attempts for row in await stack.rows(2)} == {0}

    run(check, **sold(kit) | {"gateway.limits": {"body_bytes_max": 1 << 20}})


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
def test_a_file_name_with_semicolons_hides_no_file(run, kit):
    body = form(file=said("x")).replace(b'"a.wav"', b'"a; b; c.wav"')

    async def check(stack) -> None:
        reply = await stack.post(PATH, body, content_type=FORM)
        assert reply.status == 200, reply.body
        (seen,) = await stack.seen()
        assert seen["body"]["file"]["name"] == "sound.wav"

    run(check, **sold(kit))


def test_sound_is_personal_data_and_stays_where_that_may_go(run, kit):
    """An unlabelled tenant keeps it on its premises, `anywhere` on the mainland, and only who named
    a country sends a voice there."""
    good = form(file=said("hello"))

    async def check(stack) -> None:
        for key, status in (("main", 403), ("home", 403), ("never", 503), ("load", 503)):
            reply = await stack.post(PATH, good, key, content_type=FORM)
            assert reply.status in (status, 403), (key, reply.body)
        assert await stack.seen() == []
        reply = await stack.post(PATH, good, "named", content_type=FORM)
        assert reply.status == 200, reply.body
        reply = await stack.post(PATH, good, "named", content_type=FORM, x_ballast_residency="cn")
        assert reply.status == 403
        assert len(await stack.seen()) == 1
        await stack.rows(6)
        with stack.ledger() as ledger:
            (intent,) = ledger.egress(Question())
        assert (intent.sensitivity, intent.rule) == (Sensitivity.PERSONAL, "named:us")

    keys = [("named", "abroad"), ("main", "acme"), ("home", "home"), ("never", "acme"),
            ("load", "acme")]  # fmt: skip
    given = [
        {"id": name, "tenant": tenant, "exposure": "full",
         "hmac": auth.digest(kit.PEPPER, kit.key_of(name).encode()).hex()}
        | ({"overflow": "never"} if name == "never" else {})
        | ({"is_load_test": True} if name == "load" else {})
        for name, tenant in keys
    ]  # fmt: skip
    tenants = [{"id": "acme", "residency": "anywhere"}, {"id": "home"},
               {"id": "abroad", "residency": "named", "jurisdictions": ["us"]}]  # fmt: skip
    run(check, keys=given, tenants=tenants, **sold(kit, seller(kit, jurisdiction="us")))


def test_the_transcript_passes_the_guard_also_across_segments(run, kit, tmp_path):
    (tmp_path / "house.txt").write_text("世界秘密\tmask\nforbidden\tblock\n", encoding="utf-8")

    async def check(stack) -> None:
        body = form(("response_format", "srt"), file=said("你好世界\n秘密。 fine", 2.0))
        reply = await stack.post(PATH, body, content_type=FORM)
        assert reply.status == 200, reply.body
        shown = reply.body.decode()
        assert "世界" not in shown
        assert "秘密" not in shown
        assert "你好" in shown
        blocked = form(("response_format", "text"), file=said("a forbidden word"))
        reply = await stack.post(PATH, blocked, content_type=FORM)
        assert (reply.status, reply.body.strip()) == (200, b"")
        assert reply.headers["x-ballast-finish"] == "content_filter"
        rows = await stack.rows(2)
        assert rows[1].finish == "content_filter"
        assert rows[1].usage.prompt_tokens == 10, "what was heard is paid all the same"

    guard = {"terms_dir": str(tmp_path), "tenants": {"acme": {"lists": ["house"]}}}
    run(check, guard=guard, **sold(kit))


@pytest.mark.full
def test_a_row_by_the_token_bills_what_it_tells_and_one_that_tells_nothing_what_was_measured(
    run, kit
):
    async def check(stack) -> None:
        reply = await stack.post(PATH, form(file=said("one two", 3.0)), content_type=FORM)
        assert reply.json["usage"]["input_tokens"] == 30
        asked = form(("response_format", "srt"), file=said("x"))
        reply = await stack.post(PATH, asked, content_type=FORM)
        assert reply.headers["x-ballast-target"] == "api;beta/bare-asr" or reply.status == 503
        await stack.control(stack.providers["alpha"], default="unavailable")
        reply = await stack.post(PATH, form(file=said("three", 4.2)), content_type=FORM)
        assert reply.json == {"text": "three"}
        first, *_, last = await stack.rows(3)
        assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (30, 2)
        (attempt,) = stack.attempts(first.request_id)
        assert attempt.end.charge.micro == 30 * 2 + 2 * 10
        assert (last.usage.prompt_tokens, last.usage.is_estimated) == (50, True)

    tokens = seller(
        kit, model="gpt-4o-x", by="token", per_hour=None, has_times=False,
        input_per_mtok="2", output_per_mtok="10",
    )  # fmt: skip
    run(check, **sold(kit, tokens, seller(kit, "beta", "bare-asr", has_times=False, per_hour="36")))


@pytest.mark.full
@pytest.mark.parametrize("fault", ["unavailable", "reset_after_headers", "timeout", "error_in_200"])
def test_another_seller_hears_it_when_the_first_fails(run, kit, fault):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default=fault)
        reply = await stack.post(PATH, form(file=said("hello")), content_type=FORM)
        assert (reply.status, reply.json["text"]) == (200, "hello")
        row = (await stack.rows(1))[0]
        first, second = stack.attempts(row.request_id)
        assert (first.begin.target, second.begin.target) == ("alpha/whisper-x", "beta/whisper-x")
        assert (first.end.outcome != "ok", second.end.outcome) == (True, "ok")

    run(check, **sold(kit, seller(kit), seller(kit, "beta")))


@pytest.mark.full
def test_a_file_too_long_too_large_or_in_another_container_goes_to_who_takes_it(run, kit):
    async def check(stack) -> None:
        for file, target in ((said("x", 5.0), "alpha"), (said("x", 31.0), "beta")):
            reply = await stack.post(PATH, form(file=file), content_type=FORM)
            assert reply.headers["x-ballast-target"] == f"api;{target}/whisper-x", reply.body
        reply = await stack.post(PATH, form(file=said("x", 70.0)), content_type=FORM)
        assert reply.status in (400, 503), "larger than either takes"
        reply = await stack.post(PATH, form(file=b"ID3\4\0\0\0\0\0\0" + b"\0" * 900),
                                 content_type=FORM)  # fmt: skip
        assert reply.status in (400, 503)
        assert len(await stack.seen()) == 1

    short = seller(kit, seconds_max=30, containers=["wav"])
    run(check, **sold(kit, short, seller(kit, "beta", containers=["wav"])))


@pytest.mark.full
def test_the_same_key_is_answered_again_whatever_boundary_its_client_draws(run, kit):
    async def check(stack) -> None:
        asked = {"content_type": FORM, "idempotency_key": "k"}
        wanted = ("response_format", "text")
        first = await stack.post(PATH, form(wanted, file=said("hello")), **asked)
        again = await stack.post(
            PATH, form(wanted, file=said("hello"), mark="other"),
            **asked | {"content_type": "multipart/form-data; boundary=other"},
        )  # fmt: skip
        assert first.body == again.body == b"hello\n"
        assert again.headers["content-type"] == "text/plain; charset=utf-8"
        other = await stack.post(PATH, form(wanted, file=said("another")), **asked)
        assert other.status == 422
        path = "/v1/audio/translations"
        english = await stack.post(path, form(wanted, file=said("hello")), **asked)
        assert english.status == 422, "another question"
        assert len(await stack.seen()) == 1
        assert [row.reason for row in await stack.rows(4)][1] == "replay"

    run(check, **sold(kit))


@pytest.mark.full
def test_a_budget_refuses_sound_it_cannot_pay_before_anything_is_sent(run, kit):
    """100 micro-dollars a second: 250 pay for one second twice, not for ten."""

    async def check(stack) -> None:
        given = {"id": "b", "tenant": "acme", "currency": "USD", "limit_micro": 250,
                 "period": "day"}  # fmt: skip
        head = {"authorization": "Bearer ba-owner"}
        url = f"{stack.ops}/admin/v1/budgets"
        async with stack.session.put(url, json=given, headers=head, params={"why": "t"}) as reply:
            assert reply.status == 200, await reply.text()
        sounds = (said("x"), said("x", 10.0), said("x"), said("x"))
        replies = [await stack.post(PATH, form(file=one), content_type=FORM) for one in sounds]
        assert [reply.status for reply in replies] == [200, 429, 200, 429]
        assert replies[1].error["code"] == "budget_exceeded"
        assert len(await stack.seen()) == 2

    mark = auth.digest(kit.PEPPER, b"ba-owner").hex()
    owner = {"id": "admin", "role": "admin", "hmac": mark}
    run(check, administrators=[owner], **sold(kit))


@pytest.mark.full
def test_a_provider_that_refuses_the_sound_is_not_asked_again(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            with pytest.raises(openai.BadRequestError):
                await asked.audio.transcriptions.create(
                    model="m", file=("a.mp3", b"ID3" + b"\0" * 99)
                )
        assert len(await stack.seen()) == 1
        (row,) = await stack.rows(1)
        assert (row.attempts, row.status) == (1, 400)

    run(check, **sold(kit, seller(kit), seller(kit, "beta")))
