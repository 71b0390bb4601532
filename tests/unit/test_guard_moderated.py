"""Answers judged on their way: with `closed` nothing leaves unjudged, with `open` the stream ends
when the refusal comes, and an end is never delivered before the last judgement."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import Kind, UpstreamError
from serving.guard.channels import Output
from serving.guard.gate import Inspected
from serving.guard.inspector import Asked, Inspector
from serving.guard.moderated import Closed, Moderated, Open
from serving.guard.moderation import Judgement
from serving.guard.values import Action, Policy
from serving.guard.windows import CHARS_MAX, CONTEXT_CHARS, FIRST_CHARS, Windows
from serving.records import Block, Usage

PASS, BAD = Judgement(None, "", True), Judgement(Action.BLOCK, "violence", True)
DONE = Block(b"data: [DONE]\n\n", ends=True)


def delta(text: str, finish: str | None = None) -> Block:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    data = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    return Block(data, 1, None, finish, opens=bool(text))


class Source:
    """A target's stream; says how far it was read."""

    def __init__(self, *blocks: Block, fault: UpstreamError | None = None) -> None:
        self.blocks, self.fault, self.read, self.is_aborted = list(blocks), fault, 0, False

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Block:
        if self.read == len(self.blocks):
            if self.fault is not None:
                raise self.fault
            raise StopAsyncIteration
        self.read += 1
        return self.blocks[self.read - 1]

    def abort(self) -> None:
        self.is_aborted = True


class Judge:
    """Refuses what holds the word; answers when let."""

    def __init__(self, word: str = "bad") -> None:
        self.word, self.asked, self.may_answer = word, list[str](), asyncio.Event()
        self.may_answer.set()

    async def __call__(self, text: str) -> Judgement:
        self.asked.append(text)
        await self.may_answer.wait()
        return BAD if self.word in text else PASS


def made(
    kind: type[Moderated], source: Source, ask: Callable[[str], Awaitable[Judgement]],
    *, is_stream: bool = True,
) -> Moderated:  # fmt: skip
    policy = Policy(moderation="closed")
    asked = Asked(lambda events: Usage(3, events, is_estimated=True), wants_usage=True)
    inspector = Inspector(Output(policy, None, None), asked)
    return kind(Inspected(source, inspector, is_stream), inspector, ask)


async def drained(stream: Moderated) -> list[Block]:
    return [block async for block in stream]


def text_of(blocks: list[Block]) -> str:
    out = ""
    for block in blocks:
        for raw in block.data.split(b"\n\n"):
            if raw.startswith(b"data: {"):
                for choice in json.loads(raw[6:])["choices"]:
                    out += choice["delta"].get("content") or ""
    return out


@pytest.mark.parametrize("kind", [Open, Closed])
def test_what_is_judged_fine_leaves_as_it_came(kind: type[Moderated]) -> None:
    async def check() -> None:
        blocks = [delta(f"word{n} ") for n in range(40)] + [delta("", "stop"), DONE]
        judge = Judge()
        out = await drained(made(kind, Source(*blocks), judge))
        assert out == blocks
        assert "".join(judge.asked)
        assert text_of(blocks).endswith(judge.asked[-1])

    asyncio.run(check())


@given(
    st.lists(st.sampled_from(["a", "bc ", "好", "x" * 50, "bad", "b", "ad"]), max_size=30),
    st.sampled_from([Open, Closed]),
)
def test_every_character_is_judged_and_a_refused_answer_ends_as_one(
    pieces: list[str], kind: type[Moderated]
) -> None:
    async def check() -> None:
        source = Source(*map(delta, pieces), delta("", "stop"), DONE)
        judge = Judge()
        out = await drained(made(kind, source, judge))
        whole = "".join(pieces)
        if "bad" in whole:
            assert source.is_aborted
            assert b'"finish_reason":"content_filter"' in out[-1].data
            assert out[-1].data.endswith(b"data: [DONE]\n\n")
            assert out[-1].ends
            assert b'"stop"' not in b"".join(b.data for b in out)
            if kind is Closed:
                assert "bad" not in text_of(out)
        else:
            assert text_of(out) == whole
            assert not source.is_aborted

    asyncio.run(check())


def test_closed_holds_what_is_not_judged_and_open_does_not() -> None:
    async def check() -> None:
        for kind, delivered in ((Closed, 0), (Open, 3)):
            judge = Judge()
            judge.may_answer.clear()
            texts = "x" * FIRST_CHARS, "bad", "more"
            source = Source(*map(delta, texts), delta("", "stop"), DONE)
            stream = made(kind, source, judge)
            seen: list[Block] = []

            async def read(stream: Moderated = stream, seen: list[Block] = seen) -> None:
                async for block in stream:
                    seen.append(block)  # noqa: PERF401 - looked at while it grows

            task = asyncio.create_task(read())
            for _ in range(20):
                await asyncio.sleep(0)
            assert len([b for b in seen if b.opens]) == delivered
            judge.may_answer.set()
            await task
            assert seen[-1].finish == "content_filter"

    asyncio.run(check())


def test_the_end_waits_for_the_last_judgement() -> None:
    async def check() -> None:
        judge = Judge()
        out = await drained(made(Open, Source(delta("bad"), DONE), judge))
        assert out[-1].finish == "content_filter"
        assert judge.asked == ["bad"]

    asyncio.run(check())


@pytest.mark.parametrize(("word", "refused"), [("fine", False), ("bad", True)])
def test_a_plain_answer_is_judged_whole_and_keeps_its_usage(word: str, refused: bool) -> None:
    async def check() -> None:
        message = {"role": "assistant", "content": word, "reasoning_content": "hm"}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        block = Block(json.dumps(body).encode(), 1, Usage(5, 7), "stop", opens=True, ends=True)
        judge = Judge()
        stream = made(Moderated, Source(block), judge, is_stream=False)
        out = await stream.__anext__()
        assert sorted(judge.asked[0]) == sorted(word + "hm")
        assert (word.encode() not in out.data) == refused
        assert (out.usage, out.opens) == (Usage(5, 7), True)
        assert (out.finish == "content_filter") == refused

    asyncio.run(check())


@pytest.mark.parametrize("kind", [Open, Closed])
def test_a_broken_stream_delivers_what_was_judged_and_breaks(kind: type[Moderated]) -> None:
    async def check() -> None:
        fault = UpstreamError(Kind.CUT, "gone")
        stream = made(kind, Source(delta("hello"), fault=fault), Judge())
        assert text_of([await stream.__anext__()]) == "hello"
        with pytest.raises(UpstreamError):
            await stream.__anext__()

    asyncio.run(check())


def test_closed_delivers_nothing_refused_of_a_broken_stream() -> None:
    async def check() -> None:
        fault = UpstreamError(Kind.CUT, "gone")
        out = await drained(made(Closed, Source(delta("bad"), fault=fault), Judge()))
        assert text_of(out) == ""
        assert out[-1].finish == "content_filter"

    asyncio.run(check())


def test_leaving_early_ends_the_question_too() -> None:
    async def check() -> None:
        judge = Judge()
        judge.may_answer.clear()
        stream = made(Open, Source(delta("x" * FIRST_CHARS), delta("y")), judge)
        await stream.__anext__()
        await asyncio.sleep(0)
        stream.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(check())


def test_a_flag_lets_pass_and_is_counted() -> None:
    async def ask(_: str) -> Judgement:
        return Judgement(Action.FLAG, "rude", True)

    async def check() -> None:
        stream: Any = made(Closed, Source(delta("hm"), DONE), ask)
        assert text_of(await drained(stream)) == "hm"
        ((finding, count),) = stream._inspector.output.findings.items()
        assert (finding.kind, finding.action, count) == ("moderation", Action.FLAG, 1)

    asyncio.run(check())


@given(st.lists(st.text(max_size=400), max_size=40))
def test_windows_grow_ask_about_all_and_repeat_what_was_before(pieces: list[str]) -> None:
    windows, judged = Windows(), ""
    for piece in pieces:
        windows.take(piece)
        text = windows.due(False)
        if text:
            new = text[min(len(judged), CONTEXT_CHARS) :]
            assert text.startswith(judged[-CONTEXT_CHARS:])
            assert len(new) >= FIRST_CHARS
            judged += new
        assert windows.pending < CHARS_MAX
    text = windows.due(True)
    judged += text[min(len(judged), CONTEXT_CHARS) :] if text else ""
    assert judged == "".join(pieces)
