"""The simulated engine's prefix cache: names of blocks, sharing, forgetting, and what it tells."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capacity import PROFILES, Profile, step_s
from serving.fakes.blocks import BLOCK_TOKENS, Blocks
from serving.fakes.engine import EngineSettings, start_engine
from serving.fakes.generation import ModelLimits, Prompt, Rejection, Surface
from serving.fakes.prefixes import BLOCK_BYTES, chain, chat_bytes, text_bytes
from serving.fakes.scheduler import Scheduler, Sequence
from serving.fakes.validation import parse

LIMITS = ModelLimits("m", 32_768, ("lora",), has_prefix_cache=True)


def small(**changes: int) -> Profile:
    return msgspec.structs.replace(PROFILES["cpu-embedded"], **changes)


def text(tokens: int, seed: int = 0) -> bytes:
    """So many tokens of one text; fewer are its beginning."""
    return random.Random(seed).randbytes(4 * 1000)[: 4 * tokens]


def names(tokens: int, seed: int = 0) -> tuple[bytes, ...]:
    return chain(text(tokens, seed))


def prompt(**body: Any) -> Prompt:
    surface: Surface = "chat" if "messages" in body else "completions"
    found = parse(surface, json.dumps(body).encode(), LIMITS)
    assert not isinstance(found, Rejection), found
    return found.prompts[0]


def say(scheduler: Scheduler, *sequences: Sequence) -> list[float]:
    """Each to its first token, all there at once; returns what the steps took."""
    for sequence in sequences:
        scheduler.add(sequence)
    took = []
    while not all(sequence.generated for sequence in sequences):
        step = scheduler.plan()
        assert step is not None
        took.append(step.duration_s)
        scheduler.commit(step)
    return took


def test_a_block_is_named_by_its_content_and_all_before_it():
    whole = text(200)
    assert chain(whole[:-1]) == chain(whole)[:12], "full blocks only"
    assert len(set(chain(bytes(10 * BLOCK_BYTES)))) == 10, "equal content, another place"
    changed = bytes([whole[0] ^ 1]) + whole[1:]
    assert not set(chain(changed)) & set(chain(whole))
    later = whole[: 5 * BLOCK_BYTES] + bytes(BLOCK_BYTES) + whole[6 * BLOCK_BYTES :]
    assert [a == b for a, b in zip(chain(later), chain(whole), strict=True)] == [True] * 5 + [
        False
    ] * 7


def test_names_do_not_hang_on_where_a_long_prompt_ends():
    long = random.Random(1).randbytes(40 * 4096)
    for cut in (1, 63, 64, 65, 200, 64 * 17 + 3):
        part = chain(long[: cut * BLOCK_BYTES])
        assert part == chain(long)[:cut]


def test_salt_and_adapter_keep_equal_prompts_apart():
    said = [{"role": "user", "content": "word " * 100}]
    plain, again = prompt(messages=said), prompt(messages=said)
    salted, other = (prompt(messages=said, cache_salt=salt) for salt in "ab")
    adapted = prompt(messages=said, model="lora")
    assert plain == again
    assert len({one.chain for one in (plain, salted, other, adapted)}) == 4
    for salt in ("", "a/b", "x" * 129):
        body = json.dumps({"messages": said, "cache_salt": salt}).encode()
        found = parse("chat", body, LIMITS)
        assert isinstance(found, Rejection)
        assert (found.status, found.param) == (400, "cache_salt")


def test_a_conversation_begins_with_what_it_began_with():
    turn = [
        {"role": "system", "content": "Be kind. " * 40},
        {"role": "user", "content": "Hi " * 30},
    ]
    later = [*turn, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "And?"}]
    first, second = prompt(messages=turn), prompt(messages=later)
    assert first.chain == second.chain[: len(first.chain)]
    other = [{**turn[0], "role": "user"}, turn[1]]
    assert prompt(messages=other).chain[0] != first.chain[0]
    for body in (
        {"messages": later},
        {"prompt": "é" * 99},
        {"prompt": list(range(99))},
        {"prompt": [-1] * 99},
    ):
        found = prompt(**body)
        assert len(found.chain) == found.tokens // BLOCK_TOKENS
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert prompt(messages=picture).tokens == len(chat_bytes(picture)) // 4 == 4 + 256
    assert prompt(prompt="abcde").tokens == len(text_bytes("abcde")) // 4 == 2


def test_what_is_remembered_is_not_computed_again_but_for_the_last_token():
    profile = small()
    scheduler = Scheduler(profile)
    first = Sequence(1, 100, chain=names(100))
    assert say(scheduler, first) == pytest.approx([step_s(profile, 1, 0, 100)])
    scheduler.remove(1)
    assert scheduler.load().kv_use == 0.0
    longer, whole = Sequence(2, 130, chain=names(130)), Sequence(3, 96, chain=names(96))
    assert say(scheduler, longer) == pytest.approx([step_s(profile, 1, 96, 34)])
    assert longer.cached == 96
    scheduler.remove(2)
    assert say(scheduler, whole) == pytest.approx([step_s(profile, 1, 80, 16)])
    assert whole.cached == 80, "its last block, for the token that must be computed"
    assert (scheduler.counters.prefix_queries, scheduler.counters.prefix_hits) == (326, 176)
    assert scheduler.load().queued_prefill_tokens == 0


def test_another_prompt_and_one_without_names_find_nothing():
    scheduler = Scheduler(small())
    say(scheduler, Sequence(1, 100, chain=names(100)))
    other, bare = Sequence(2, 100, chain=names(100, seed=1)), Sequence(3, 100)
    say(scheduler, other, bare)
    assert (other.cached, bare.cached) == (0, None)
    assert scheduler.counters.prefix_queries == 200


def test_shared_blocks_count_once_also_when_both_come_at_once():
    scheduler = Scheduler(small(kv_tokens=20 * BLOCK_TOKENS))
    pair = [Sequence(key, 8 * BLOCK_TOKENS + key, chain=names(128)) for key in (1, 2)]
    say(scheduler, *pair)
    assert [one.cached for one in pair] == [0, 128]
    assert scheduler.load().kv_use == 10 / 20
    scheduler.remove(1)
    assert scheduler.load().kv_use == 9 / 20
    scheduler.remove(2)
    assert scheduler.load().kv_use == 0.0


def test_what_was_used_longest_ago_is_forgotten_and_of_it_the_end_first():
    scheduler = Scheduler(small(kv_tokens=16 * BLOCK_TOKENS))
    for key in (1, 2, 1):
        say(scheduler, Sequence(key, 97, chain=names(97, key)))
        scheduler.remove(key)
    say(scheduler, Sequence(3, 97, chain=names(97, 3)))  # 7 blocks; 4 are blank
    scheduler.remove(3)
    assert known(scheduler, 1) == 6, "used since"
    assert known(scheduler, 2) == 3
    assert known(scheduler, 3) == 6


def known(scheduler: Scheduler, seed: int) -> int:
    return len(scheduler.memory.known(names(96, seed)))


def test_what_is_remembered_never_keeps_a_prompt_waiting():
    scheduler = Scheduler(small(kv_tokens=16 * BLOCK_TOKENS))
    for key in range(20):
        say(scheduler, Sequence(key, 240, chain=names(240, key)))
        scheduler.remove(key)
    assert scheduler.counters.preemptions == 0


def test_one_that_was_sent_back_finds_its_own_blocks_again():
    scheduler = Scheduler(small(kv_tokens=9 * BLOCK_TOKENS))
    old, new = Sequence(1, 55, chain=names(55, 1)), Sequence(2, 57, chain=names(57, 2))
    say(scheduler, old, new)
    while not scheduler.counters.preemptions:
        scheduler.commit(scheduler.plan())
    assert (new.computed, new.generated) == (0, 10)
    scheduler.remove(1)
    step = scheduler.plan()
    assert [(one.key, chunk) for one, chunk in step.work] == [(2, 3)], "64 of 67 were there"
    assert new.cached == 0
    assert scheduler.counters.prefix_hits == 0, "vLLM counts the first time only"
    scheduler.commit(step)
    assert scheduler.load().queued_prefill_tokens == 0


def test_names_kept_for_nobody_are_bounded():
    memory = Blocks(100, kept_max=3)
    memory.take(5)
    kept = memory.remember(names(80))
    memory.give_back(kept, 0)
    assert len(memory.known(kept)) == memory.kept == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 150), st.integers(1, 20), st.integers(0, 2)),
        min_size=1, max_size=10,
    )
)  # fmt: skip
def test_every_sequence_gets_all_its_tokens_and_memory_adds_up(jobs):
    scheduler = Scheduler(small(kv_tokens=256, max_num_batched_tokens=64, max_num_seqs=4))
    wanted = {key: tokens for key, (_, tokens, _) in enumerate(jobs)}
    made = dict.fromkeys(wanted, 0)
    for key, (tokens, _, seed) in enumerate(jobs):
        scheduler.add(Sequence(key, tokens, chain=names(tokens, seed)))
    for _ in range(5_000):
        step = scheduler.plan()
        if step is None:
            break
        for sequence in scheduler.commit(step):
            made[sequence.key] += 1
            if made[sequence.key] == wanted[sequence.key]:
                scheduler.remove(sequence.key)
        assert 0.0 <= scheduler.load().kv_use <= 1.0
        assert scheduler.load().queued_prefill_tokens >= 0
        memory = scheduler.memory
        assert memory.used + memory.kept <= memory.total
    assert made == wanted
    load = scheduler.load()
    assert (load.kv_use, load.queued_prefill_tokens, scheduler.unfinished) == (0.0, 0, 0)


def ask(settings: EngineSettings, *bodies: dict[str, Any]) -> tuple[list[Any], str]:
    """The usage of each answer, one after the other, and the metrics page."""

    async def main() -> tuple[list[Any], str]:
        engine = await start_engine(settings)
        told = []
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(10):
                for body in bodies:
                    path = "chat/completions" if "messages" in body else "completions"
                    async with session.post(f"{engine.url}/v1/{path}", json=body) as response:
                        raw = await response.read()
                    events = [line[6:] for line in raw.splitlines() if line.startswith(b"data: {")]
                    told.append(json.loads(events[-1] if events else raw)["usage"])
                async with session.get(f"{engine.url}/metrics") as response:
                    return told, await response.text()
        finally:
            await engine.close()

    return asyncio.run(main())


LONG = [{"role": "user", "content": "word " * 64}]  # 84 tokens with its head: five full blocks
CHAT = {"messages": LONG, "max_tokens": 3}


def test_usage_and_metrics_tell_what_was_remembered():
    streamed = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    asked = [CHAT, streamed, {**CHAT, "n": 2}, {"prompt": "word " * 64, "max_tokens": 3}]
    told, page = ask(EngineSettings(prompt_tokens_details=True), *asked)
    details = [usage["prompt_tokens_details"] for usage in told]
    assert [one["cached_tokens"] for one in details] == [0, 80, 80, 0]
    assert [one["created_cache_tokens"] for one in details] == [80, 0, 0, None]
    assert 'vllm:prefix_cache_queries_total{engine="0",model_name="fake-model"} 416' in page
    assert 'vllm:prefix_cache_hits_total{engine="0",model_name="fake-model"} 240' in page


def test_without_the_flag_usage_tells_nothing_and_without_a_cache_there_is_nothing():
    told, page = ask(EngineSettings(), CHAT, CHAT)
    assert [usage["prompt_tokens_details"] for usage in told] == [None, None]
    assert 'vllm:prefix_cache_hits_total{engine="0",model_name="fake-model"} 80' in page
    off = EngineSettings(prefix_caching=False, prompt_tokens_details=True)
    told, page = ask(off, CHAT, CHAT)
    assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in told] == [0, 0]
    assert 'vllm:prefix_cache_queries_total{engine="0",model_name="fake-model"} 0' in page
