"""The guard's rims: lists taken up while running, the moderation service, policies by tenant."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from pydantic import ValidationError

from serving.backends.base import BlockStream
from serving.errors import CallerError, UpstreamError
from serving.errors import Kind as Fault
from serving.guard import labels
from serving.guard.folding import Folding
from serving.guard.gate import CLOSELY_CHARS, GLANCED_BYTES, Gate, Inspected, seen_by
from serving.guard.lists import FILE_BYTES_MAX, Lists
from serving.guard.memory import NOTHING, Memory
from serving.guard.moderation import ANSWER_BYTES_MAX, TEXT_CHARS_MAX, Moderator, Service
from serving.guard.screening import wants_logprobs
from serving.guard.settings import GuardSettings
from serving.guard.termfile import ListFault
from serving.guard.terms import Terms
from serving.guard.values import Action, Finding, Kind, Policy, Term
from serving.records import Block, Call, Sensitivity, Surface, Ticket

SECRET = b"s" * 32
PHONE = "13800138000"


def write(folder: Path, name: str, *terms: str, action: str = "block") -> None:
    path = folder / f"{name}.txt"
    path.write_text("\n".join([f"#! action: {action}", *terms]), encoding="utf-8")
    # Two writes within a clock tick of the file system differ in nothing but their size.
    stamp = path.stat().st_mtime_ns + 1
    os.utime(path, ns=(stamp, stamp))


# ---- lists


def test_lists_are_read_from_their_folder(tmp_path: Path) -> None:
    write(tmp_path, "one", "敏感词")
    write(tmp_path, "two", "ass", "scam*")
    lists = Lists(tmp_path)
    lists.load()
    assert lists.names == {"one", "two"}
    assert lists.terms is not None
    assert lists.terms.size == 3


def test_no_folder_and_an_empty_folder_hold_no_terms(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        lists = Lists(folder)
        lists.load()
        assert lists.terms is None
        assert not asyncio.run(lists.refresh())


def test_a_changed_list_holds_from_then_on_and_the_old_one_for_whom_it_served(
    tmp_path: Path,
) -> None:
    write(tmp_path, "one", "敏感词")
    lists = Lists(tmp_path)
    lists.load()
    old = lists.terms
    assert old is not None
    assert not asyncio.run(lists.refresh())
    write(tmp_path, "one", "别的词")
    assert asyncio.run(lists.refresh())
    new = lists.terms
    assert new is not None
    assert old.search("敏感词", False, True).matches
    assert not new.search("敏感词", False, True).matches
    assert new.search("别的词", False, True).matches
    (tmp_path / "one.txt").unlink()
    assert asyncio.run(lists.refresh())
    assert lists.terms is None


def test_a_faulty_list_keeps_the_last_good_ones_and_says_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "one", "敏感词")
    lists = Lists(tmp_path)
    lists.load()
    write(tmp_path, "two", "某词\tburn")
    with caplog.at_level(logging.ERROR):
        assert not asyncio.run(lists.refresh())
    assert lists.names == {"one"}
    (record,) = caplog.records
    assert "two, line 2" in record.__dict__["reason"]
    assert "某词" not in record.__dict__["reason"]


def test_a_watcher_takes_up_changes_until_it_is_cancelled(tmp_path: Path) -> None:
    async def work() -> None:
        write(tmp_path, "one", "敏感词")
        lists = Lists(tmp_path)
        lists.load()
        watcher = asyncio.create_task(lists.watch(0.001))
        write(tmp_path, "two", "别的词")
        while lists.names != {"one", "two"}:
            await asyncio.sleep(0.01)
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher

    asyncio.run(work())


def test_a_list_that_cannot_be_used_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(ListFault, match="does not exist"):
        Lists(tmp_path / "none").load()
    (tmp_path / "one.txt").write_bytes(b"\xff")
    with pytest.raises(ListFault, match=r"one\.txt: cannot be read"):
        Lists(tmp_path).load()
    write(tmp_path, "one", "。。")
    with pytest.raises(ListFault, match="one: a term needs"):
        Lists(tmp_path).load()
    with (tmp_path / "one.txt").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(ListFault, match="larger than 16 MiB"):
        Lists(tmp_path).load()


# ---- moderation

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def moderated(answer: Answer, **more: Any) -> AsyncIterator[tuple[Moderator, list[float]]]:
    """A moderator that asks a service of ours, and its clock."""
    app = web.Application()
    app.router.add_post("/judge", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    now = [100.0]
    moderator = Moderator(Service(f"http://127.0.0.1:{port}/judge", **more), lambda: now[0])
    try:
        yield moderator, now
    finally:
        await moderator.close()
        await runner.cleanup()


def says(body: Any, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return answer


async def asked(answer: Answer, text: str = "text", fails_open: bool = False, **more: Any) -> Any:
    async with moderated(answer, **more) as (moderator, _):
        return await moderator.ask(text, "input", fails_open)


ANSWERS: dict[str, tuple[Any, Action | None, str]] = {
    "pass": ({"action": "pass"}, None, ""),
    "flag": ({"action": "flag", "categories": ["spam"]}, Action.FLAG, "spam"),
    "block": ({"action": "block", "categories": ["a", "b\n"]}, Action.BLOCK, "a"),
    "openai, clean": ({"results": [{"flagged": False, "categories": {"x": False}}]}, None, ""),
    "openai, flagged": (
        {"results": [{"flagged": True, "categories": {"x": True, "y": False}}]},
        Action.BLOCK, "x"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "action", "reason"), ANSWERS.values(), ids=list(ANSWERS))
def test_the_service_s_answer_is_what_is_done(
    body: Any, action: Action | None, reason: str
) -> None:
    judgement = asyncio.run(asked(says(body)))
    assert judgement == (action, reason, True)


def test_the_service_gets_the_text_and_its_token_alone() -> None:
    seen: list[tuple[Any, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers.get("authorization")))
        return web.json_response({"action": "pass"})

    asyncio.run(asked(answer, "文本", token="t"))
    assert seen == [({"input": "文本", "stage": "input"}, "Bearer t")]


async def redirect(request: web.Request) -> web.Response:
    raise web.HTTPFound("/judge2")


async def huge(request: web.Request) -> web.Response:
    return web.Response(body=b" " * (ANSWER_BYTES_MAX + 1))


async def garbage(request: web.Request) -> web.Response:
    return web.Response(body=b"\xff{")


FAILURES: dict[str, Answer] = {
    "an error": says({"action": "pass"}, 500),
    "another action": says({"action": "think"}),
    "nothing": says({}),
    "a redirect": redirect,
    "too much": huge,
    "garbage": garbage,
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=list(FAILURES))
def test_a_service_that_fails_fails_as_the_policy_says(answer: Answer) -> None:
    closed = asyncio.run(asked(answer))
    assert (closed.action, closed.is_answered) == (Action.BLOCK, False)
    opened = asyncio.run(asked(answer, fails_open=True))
    assert (opened.action, opened.is_answered) == (None, False)


def test_a_silent_or_absent_service_is_not_waited_for() -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    judgement = asyncio.run(asked(silent, timeout_s=0.01))
    assert judgement == (Action.BLOCK, Fault.TIMEOUT, False)

    async def absent() -> Any:
        moderator = Moderator(Service("http://127.0.0.1:1/"), lambda: 0.0)
        try:
            return await moderator.ask("text", "input", fails_open=True)
        finally:
            await moderator.close()

    assert asyncio.run(absent()) == (None, Fault.CONNECT, False)


def test_a_text_too_long_to_ask_about_counts_as_unanswered() -> None:
    judgement = asyncio.run(asked(says({"action": "pass"}), "x" * (TEXT_CHARS_MAX + 1)))
    assert judgement == (Action.BLOCK, "too_long", False)


def test_a_failing_service_is_left_alone_then_probed() -> None:
    questions = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal questions
        questions += 1
        return web.json_response({"action": "pass"}, status=500 if questions < 4 else 200)

    async def work() -> None:
        async with moderated(answer) as (moderator, now):
            for _ in range(3):
                await moderator.ask("text", "input", fails_open=False)
            shut = await moderator.ask("text", "input", fails_open=False)
            assert shut == (Action.BLOCK, "breaker_open", False)
            assert questions == 3
            now[0] += 11.0
            assert (await moderator.ask("text", "input", fails_open=False)).is_answered
            assert (await moderator.ask("text", "input", fails_open=False)).is_answered

    asyncio.run(work())


def test_a_caller_who_leaves_says_nothing_of_the_service() -> None:
    async def work() -> None:
        came = asyncio.Event()

        async def silent(request: web.Request) -> web.Response:
            came.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with moderated(silent, timeout_s=30.0) as (moderator, _):
            for _ in range(5):
                came.clear()
                asking = asyncio.create_task(moderator.ask("text", "input", fails_open=False))
                await came.wait()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

    asyncio.run(work())


# ---- settings


def test_nothing_set_is_relay() -> None:
    settings = GuardSettings()
    assert settings.default.policy("us") == Policy()
    assert settings.default.policy("us").is_relay


def test_settings_become_a_policy() -> None:
    settings = GuardSettings.model_validate({"producer": "us", "default": {
        "sensitivity": "personal", "lists": ["one"], "personal": "mask",
        "kinds": {"EMAIL": "off", "SSN": "block", "OLDID": "mask"}, "blocks_opaque": True,
        "ai_text": "default", "ai_metadata": True, "moderation": "closed",
    }})  # fmt: skip
    policy = settings.default.policy("us")
    assert policy.label is Sensitivity.PERSONAL
    assert policy.personal[Kind.PHONE] is Action.MASK
    assert policy.personal[Kind.SSN] is Action.BLOCK
    assert policy.personal[Kind.OLD_IDENTITY] is Action.MASK
    assert Kind.EMAIL not in policy.personal
    assert (policy.ai_text, policy.ai_producer) == (labels.EXPLICIT, "us")
    assert policy.opaque_action is Action.BLOCK
    flagged = GuardSettings.model_validate({"default": {"personal": "mask"}}).default.policy("")
    assert flagged.personal[Kind.OLD_IDENTITY] is Action.FLAG


@pytest.mark.parametrize("wrong", [
    {"colour": 1}, {"default": {"mask": "xx"}}, {"default": {"mask": "a"}},
    {"default": {"personal": "hide"}}, {"default": {"kinds": {"SHOE": "mask"}}},
    {"moderation": {"url": "file:///etc/passwd"}}, {"moderation": {"url": "http://u:p@h/"}},
    {"moderation": {"url": "http://h/?x=1"}}, {"check_s": 0},
])  # fmt: skip
def test_a_wrong_setting_refuses_to_start(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        GuardSettings.model_validate(wrong)


# ---- the gate


def fields(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}


def chat(make: Any, text: str, **changes: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    body |= changes.pop("body", {})
    given = fields(body)
    return make.call(fields=given, prompt=bytes(given["messages"]), **changes)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    folder = tmp_path_factory.mktemp("lists")
    write(folder, "rude", "敏感词", action="mask")
    write(folder, "bad", "坏词")
    settings = GuardSettings.model_validate({
        "terms_dir": folder, "producer": "us",
        "tenants": {
            "acme": {"personal": "mask", "lists": ["bad", "rude"]},
            "masks": {"personal": "mask"},
            "marks": {"ai_text": "default", "ai_metadata": True},
        },
    })  # fmt: skip
    made = Gate(settings, SECRET, None)
    made.load()
    return made


def test_a_tenant_without_a_policy_is_relayed(gate: Gate, make: Any) -> None:
    call = chat(make, PHONE, tenant="other")
    verdict = asyncio.run(gate.screen(call))
    assert gate.policy("other").is_relay
    assert verdict.fields is call.fields
    assert gate.inspector(call, verdict, is_egress=True) is None
    assert seen_by(call, verdict.egress_fields) is call


def test_a_gate_without_policies_reads_nothing_at_the_start(tmp_path: Path, make: Any) -> None:
    gate = Gate(GuardSettings(terms_dir=tmp_path / "none"), SECRET, None)
    gate.load()
    assert not asyncio.run(gate.screen(chat(make, PHONE))).findings


def test_a_list_that_is_named_and_not_there_refuses_to_start(tmp_path: Path) -> None:
    settings = GuardSettings.model_validate(
        {"terms_dir": tmp_path, "tenants": {"acme": {"lists": ["none"]}}}
    )
    with pytest.raises(ListFault, match="no term list named none"):
        Gate(settings, SECRET, None).load()


def test_each_target_sees_its_form_of_the_call(gate: Gate, make: Any) -> None:
    call = chat(make, f"敏感词，打{PHONE}")
    verdict = asyncio.run(gate.screen(call))
    own, out = seen_by(call, verdict.fields), seen_by(call, verdict.egress_fields)
    assert json.loads(own.prompt)[0]["content"] == f"***，打{PHONE}"
    assert json.loads(out.prompt)[0]["content"].startswith("***，打MASKED_PHONE_1_")
    assert out.prompt == bytes(out.fields["messages"])
    assert call.prompt == bytes(call.fields["messages"])


def test_another_try_masks_as_the_first_did(gate: Gate, make: Any) -> None:
    call = chat(make, f"打{PHONE}")
    forms = [bytes(asyncio.run(gate.screen(call)).egress_fields["messages"]) for _ in range(2)]
    assert forms[0] == forms[1]
    other = asyncio.run(gate.screen(chat(make, f"打{PHONE}", number=2)))
    assert bytes(other.egress_fields["messages"]) != forms[0]


@pytest.mark.parametrize("size", [100, GLANCED_BYTES, GLANCED_BYTES + 1])
def test_a_large_input_is_screened_all_the_same(gate: Gate, make: Any, size: int) -> None:
    text = "。" * CLOSELY_CHARS + PHONE
    verdict = asyncio.run(gate.screen(chat(make, text, size=size)))
    assert list(verdict.vault.values.values()) == [PHONE]


def test_a_changed_list_holds_for_what_was_found_clean_before(tmp_path: Path, make: Any) -> None:
    write(tmp_path, "bad", "坏词")
    given = {"terms_dir": tmp_path, "default": {"lists": ["bad"]}}
    gate = Gate(GuardSettings.model_validate(given), SECRET, None)
    gate.load()

    def is_blocked(text: str) -> bool:
        return asyncio.run(gate.screen(chat(make, text))).is_blocked

    for _ in range(2):
        assert not is_blocked("新词")
        assert is_blocked("坏词")
    write(tmp_path, "bad", "新词")
    assert asyncio.run(gate.lists.refresh())
    assert is_blocked("新词")
    assert not is_blocked("坏词")


@pytest.mark.parametrize("remembers", [True, False])
def test_only_a_guard_that_is_to_remember_remembers(
    tmp_path: Path, make: Any, remembers: bool
) -> None:
    write(tmp_path, "bad", "坏词")
    given = {"terms_dir": tmp_path, "default": {"lists": ["bad"]}, "remembers": remembers}
    gate = Gate(GuardSettings.model_validate(given), SECRET, None)
    gate.load()
    for _ in range(2):
        assert not asyncio.run(gate.screen(chat(make, "好词"))).is_blocked
    assert (gate.remembered > 0) == remembers


def test_what_goes_on_under_the_lists_before_is_not_remembered_for_those_of_now(
    folding: Folding,
) -> None:
    before, now = (
        Terms([Term(text, "l", "c", Action.BLOCK)], folding) for text in ("坏词", "新词")
    )
    old, new = Memory(SECRET, before), Memory(SECRET, now)
    old.of("acme").put("新词", NOTHING)
    assert new.of("acme").get("新词") is None


def test_only_what_needs_it_is_inspected(gate: Gate, make: Any) -> None:
    def inspected(tenant: str, text: str, is_egress: bool, **changes: Any) -> bool:
        call = chat(make, text, tenant=tenant, **changes)
        verdict = asyncio.run(gate.screen(call))
        return gate.inspector(call, verdict, is_egress) is not None

    assert inspected("acme", "你好", is_egress=False)
    assert inspected("masks", PHONE, is_egress=True)
    assert not inspected("masks", PHONE, is_egress=False)
    assert not inspected("masks", "你好", is_egress=True)
    assert inspected("marks", "你好", is_egress=False)
    assert not inspected("acme", "你好", is_egress=False, surface=Surface.TOKENIZE)


LOGPROBS = [("logprobs", True, True), ("logprobs", 5, True), ("logprobs", 0, True),
            ("logprobs", False, False), ("top_logprobs", None, False),
            ("prompt_logprobs", 1, True), ("stream", True, False)]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "is_wanted"), LOGPROBS)
def test_logprobs_cannot_be_had_with_inspection(name: str, given: Any, is_wanted: bool) -> None:
    assert wants_logprobs(fields({name: given})) is is_wanted


def test_moderation_is_asked_where_the_policy_says_so(make: Any) -> None:
    settings = GuardSettings.model_validate({"tenants": {
        "open": {"moderation": "open"}, "closed": {"moderation": "closed"}}})  # fmt: skip

    async def work() -> None:
        async with moderated(says({}, 500)) as (moderator, _):
            gate = Gate(settings, SECRET, moderator)
            gate.load()
            for tenant, action in (("open", None), ("closed", Action.BLOCK)):
                call = chat(make, "text", tenant=tenant)
                assert (await gate.screen(call)).texts == ("text",)
                judgement = await gate.moderate(call, "text", "input")
                assert judgement is not None
                assert judgement.action is action
            other = chat(make, "text", tenant="other")
            assert await gate.moderate(other, "text", "input") is None

    asyncio.run(work())


def test_an_input_is_admitted_with_the_whole_verdict(gate: Gate, make: Any) -> None:
    def admitted(text: str, tenant: str = "acme", **body: Any) -> Any:
        return asyncio.run(gate.admit(chat(make, text, tenant=tenant, body=body)))

    assert admitted(PHONE, "other", logprobs=True) is None
    assert admitted(PHONE).sensitivity is Sensitivity.PERSONAL
    assert admitted("坏词").is_blocked
    with pytest.raises(CallerError, match="logprobs"):
        admitted("你好", logprobs=True)
    assert not admitted("你好", "masks", logprobs=True).is_blocked


def test_what_the_service_says_is_part_of_the_verdict(make: Any) -> None:
    settings = GuardSettings.model_validate({"default": {"moderation": "closed"}})

    async def admitted(body: dict[str, Any]) -> Any:
        async with moderated(says(body)) as (moderator, _):
            gate = Gate(settings, SECRET, moderator)
            gate.load()
            return await gate.admit(chat(make, "text"))

    assert not asyncio.run(admitted({"action": "pass"})).findings
    for action in (Action.FLAG, Action.BLOCK):
        body = {"action": action.name.lower(), "categories": ["spam"]}
        verdict = asyncio.run(admitted(body))
        assert verdict.findings == {Finding("moderation", action, "messages", "spam"): 1}
        assert verdict.is_blocked is (action is Action.BLOCK)


class Target:
    """A backend that repeats the first placeholder it is sent, or the text."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def stream(self, call: Call, target: Any, ticket: Ticket, deadline_s: float) -> BlockStream:
        text = json.loads(call.prompt)[0]["content"]
        self.seen.append(text)
        return Upstream(event(text))

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("is_egress", [True, False])
def test_a_target_sees_what_it_may_and_the_client_what_was_sent(
    gate: Gate, make: Any, is_egress: bool
) -> None:
    target, call = Target(), chat(make, f"打{PHONE}。")
    where = make.offering() if is_egress else make.replica()
    ticket = Ticket(call.request_id, 1, where, "", 0.0, 1, 1, 0.0, is_egress)

    async def work() -> list[Block]:
        verdict = await gate.admit(call)
        assert verdict is not None
        stream = target.stream(gate.seen(call, verdict, ticket), where, ticket, 60.0)
        return [block async for block in gate.inspected(stream, call, verdict, ticket)]

    (block,) = asyncio.run(work())
    assert (PHONE in target.seen[0]) is not is_egress
    assert PHONE in json.loads(block.data[6:])["choices"][0]["delta"]["content"]


class Upstream:
    """Blocks, then a failure or the end."""

    def __init__(self, *blocks: Block, fault: UpstreamError | None = None) -> None:
        self.blocks = list(blocks)
        self.fault = fault
        self.aborts = 0

    def __aiter__(self) -> Upstream:
        return self

    async def __anext__(self) -> Block:
        if self.blocks:
            return self.blocks.pop(0)
        if self.fault is not None:
            raise self.fault
        raise StopAsyncIteration

    def abort(self) -> None:
        self.aborts += 1


def event(text: str) -> Block:
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return Block(b"data: " + json.dumps(body).encode() + b"\n\n", 1, opens=True)


async def answered(gate: Gate, call: Call, upstream: Upstream) -> list[Block]:
    verdict = await gate.screen(call)
    inspector = gate.inspector(call, verdict, is_egress=True)
    assert inspector is not None
    return [block async for block in Inspected(upstream, inspector, call.stream)]


def test_a_blocked_stream_stops_its_target_and_ends(gate: Gate, make: Any) -> None:
    upstream = Upstream(event("好的，坏词"), event("more"))
    blocks = asyncio.run(answered(gate, chat(make, "你好"), upstream))
    assert [block.finish for block in blocks] == ["content_filter"]
    assert blocks[0].ends
    assert upstream.aborts == 1


def test_what_was_held_leaves_ahead_of_a_failure(gate: Gate, make: Any) -> None:
    fault = UpstreamError(Fault.CUT, "cut")
    upstream = Upstream(event("好，敏感"), fault=fault)

    async def work() -> list[Block]:
        call = chat(make, "你好")
        verdict = await gate.screen(call)
        inspector = gate.inspector(call, verdict, is_egress=False)
        assert inspector is not None
        seen: list[Block] = []
        stream = Inspected(upstream, inspector, is_stream=True)
        seen.append(await anext(stream))
        seen.append(await anext(stream))
        with pytest.raises(UpstreamError) as caught:
            await anext(stream)
        assert caught.value is fault
        return seen

    texts = b"".join(block.data for block in asyncio.run(work())).decode()
    assert "敏感" in texts


def test_a_failure_with_nothing_held_comes_at_once(gate: Gate, make: Any) -> None:
    fault = UpstreamError(Fault.CUT, "cut")
    with pytest.raises(UpstreamError):
        asyncio.run(answered(gate, chat(make, "你好"), Upstream(event("好。"), fault=fault)))


def test_a_plain_answer_passes_the_inspector_too(gate: Gate, make: Any) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "敏感词"},
                         "finish_reason": "stop"}]}  # fmt: skip
    upstream = Upstream(Block(json.dumps(body).encode(), 1, opens=True, ends=True))
    (block,) = asyncio.run(answered(gate, chat(make, "你好", stream=False), upstream))
    assert json.loads(block.data)["choices"][0]["message"]["content"] == "***"


def test_answers_are_marked_unless_they_are_json(gate: Gate, make: Any) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "1"},
                         "finish_reason": "stop"}]}  # fmt: skip
    for wanted, text in ((None, "1" + labels.EXPLICIT), ({"type": "json_object"}, "1")):
        call = chat(make, "你好", stream=False, tenant="marks", body={"response_format": wanted})
        upstream = Upstream(Block(json.dumps(body).encode(), 1, opens=True, ends=True))
        (block,) = asyncio.run(answered(gate, call, upstream))
        answer = json.loads(block.data)
        assert answer["choices"][0]["message"]["content"] == text
        assert answer["AIGC"]["ContentProducer"] == "us"
        assert answer["AIGC"]["ProduceID"] == call.request_id


def test_an_abort_reaches_the_target(gate: Gate, make: Any) -> None:
    async def work() -> None:
        call = chat(make, "你好")
        inspector = gate.inspector(call, await gate.screen(call), is_egress=False)
        assert inspector is not None
        upstream = Upstream(event("x"))
        stream = Inspected(upstream, inspector, is_stream=True)
        stream.abort()
        assert upstream.aborts == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(work())
