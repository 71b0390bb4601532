"""One suite for every Backend, then what is true of one kind only."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from serving.backends.account import Timers
from serving.backends.base import BlockStream
from serving.errors import Kind, UpstreamError
from serving.fakes.text import answer_text, seed_of
from serving.records import Block, Surface, Usage

Against = Callable[..., None]
REMOTE = ("replica", "provider")
EVERY = (*REMOTE, "echo")
every = pytest.mark.parametrize("name", EVERY)
remote = pytest.mark.parametrize("name", REMOTE)
MESSAGES = [{"role": "user", "content": "hello"}]
TEXT = answer_text(seed_of(json.dumps(MESSAGES, separators=(",", ":"))), 8)


async def blocks_of(stream: BlockStream) -> list[Block]:
    return [block async for block in stream]


async def failed(stream: BlockStream) -> tuple[list[Block], UpstreamError]:
    """What came before the error, and the error."""
    blocks: list[Block] = []
    try:
        async for block in stream:
            blocks.append(block)  # noqa: PERF401 - kept when it raises
    except UpstreamError as error:
        return blocks, error
    raise AssertionError(f"no error after {blocks}")


def events_of(blocks: list[Block]) -> list[Any]:
    """The events, checked to be whole in each block."""
    found = []
    for block in blocks:
        assert not block.data or block.data.endswith(b"\n\n"), block.data[-40:]
        for raw in block.data.split(b"\n\n"):
            data = b"".join(line[5:].strip() for line in raw.split(b"\n") if line[:5] == b"data:")
            if data == b"[DONE]":
                found.append("[DONE]")
            elif data:
                found.append(msgspec.json.decode(data))
    return found


def text_of(events: list[Any]) -> str:
    choices = [c for event in events if event != "[DONE]" for c in event.get("choices", ())]
    return "".join((c.get("delta") or {}).get("content") or c.get("text") or "" for c in choices)


@every
def test_a_plain_answer_is_one_block(name, against: Against):
    async def check(subject):
        (block,) = await blocks_of(subject.stream(subject.call()))
        answer = msgspec.json.decode(block.data)
        assert block.opens
        assert block.finish in ("stop", "length")
        assert block.usage.completion_tokens == answer["usage"]["completion_tokens"]
        if name != "echo":
            assert answer["choices"][0]["message"]["content"] == TEXT

    against(name, check)


@every
def test_a_stream_is_whole_events_in_order(name, against: Against):
    async def check(subject):
        blocks = await blocks_of(subject.stream(subject.call(stream=True)))
        events = events_of(blocks)
        assert events[-1] == "[DONE]"
        assert events.count("[DONE]") == 1
        finishes = [c["finish_reason"] for e in events[:-1] for c in e["choices"]]
        assert [f for f in finishes if f] == [blocks[-1].finish or finishes[-1]]
        assert text_of(events) == (TEXT if name != "echo" else "one two three")
        assert sum(block.events for block in blocks) >= len(events)

    against(name, check)


@every
def test_the_first_content_opens_and_nothing_else_does(name, against: Against):
    async def check(subject):
        blocks = await blocks_of(subject.stream(subject.call(stream=True), 30.0))
        opening = [i for i, block in enumerate(blocks) if block.opens]
        assert len(opening) == 1
        assert not text_of(events_of(blocks[: opening[0]]))
        assert text_of(events_of([blocks[opening[0]]]))

    against(name, check, is_slow=name != "echo")


@every
@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_always_known_and_passed_on_only_when_asked(name, asked, against: Against):
    async def check(subject):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        blocks = await blocks_of(subject.stream(subject.call(stream=True, **options)))
        usages = [block.usage for block in blocks if block.usage]
        assert usages[-1].prompt_tokens > 0
        assert usages[-1].completion_tokens in (3, 8)
        events = events_of(blocks)
        shown = [event for event in events[:-1] if not event["choices"]]
        assert len(shown) == asked
        if asked:
            assert shown[0]["usage"]["completion_tokens"] == usages[-1].completion_tokens
        assert events[-1] == "[DONE]"

    against(name, check)


@every
def test_nothing_happens_before_the_first_block_is_asked_for(name, against: Against):
    async def check(subject):
        stream = subject.stream(subject.call())
        await asyncio.sleep(0)
        if name == "provider":
            assert await subject.seen() == []
        stream.abort()
        stream.abort()

    against(name, check)


@every
def test_abort_is_safe_at_any_time(name, against: Against):
    async def check(subject):
        stream = subject.stream(subject.call(stream=True))
        await blocks_of(stream)
        stream.abort()
        stream.abort()
        # The end came first: the connection may carry somebody else's call by now.
        (block,) = await blocks_of(subject.stream(subject.call()))
        stream.abort()
        assert block.opens

    against(name, check)


@remote
@pytest.mark.parametrize("is_stream", [True, False])
def test_abort_cancels_upstream(name, is_stream, against: Against):
    async def check(subject):
        stream = subject.stream(subject.call(stream=is_stream, max_tokens=512))
        reading = asyncio.ensure_future(stream.__anext__())
        assert await subject.eventually(lambda: is_busy(subject), 10.0)
        if is_stream:
            await reading
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        stream.abort()

        async def is_idle() -> bool:
            return not await subject.running()

        assert await subject.eventually(is_idle, 1.0)
        if name == "provider":
            assert (await subject.seen())[0]["outcome"] == "disconnected"

    async def is_busy(subject) -> bool:
        return bool(await subject.running())

    async def slow_provider(subject):
        if name == "provider" and not is_stream:
            await subject.control(ttft_ms=60_000)
        await check(subject)

    against(name, slow_provider, is_slow=True)


@every
def test_the_deadline_ends_an_answer(name, against: Against):
    async def check(subject):
        if name == "replica":
            await subject.control(hang=True)
        elif name == "provider":
            await subject.control(default="timeout")
        blocks, error = await failed(subject.stream(subject.call(stream=True), 0.2))
        assert error.kind is Kind.TIMEOUT
        assert not any(block.opens for block in blocks) or name == "echo"

    against(name, check, is_slow=name == "echo")


@every
def test_the_deadline_ends_a_stream_under_way(name, against: Against):
    async def check(subject):
        blocks, error = await failed(subject.stream(subject.call(stream=True, max_tokens=512), 1.0))
        assert error.kind is Kind.TIMEOUT
        assert any(block.opens for block in blocks)

    async def endless(subject):
        if name == "provider":
            await subject.control(default="slow_drip:2")
        await check(subject)

    against(name, endless, is_slow=True)


@remote
def test_a_refused_connection_says_that_nothing_was_sent(name, against: Against):
    async def check(subject):
        await subject.served.close()
        _, error = await failed(subject.stream(subject.call()))
        assert error.kind is Kind.CONNECT
        assert not error.sent

    against(name, check)


@remote
@pytest.mark.parametrize("surface", [Surface.CHAT, Surface.COMPLETIONS])
def test_every_surface_reaches_its_own_path(name, surface, against: Against):
    async def check(subject):
        (block,) = await blocks_of(subject.stream(subject.call(surface)))
        kind = {Surface.CHAT: "chat.completion", Surface.COMPLETIONS: "text_completion"}[surface]
        assert msgspec.json.decode(block.data)["object"] == kind

    against(name, check)


REPLICA_ERRORS = {
    "503 is full": ({"fail_next": 1, "status": 503}, {}, Kind.FULL),
    "429 is full": ({"fail_next": 1, "status": 429}, {}, Kind.FULL),
    "500": ({"fail_next": 1, "status": 500}, {}, Kind.SERVER_ERROR),
    "draining is full": ({"drain": True}, {}, Kind.FULL),
    "the caller's fault": ({}, {"temperature": 9}, Kind.BAD_REQUEST),
}


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("case", REPLICA_ERRORS)
def test_a_replica_that_refuses(case, is_stream, against: Against):
    faults, changes, kind = REPLICA_ERRORS[case]

    async def check(subject):
        await subject.control(**faults)
        blocks, error = await failed(subject.stream(subject.call(stream=is_stream, **changes)))
        assert (blocks, error.kind) == ([], kind)
        if kind is Kind.BAD_REQUEST:
            assert error.status == 400
            assert "temperature" in msgspec.json.decode(error.body)["error"]["message"]
        await subject.control(drain=False)
        (block,) = await blocks_of(subject.stream(subject.call()))
        assert block.opens

    against("replica", check)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("kill_stream_after_tokens", Kind.CUT), ("fail_stream_after_tokens", Kind.SERVER_ERROR)],
)
def test_a_replica_that_breaks_after_content(fault, kind, against: Against):
    async def check(subject):
        await subject.control(**{fault: 5})
        call = subject.call(stream=True, max_tokens=64)
        blocks, error = await failed(subject.stream(call))
        assert error.kind is kind
        expected = answer_text(seed_of(json.dumps(MESSAGES, separators=(",", ":"))), 5)
        assert text_of(events_of(blocks)) == expected

    against("replica", check)


def test_a_replica_reports_its_load_and_gets_the_secret(against: Against):
    async def check(subject):
        await blocks_of(subject.stream(subject.call()))
        assert len(subject.loads) == 1

    against("replica", check)


def test_a_replica_closed_while_idle_is_asked_once_more(against: Against):
    """The engine closes a kept-alive connection just as it is used."""
    good = (
        b'HTTP/1.1 200 OK\r\ncontent-length: 62\r\n\r\n{"choices":[{"message":{"content":"x"},'
        b'"finish_reason":"stop"}]}'
    ).replace(
        b"62", b"%d" % len('{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}')
    )
    arrivals = 0

    async def serve(reader, writer):
        nonlocal arrivals
        writers.append(writer)
        for turn in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            arrivals += 1
            if turn:
                break  # the second request on a connection finds it closing
            writer.write(good)
        writer.close()

    writers: list[asyncio.StreamWriter] = []

    async def check(subject):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        target = msgspec.structs.replace(subject.target, port=port, prefix="")
        for expected in (1, 3):
            (block,) = await blocks_of(subject.stream(subject.call(), target=target))
            assert block.opens
            assert arrivals == expected
        server.close()
        for writer in writers:
            writer.transport.abort()

    against("replica", check)


REFUSALS = {
    "rate_limit": Kind.RATE_LIMIT,
    "out_of_money_openai": Kind.ACCOUNT_DEAD,
    "out_of_money_zhipu": Kind.ACCOUNT_DEAD,
    "out_of_money_402": Kind.ACCOUNT_DEAD,
    "forbidden_content": Kind.CONTENT_FILTER,
    "server_error": Kind.SERVER_ERROR,
    "unavailable": Kind.OVERLOADED,
    "overloaded": Kind.OVERLOADED,
    "context_too_long": Kind.CONTEXT_TOO_LONG,
    "content_filter": Kind.CONTENT_FILTER,
    "key_expired": Kind.KEY_DEAD,
    "model_retired": Kind.TARGET_DEAD,
    "error_in_200": Kind.SERVER_ERROR,
    "wrong_content_type": Kind.PROTOCOL,
    "redirect": Kind.SERVER_ERROR,
    "reset_at_connect": Kind.CUT,
    "reset_after_headers": Kind.CUT,
    "timeout": Kind.TIMEOUT,
}
STREAM_REFUSALS = {
    "error_before_content": Kind.SERVER_ERROR,
    "role_then_stall": Kind.TIMEOUT,
    "comments_only": Kind.TIMEOUT,
}


@pytest.mark.parametrize(
    ("scenario", "is_stream"),
    [*((s, i) for s in REFUSALS for i in (True, False)), *((s, True) for s in STREAM_REFUSALS)],
)
def test_a_provider_that_refuses(scenario, is_stream, against: Against):
    async def check(subject):
        await subject.control(default=scenario)
        # A plain answer comes whole: nothing but the caller's deadline bounds it.
        within_s = 0.3 if scenario == "timeout" and not is_stream else 10.0
        blocks, error = await failed(subject.stream(subject.call(stream=is_stream), within_s))
        assert error.kind is (REFUSALS | STREAM_REFUSALS)[scenario]
        assert not any(block.opens for block in blocks)
        assert len(await subject.seen()) == 1
        if scenario == "rate_limit":
            assert error.retry_after_s == 2.0

    against("provider", check)


BREAKS = {
    "error_after_content": Kind.SERVER_ERROR,
    "eof_without_finish": Kind.CUT,
    "done_without_finish": Kind.CUT,
    "content_then_stall": Kind.TIMEOUT,
    "reset_mid_chunk": Kind.CUT,
}


@pytest.mark.parametrize("scenario", BREAKS)
def test_a_provider_that_breaks_after_content(scenario, against: Against):
    async def check(subject):
        await subject.control(default=scenario)
        blocks, error = await failed(subject.stream(subject.call(stream=True)))
        assert error.kind is BREAKS[scenario]
        events = events_of(blocks)
        assert text_of(events) == answer_text(
            seed_of(json.dumps(MESSAGES, separators=(",", ":"))), 3
        )
        assert "[DONE]" not in events

    against("provider", check)


ODD = (
    "ok", "ok_reasoning", "ok_tools", "comments_then_ok", "usage_in_every_chunk", "huge_line",
    "empty_choices_first", "think_inline", "content_filter_finish", "gzip_body", "slow_drip",
    "identical_chunks", "no_usage", "split_utf8", "duplicate_final",
)  # fmt: skip


@pytest.mark.parametrize("scenario", ODD)
def test_a_provider_that_is_odd_but_good(scenario, against: Against):
    async def check(subject):
        await subject.control(default=scenario)
        blocks = await blocks_of(subject.stream(subject.call(stream=True)))
        events = events_of(blocks)
        assert events[-1] == "[DONE]"
        assert events.count("[DONE]") == 1
        assert any(block.opens for block in blocks)
        assert [e for e in events[:-1] if "usage" in e and not e["choices"]] == []
        if scenario in ("ok", "comments_then_ok", "gzip_body", "slow_drip", "empty_choices_first"):
            assert text_of(events) == TEXT
        if scenario == "split_utf8":
            assert text_of(events) == f"压舱石🙂é{TEXT}"
        if scenario not in ("no_usage", "identical_chunks"):
            usage = [block.usage for block in blocks if block.usage][-1]
            thoughts = 4 if scenario == "ok_reasoning" else 0
            assert usage.completion_tokens == 8 + thoughts
            assert usage.reasoning_tokens == thoughts

    against("provider", check)


def test_a_provider_that_stays_after_done_is_not_waited_for(against: Against):
    """`data:` may or may not be followed by a blank; the stream is over either way."""

    async def check(subject):
        for mark in (b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n"):
            body = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
            server, writers = await speaking(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + body + mark
            )
            subject.moves_to(server)
            blocks = await blocks_of(subject.stream(subject.call(stream=True)))
            assert events_of(blocks)[-1] == "[DONE]"
            server.close()
            for writer in writers:
                writer.transport.abort()

    against("provider", check)


def test_a_plain_answer_that_takes_long_is_waited_for(against: Against):
    """Longer than both timers of a stream."""

    async def check(subject):
        subject.backend.timers = Timers(connect_s=5.0, first_content_s=0.05, stall_s=0.05)
        await subject.control(ttft_ms=400)
        (block,) = await blocks_of(subject.stream(subject.call()))
        assert msgspec.json.decode(block.data)["choices"][0]["message"]["content"] == TEXT
        _, error = await failed(subject.stream(subject.call(stream=True)))
        assert error.kind is Kind.TIMEOUT

    against("provider", check)


def test_usage_that_came_with_a_wrong_answer_is_told(against: Against):
    """A provider that answers a stream with JSON has worked, and will bill it."""

    async def check(subject):
        body = (
            b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":7,"completion_tokens":3}}'
        )
        server, writers = await speaking(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(body) + body
        )  # fmt: skip
        subject.moves_to(server)
        blocks, error = await failed(subject.stream(subject.call(stream=True)))
        assert (blocks, error.kind) == ([], Kind.PROTOCOL)
        assert error.usage == Usage(7, 3)
        server.close()
        for writer in writers:
            writer.transport.abort()

    against("provider", check)


@pytest.mark.parametrize("finished", [1, 2])
def test_a_stream_of_two_answers_is_whole_when_both_have_ended(finished, against: Against):
    async def check(subject):
        events = [
            b'data: {"choices":[{"index":%d,"delta":{"content":"x"},"finish_reason":%b}]}\n\n'
            % (index, b'"stop"' if index < finished else b"null")
            for index in (0, 1)
        ]
        server, writers = await speaking(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
            + b"".join([*events, b"data: [DONE]\n\n"])
        )
        subject.moves_to(server)
        call = msgspec.structs.replace(subject.call(stream=True), n=2)
        if finished == 2:
            assert events_of(await blocks_of(subject.stream(call)))[-1] == "[DONE]"
        else:
            blocks, error = await failed(subject.stream(call))
            assert error.kind is Kind.CUT
            assert "[DONE]" not in events_of(blocks)
        server.close()
        for writer in writers:
            writer.transport.abort()

    against("provider", check)


async def speaking(data: bytes) -> tuple[asyncio.Server, list[asyncio.StreamWriter]]:
    """A peer that answers with these bytes and then stays."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)

    return await asyncio.start_server(serve, "127.0.0.1", 0), writers


def test_a_provider_sees_its_key_our_hop_and_no_more_of_the_caller(against: Against):
    async def check(subject):
        call = msgspec.structs.replace(
            subject.call(
                priority=1, cache_salt="x", request_id="r", kv_transfer_params={}, vllm_xargs={},
                chat_template="t", data_parallel_rank=1, user="u", metadata={"a": "b"}, store=True,
                service_tier="priority", top_k=5, temperature=0.5,
            ),
            hop="upstream",
        )  # fmt: skip
        await blocks_of(subject.stream(call))
        (seen,) = await subject.seen()
        assert seen["authorization"] == "right"
        assert seen["headers"]["x-ballast-hop"] == "upstream,me"
        assert set(seen["body"]) == {"model", "messages", "max_tokens", "temperature"}
        assert seen["body"]["model"] == "big"

    against("provider", check)


def test_a_provider_that_cannot_be_reached_in_time(against: Against):
    async def check(subject):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            clients = [socket.socket() for _ in range(4)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            subject.has_port(full.getsockname()[1])
            _, error = await failed(subject.stream(subject.call(), 0.3))
            assert error.kind is Kind.TIMEOUT
            for client in clients:
                client.close()

    against("provider", check)
