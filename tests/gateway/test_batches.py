"""Files and batches by the official `openai` client, against a real gateway among the fakes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import sqlite3
from typing import Any

import msgspec
import openai
import psutil
import pytest
from openai import AsyncOpenAI

from serving import auth
from serving.batch.sqlite import SqliteBatches

QUICK = {"batches": {"tick_s": 0.05, "claim_s": 0.2, "lease_s": 3.0}}
CHAT = "/v1/chat/completions"


def client(stack, kit, key: str = "never") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=kit.key_of(key), max_retries=0)


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    made = {"model": "m", "messages": [{"role": "user", "content": custom_id}], "max_tokens": 4}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": made | body}


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


async def upload(asked: AsyncOpenAI, data: bytes, name: str = "in.jsonl") -> Any:
    return await asked.files.create(file=(name, data), purpose="batch")


async def made(asked: AsyncOpenAI, data: bytes, endpoint: Any = CHAT, **more: Any) -> Any:
    file = await upload(asked, data)
    return await asked.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )


async def ended(asked: AsyncOpenAI, kit, batch: Any, status: str = "completed") -> Any:
    async def is_over() -> Any:
        found = await asked.batches.retrieve(batch.id)
        is_open = found.status in ("validating", "in_progress", "finalizing", "cancelling")
        return None if is_open else found

    found = await kit.eventually(is_over)
    assert found.status == status, found
    return found


async def lines_of(asked: AsyncOpenAI, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    content = await asked.files.content(file_id)
    return [json.loads(one) for one in content.text.splitlines()]


async def codes_of(asked: AsyncOpenAI, file_id: str | None) -> set[str]:
    return {
        one["response"]["body"]["error"]["code"] for one in await lines_of(asked, file_id)
    }  # fmt: skip


def test_a_batch_answers_every_line_and_the_books_know_each(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            batch = await made(
                asked, jsonl(*(line(f"q{n}") for n in range(20))), metadata={"job": "nightly"}
            )
            assert batch.status == "validating"
            assert batch.metadata == {"job": "nightly"}
            done = await ended(asked, kit, batch)
            found = await lines_of(asked, done.output_file_id)
        counts = done.request_counts
        assert (counts.total, counts.completed, counts.failed) == (20, 20, 0)
        assert done.error_file_id is None
        assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
        assert [one["custom_id"] for one in found] == [f"q{n}" for n in range(20)]
        for one in found:
            assert one["error"] is None
            response = one["response"]
            assert response["status_code"] == 200
            messages = [{"role": "user", "content": one["custom_id"]}]
            text = response["body"]["choices"][0]["message"]["content"]
            assert text == kit.text_of(messages, 4)
        rows = await stack.rows(20)
        assert {row.batch for row in rows} == {batch.id}
        assert {row.request_id for row in rows} == {o["response"]["request_id"] for o in found}
        assert {(row.latency_class, row.outcome) for row in rows} == {("batch", "ok")}
        assert {stack.attempts(row.request_id)[0].begin.batch for row in rows} == {batch.id}

    run(check, engines=[kit.engine()], **QUICK)


def test_lines_fail_one_by_one_and_stand_in_the_error_file(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            data = jsonl(
                line("good"), line("streams", stream=True), line("long", max_tokens=99_000),
                line("shapeless", messages="text"), line("also good"),
            )  # fmt: skip
            done = await ended(asked, kit, await made(asked, data))
            found = await lines_of(asked, done.output_file_id)
            faulty = await lines_of(asked, done.error_file_id)
        counts = done.request_counts
        assert (counts.total, counts.completed, counts.failed) == (5, 2, 3)
        assert [one["custom_id"] for one in found] == ["good", "also good"]
        codes = {
            one["custom_id"]: (
                one["response"]["status_code"], one["response"]["body"]["error"]["code"]
            )
            for one in faulty
        }  # fmt: skip
        assert codes == {
            "streams": (400, "invalid_value"), "shapeless": (400, "invalid_value"),
            "long": (400, "context_length_exceeded"),
        }  # fmt: skip
        await stack.rows(3)  # what could not be parsed is no call

    run(check, engines=[kit.engine()], **QUICK)


def test_a_file_that_cannot_be_run_fails_before_its_first_line(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            for data, code, at in (
                (jsonl(line("a"), line("a")), "duplicate_custom_id", 2),
                (jsonl(line("a", model="nobody")), "model_not_found", 1),
            ):
                failed = await ended(asked, kit, await made(asked, data), "failed")
                assert failed.errors is not None
                (fault,) = failed.errors.data or ()
                assert (fault.code, fault.line) == (code, at)
                assert failed.failed_at
                assert failed.output_file_id is failed.error_file_id is None
        with stack.ledger() as ledger:
            assert ledger.requests(10) == []

    run(check, engines=[kit.engine()], **QUICK)


def test_files_are_listed_read_and_removed_by_their_own_tenant_only(run, kit):
    async def check(stack) -> None:
        data = jsonl(*(line(f"q{n}", pad="x" * 500) for n in range(3000)))
        async with client(stack, kit) as asked, client(stack, kit, "other") as stranger:
            file = await upload(asked, data, "数据.jsonl")
            shown = file.bytes, file.filename, file.purpose, file.status
            assert shown == (len(data), "数据.jsonl", "batch", "processed")
            assert file.expires_at > file.created_at
            assert (await asked.files.content(file.id)).content == data
            await upload(asked, b"two\n")
            await upload(asked, b"three\n")
            listed = [one.id async for one in asked.files.list(limit=2)]
            assert (len(listed), listed[2]) == (3, file.id)
            assert [one async for one in stranger.files.list()] == []
            for ask in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
                with pytest.raises(openai.NotFoundError):
                    await ask(file.id)
            with pytest.raises(openai.NotFoundError):
                await stranger.batches.create(
                    input_file_id=file.id, endpoint=CHAT, completion_window="24h"
                )
            assert (await asked.files.delete(file.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await asked.files.retrieve(file.id)

    run(check, engines=[kit.engine()], **QUICK)


def test_an_upload_is_bounded_in_size_in_number_and_in_what_it_is(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            with pytest.raises(openai.BadRequestError, match="'purpose' must be 'batch'"):
                await asked.files.create(file=("a.jsonl", b"x"), purpose="fine-tune")
            with pytest.raises(openai.APIStatusError, match="exceeds") as refused:
                await upload(asked, b"x" * 5000)
            assert refused.value.status_code == 413
            with pytest.raises(openai.APIStatusError, match="exceeds") as refused:
                await upload(asked, b"x" * 200_000)  # refused by its announced length
            assert refused.value.status_code == 413
            await upload(asked, b"x" * 4096)
            await upload(asked, b"x" * 4096)
            with pytest.raises(openai.RateLimitError, match="delete some"):
                await upload(asked, b"x")
            assert len([one async for one in asked.files.list()]) == 2
        reply = await stack.post("/v1/files", b"x", "never")
        assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
        form = "multipart/form-data; boundary=b"
        reply = await stack.post("/v1/files", b"x", "other", content_type=form)
        assert (reply.status, reply.error["code"]) == (400, "invalid_value")
        reply = await stack.post("/v1/files", b"x", "revoked")
        assert reply.status == 401

    small = {"file_bytes_max": 4096, "files_of_tenant_max": 2}
    run(check, engines=[kit.engine()], batches=QUICK["batches"] | small)


def test_a_tenant_that_stores_as_much_as_it_may_makes_no_batch_until_it_deletes(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            file = await upload(asked, jsonl(line("a")))
            wanted = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
            done = await ended(asked, kit, await asked.batches.create(**wanted))
            with pytest.raises(openai.RateLimitError, match="delete some") as refused:
                await asked.batches.create(**wanted)
            assert "retry-after" in refused.value.response.headers
            await asked.files.delete(done.output_file_id)
            await ended(asked, kit, await asked.batches.create(**wanted))

    batches = QUICK["batches"] | {"files_of_tenant_max": 2}
    run(check, engines=[kit.engine()], batches=batches)


def test_open_batches_of_one_large_file_are_bounded_by_what_their_lines_take(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            file = await upload(asked, jsonl(line("a", model="away", pad="x" * 2000)))
            wanted = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
            await asked.batches.create(**wanted)
            with pytest.raises(openai.RateLimitError, match="for each open batch"):
                await asked.batches.create(**wanted)

    away = {"name": "away", "engine": {}, "profile": "instant"}
    batches = QUICK["batches"] | {"bytes_of_tenant_max": 6000}
    models = [{"name": "m", "profile": "instant"}, away]
    run(check, engines=[kit.engine()], models=models, batches=batches)


def test_a_batch_that_is_asked_for_again_under_its_key_is_made_once(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked, client(stack, kit, "other") as stranger:
            file, theirs = await upload(asked, jsonl(line("a"))), await upload(stranger, b"x")

            async def make(whose: Any, file_id: str, name: str, window: Any = "24h") -> Any:
                return await whose.batches.create(
                    input_file_id=file_id, endpoint=CHAT, completion_window=window,
                    extra_headers={"idempotency-key": name},
                )  # fmt: skip

            several = await asyncio.gather(*(make(asked, file.id, "one") for _ in range(5)))
            (batch_id,) = {batch.id for batch in several}
            done = await ended(asked, kit, several[0])
            await asked.files.delete(file.id)
            again = await make(asked, file.id, "one")  # what it read is not asked for again
            assert (again.id, again.status) == (batch_id, "completed")
            assert again.output_file_id == done.output_file_id
            with pytest.raises(openai.UnprocessableEntityError) as refused:
                await make(asked, file.id, "one", "25h")
            assert refused.value.code == "idempotency_mismatch"
            others = await make(stranger, theirs.id, "one"), await make(stranger, theirs.id, "two")
            assert len({batch_id, *(batch.id for batch in others)}) == 3
            assert [one.id async for one in asked.batches.list(limit=1)] == [batch_id]
        await stack.rows(1)

    run(check, engines=[kit.engine()], **QUICK)


def test_one_tenant_s_uploads_and_requests_leave_room_for_others(run, kit):
    async def check(stack) -> None:
        host, port = stack.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {kit.key_of('never')}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9000\r\n\r\n"
        )
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(head.encode())
            writers.append(writer)
        async with client(stack, kit) as asked, client(stack, kit, "other") as stranger:

            async def is_full() -> bool:
                with contextlib.suppress(openai.InternalServerError):
                    await upload(asked, b"x")
                    return False
                return True

            await kit.eventually(is_full)
            file = await upload(stranger, b"x")
            asks = [stranger.files.content(file.id) for _ in range(20)]
            found = await asyncio.gather(*asks, return_exceptions=True)
            refused = [one for one in found if isinstance(one, openai.RateLimitError)]
            assert refused
            assert len(found) - len(refused) >= 1
            assert all("retry-after" in one.response.headers for one in refused)
            assert (await stranger.files.content(file.id)).content == b"x"
        for writer in writers:
            writer.close()

    bounds = {"uploads_max": 3, "requests_of_tenant_max": 1}
    run(check, engines=[kit.engine()], batches=QUICK["batches"] | bounds)


def test_a_cancelled_batch_keeps_what_is_done_and_says_so_of_the_rest(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            batch = await made(asked, jsonl(*(line(f"q{n}", max_tokens=20) for n in range(20))))

            async def has_begun() -> bool:
                found = await asked.batches.retrieve(batch.id)
                return bool(found.request_counts and found.request_counts.completed)

            await kit.eventually(has_begun)
            signals = await stack.signals()
            assert (signals["running"], signals["served_output_total"]) == (0, 0)  # no demand
            assert (await asked.batches.cancel(batch.id)).status == "cancelling"
            done = await ended(asked, kit, batch, "cancelled")
            found = await lines_of(asked, done.output_file_id)
            faulty = await lines_of(asked, done.error_file_id)
            with pytest.raises(openai.ConflictError):
                await asked.batches.cancel(batch.id)
        assert done.cancelled_at >= done.cancelling_at
        assert len(found) + len(faulty) == 20
        assert 0 < len(found) == done.request_counts.completed < 20
        assert {one["error"]["code"] for one in faulty} == {"batch_cancelled"}
        await stack.rows(len(found))

    slow = kit.engine(**kit.SLOW, max_num_seqs=4, output_tokens=50)
    run(check, engines=[slow], batches=QUICK["batches"] | {"at_once_max": 4})


@pytest.mark.full
def test_a_batch_goes_on_where_it_was_after_a_kill_and_no_line_is_answered_twice(run_live, kit):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:
            batch = await made(asked, jsonl(*(line(f"q{n}", max_tokens=10) for n in range(12))))

            async def is_in_the_middle() -> bool:
                found = await asked.batches.retrieve(batch.id)
                return 3 <= found.request_counts.completed <= 9

            await kit.eventually(is_in_the_middle)
            await live.kill()
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:
            done = await ended(asked, kit, batch)
            found = await lines_of(asked, done.output_file_id)
        assert done.request_counts.completed == 12
        await _answered_once(live, kit, found, 12)

    slow = kit.engine(**kit.SLOW, max_num_seqs=4, output_tokens=50)
    run_live(check, engines=[slow], batches=QUICK["batches"] | {"at_once_max": 4})


async def _answered_once(live, kit, found: list[Any], count: int) -> None:
    """Each line has one answer, each answer one good row; what the crash cut is on record too."""
    assert [one["custom_id"] for one in found] == [f"q{n}" for n in range(count)]
    shown = {one["response"]["request_id"] for one in found}
    assert len(shown) == count

    def known() -> Any:
        with live.ledger() as ledger:
            rows = ledger.requests(100_000)
            return rows if shown <= {row.request_id for row in rows} else None

    rows = await kit.eventually(known)
    with live.ledger() as ledger:
        assert ledger.law() == []
        assert ledger.open_attempts() == []
    good = {row.request_id for row in rows if row.outcome == "ok"}
    lost = {row.request_id for row in rows if row.outcome == "gateway_lost"}
    assert good <= shown
    # An answer that was stored when the crash cut its end: it is used, its row is an estimate.
    assert shown - good <= lost
    assert len(rows) == len(good | lost)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_ten_thousand_lines_survive_a_kill_in_the_middle(run_live, kit, book):
    lines = 10_000

    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:
            batch = await made(asked, jsonl(*(line(f"q{n}", max_tokens=2) for n in range(lines))))

            async def is_in_the_middle() -> bool:
                found = await asked.batches.retrieve(batch.id)
                return found.request_counts.completed >= lines // 2

            await kit.eventually(is_in_the_middle, 300.0)
            await live.kill()
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:

            async def is_over() -> bool:
                return (await asked.batches.retrieve(batch.id)).status == "completed"

            await kit.eventually(is_over, 300.0)
            done = await asked.batches.retrieve(batch.id)
            found = await lines_of(asked, done.output_file_id)
        assert done.request_counts.completed == lines
        assert done.error_file_id is None
        await _answered_once(live, kit, found, lines)

    run_live(check, engines=[kit.engine()], wait_s=600.0, **QUICK, **book)


def test_every_endpoint_s_lines_are_answered_in_its_own_dialect(run, kit):
    surfaces = ["chat", "completions", "embeddings"]

    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            for endpoint, body in (
                ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}),
                ("/v1/responses", {"model": "m", "input": "hello", "max_output_tokens": 20}),
                ("/v1/completions", {"model": "m", "prompt": "hello", "max_tokens": 3}),
                ("/v1/messages", {"model": "m", "max_tokens": 3, "messages": kit.MESSAGES}),
            ):
                row = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
                done = await ended(asked, kit, await made(asked, jsonl(row), endpoint))
                (found,) = await lines_of(asked, done.output_file_id)
                answer = found["response"]["body"]
                kinds = {
                    "/v1/embeddings": ("object", "list"), "/v1/responses": ("object", "response"),
                    "/v1/completions": ("object", "text_completion"),
                    "/v1/messages": ("type", "message"),
                }  # fmt: skip
                name, kind = kinds[endpoint]
                assert answer[name] == kind, answer
            for endpoint in ("/tokenize", "/v1/models", "nonsense"):
                with pytest.raises(openai.BadRequestError, match="'endpoint' must be one of"):
                    await made(asked, b"x", endpoint)

    models = [{"name": "m", "profile": "instant", "surfaces": surfaces}]
    run(check, engines=[kit.engine()], models=models, **QUICK)


def test_a_batch_ends_when_its_key_is_revoked_with_what_it_has(run, kit, tmp_path):
    keys = tmp_path / "keys.yaml"

    def write(**changes: Any) -> None:
        mark = auth.digest(kit.PEPPER, kit.key_of("mine").encode()).hex()
        row = {"id": "mine", "tenant": "acme", "hmac": mark, "overflow": "never"}
        keys.write_text(json.dumps([row | changes]))
        os.utime(keys, ns=(1, len(changes) * 10**9))

    async def check(stack) -> None:
        async with client(stack, kit, "mine") as asked, client(stack, kit, "other") as stranger:
            batch = await made(asked, jsonl(*(line(f"q{n}", max_tokens=20) for n in range(30))))

            async def has_begun() -> bool:
                found = await asked.batches.retrieve(batch.id)
                return bool(found.request_counts and found.request_counts.completed)

            await kit.eventually(has_begun)
            with pytest.raises(openai.NotFoundError):
                await stranger.batches.retrieve(batch.id)
            assert [one async for one in stranger.batches.list()] == []
            write(is_revoked=True)
        async with client(stack, kit) as same_tenant:
            done = await ended(same_tenant, kit, batch, "failed")
            assert done.errors.data[0].code == "invalid_api_key"
            found = await lines_of(same_tenant, done.output_file_id)
            faulty = await lines_of(same_tenant, done.error_file_id)
            listed = [one.id async for one in same_tenant.batches.list()]
        assert listed == [batch.id]
        assert len(found) + len(faulty) == 30
        assert 0 < len(found) < 30
        assert {one["error"]["code"] for one in faulty} == {"invalid_api_key"}

    write()
    slow = kit.engine(**kit.SLOW, max_num_seqs=4, output_tokens=50)
    more = {"keys_file": str(keys), "batches": QUICK["batches"] | {"at_once_max": 4}}
    run(check, engines=[slow], **more)


def test_lines_leave_the_premises_only_as_their_batch_may(run, kit):
    async def check(stack) -> None:
        data = jsonl(*(line(f"q{n}", model="api") for n in range(5)))
        async with client(stack, kit, "main") as asked:
            done = await ended(asked, kit, await made(asked, data))
            found = await lines_of(asked, done.output_file_id)
            assert len(found) == 5
            assert len(await stack.seen()) == 5
            kept = {"x-ballast-residency": "mainland"}
            refused = await ended(asked, kit, await made(asked, data, extra_headers=kept))
            assert await codes_of(asked, refused.error_file_id) == {"residency_refused"}
        async with client(stack, kit, "home") as asked:
            refused = await ended(asked, kit, await made(asked, data))
            assert await codes_of(asked, refused.error_file_id) == {"residency_refused"}
        assert len(await stack.seen()) == 5
        rows = await stack.rows(15)
        assert [row.code for row in rows].count("residency_refused") == 10

    models = [{"name": "m", "profile": "instant"}, {"name": "api", "offerings": ["alpha/big"]}]
    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, models=models, **QUICK)


def test_a_window_that_closes_ends_a_batch_with_what_it_has(run, kit):
    async def check(stack) -> None:
        async with client(stack, kit) as asked:
            batch = await made(asked, jsonl(*(line(f"q{n}", model="away") for n in range(5))))

            async def is_checked() -> bool:
                return (await asked.batches.retrieve(batch.id)).status == "in_progress"

            await kit.eventually(is_checked)
        await stack.stop()
        store = SqliteBatches.open(stack.state / "batches.sqlite")
        found = store.batch("acme", batch.id)
        assert found is not None
        store.claim("test", 1, 2, 9)
        store.save("test", msgspec.structs.replace(found.batch, expires_ms=1))
        store.close()
        await stack.restart(stack.tree)
        async with client(stack, kit) as asked:
            done = await ended(asked, kit, batch, "expired")
            faulty = await lines_of(asked, done.error_file_id)
        assert {one["error"]["code"] for one in faulty} == {"batch_expired"}
        assert [one["custom_id"] for one in faulty] == [f"q{n}" for n in range(5)]
        assert (done.request_counts.total, done.request_counts.failed) == (5, 0)

    away = {"name": "away", "engine": {}, "profile": "instant"}
    run(check, engines=[kit.engine()], models=[{"name": "m", "profile": "instant"}, away], **QUICK)


def test_a_forwarder_s_customers_keep_their_batches_apart(run, kit):
    async def check(stack) -> None:
        one = client(stack, kit, "gateway").with_options(
            default_headers={"x-ballast-tenant": "shop", "x-ballast-user": "ann"}
        )
        two = client(stack, kit, "gateway").with_options(
            default_headers={"x-ballast-tenant": "bank"}
        )
        async with one, two:
            batch = await made(one, jsonl(line("a"), line("b")))
            done = await ended(one, kit, batch)
            with pytest.raises(openai.NotFoundError):
                await two.batches.retrieve(batch.id)
            with pytest.raises(openai.NotFoundError):
                await two.files.content(done.output_file_id)
        rows = await stack.rows(2)
        assert {(row.tenant, row.key_id) for row in rows} == {("acme/shop", "gateway")}
        assert all(row.user for row in rows)

    run(check, engines=[kit.engine()], **QUICK)


@pytest.mark.full
def test_a_batch_whose_gateway_dies_is_carried_on_by_another(run_live, kit, tmp_path):
    async def check(live, stack, tree) -> None:
        other = type(live)(live.state)
        other.session = live.session
        second = copy.deepcopy(tree)
        second["gateway"]["index"] = 1
        tree["batches"] = tree["batches"] | {"at_once_max": 0}  # serves, and runs nothing at first
        try:
            await live.start(tree)
            await other.start(second)
            await other.ready()
            async with client(live, kit) as asked:
                batch = await made(asked, jsonl(*(line(f"q{n}", max_tokens=10) for n in range(16))))

                async def is_in_the_middle() -> bool:
                    found = await asked.batches.retrieve(batch.id)
                    return 3 <= found.request_counts.completed <= 12

                await kit.eventually(is_in_the_middle)
            await other.kill()
            await live.kill()
            tree["batches"] = tree["batches"] | {"at_once_max": 4}
            await live.start(tree)
            await live.ready()
            async with client(live, kit) as asked:
                done = await ended(asked, kit, batch)
                found = await lines_of(asked, done.output_file_id)
            await _answered_once(live, kit, found, 16)
        finally:
            await other.kill()

    slow = kit.engine(**kit.SLOW, max_num_seqs=4, output_tokens=50)
    more = {"batches": QUICK["batches"] | {"at_once_max": 2}, "gateway.pods": 2}
    run_live(check, engines=[slow], **more)


def test_an_upload_that_breaks_off_leaves_nothing_and_gives_its_place_back(run, kit):
    async def check(stack) -> None:
        host, port = stack.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {kit.key_of('never')}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9000000\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )

        def stored() -> tuple[int, int]:
            db = sqlite3.connect(f"file:{stack.state / 'batches.sqlite'}?mode=ro", uri=True)
            with contextlib.closing(db):
                files = db.execute("SELECT count(*) FROM batch_files").fetchone()[0]
                return files, db.execute("SELECT count(*) FROM batch_pieces").fetchone()[0]

        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"x" * 3_000_000)
        await kit.eventually(lambda: stored()[1] >= 2)
        async with client(stack, kit) as asked:
            with pytest.raises(openai.InternalServerError, match="too many uploads") as refused:
                await upload(asked, b"x")
            assert refused.value.status_code == 503
            assert "retry-after" in refused.value.response.headers
            writer.close()
            await writer.wait_closed()
            await kit.eventually(lambda: stored() == (0, 0))

            async def has_place() -> bool:
                with contextlib.suppress(openai.InternalServerError):
                    return bool(await upload(asked, b"x"))
                return False

            await kit.eventually(has_place)

    run(check, engines=[kit.engine()], batches=QUICK["batches"] | {"uploads_max": 1})


@pytest.mark.full
def test_a_large_file_goes_in_and_out_without_standing_in_memory(run_live, kit):
    size = 48 << 20

    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        before = psutil.Process(live.process.pid).memory_info().rss
        data = (b"y" * 99 + b"\n") * (size // 100)
        async with client(live, kit) as asked:
            file = await upload(asked, data)
            assert file.bytes == len(data)
            content = await asked.files.content(file.id)
            assert content.content == data
        after = psutil.Process(live.process.pid).memory_info().rss
        assert after - before < 24 << 20, f"{(after - before) >> 20} MiB more"

    run_live(check, engines=[kit.engine()], **QUICK)
