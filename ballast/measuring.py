"""`ballast models profile`: drive a live engine with a small designed load, learn its step times.

Bounded in time, sequences and tokens. Prompts are random token ids, so that no prefix cache helps;
answers run to their limit whatever they say. Nothing else should use the engine meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from ballast.messages import Said, say
from ballast.problem import ProblemError, worded
from ballast.token_stream import Engine, Stream
from models.learn import Decoding, Learnt, Loop, NotEnoughError, Prompt, checked, learn
from models.steady import Demand

SHORT_TOKENS = 64
ANSWER_TOKENS = 48
ANSWER_TOKENS_MAX = 768
WINDOW_TOKENS_MIN = 16
"""Of each answer, while all of them decode."""
REPEATS = 4
"""Of each prompt length; the first, which may compile something, is not counted."""
LOOP_PROMPT, LOOP_ANSWERS, LOOP_ROUNDS, LOOP_SKIPPED = 256, (16, 112), 7, 2
"""Answers of different lengths, else all callers would stay in step with each other."""
LOOP_SHARE = 0.3
"""Of the time, kept for that loop: it is what the fit is held against."""

Tell = Callable[[str], None]
K = TypeVar("K")
V = TypeVar("V")


class Plan(msgspec.Struct, frozen=True):
    """What to measure, and its bounds."""

    url: str
    """`http://host:port/prefix/v1`"""
    model: str = ""
    budget_s: float = 600.0
    sequences: int = 64
    context_tokens: int = 8192
    """All sequences together hold at most twice as much, and one prompt half of it."""
    touched: float = 0.0
    """Share of its experts that one token chooses."""
    key_env: str = ""
    """Variable that holds the API key."""
    secret_file: Path | None = None
    """The engines' deployment secret."""


def measure(plan: Plan, tell: Tell) -> Learnt:
    """Measure and fit; `tell` hears of each step. Raises ProblemError."""
    try:
        return asyncio.run(measured(plan, tell))
    except NotEnoughError as error:
        raise ProblemError(worded(error), Said("models.more_time")) from None
    except TimeoutError:
        raise ProblemError(
            Said("models.too_long", url=plan.url), Said("models.lower_sequences")
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise ProblemError(f"{plan.url}: {error}", Said("models.engine_up")) from None


async def measured(plan: Plan, tell: Tell) -> Learnt:
    """As `measure`, in the running loop. Raises NotEnoughError, ProblemError, aiohttp's errors."""
    until_s = asyncio.get_running_loop().time() + plan.budget_s
    fit_until_s = until_s - LOOP_SHARE * plan.budget_s
    limits = aiohttp.TCPConnector(limit=0)
    patience = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(
        headers=_headers(plan), connector=limits, timeout=patience
    ) as session:
        engine = Engine(session, plan.url.rstrip("/"), plan.model, random.Random(1))  # noqa: S311
        await engine.find_model()
        await engine.answers(1, SHORT_TOKENS, WINDOW_TOKENS_MIN)  # the first call warms it
        decodings, prompts = await _seen(engine, plan, fit_until_s, tell)
        learnt = learn(decodings, prompts, plan.touched)
        loop = await closed_loop(engine, max(2, plan.sequences // 2), until_s)
        return checked(learnt, loop)


async def _seen(
    engine: Engine, plan: Plan, until_s: float, tell: Tell
) -> tuple[list[Decoding], list[Prompt]]:
    """Everything twice while there is time, and the quicker of each counts: what else runs on the
    machine only lengthens steps."""
    prompts = await _prompts(engine, plan, tell)
    first = await _decodings(engine, plan, until_s, tell)
    if asyncio.get_running_loop().time() > until_s:
        return list(first.values()), list(prompts.values())
    prompts = _quicker(prompts, await _prompts(engine, plan, tell), lambda p: p.first_token_s)
    second = await _decodings(engine, plan, until_s, tell)
    return list(_quicker(first, second, lambda d: d.step_s).values()), list(prompts.values())


def _quicker(one: dict[K, V], other: dict[K, V], seconds: Callable[[V], float]) -> dict[K, V]:
    both = {key: min(one[key], other[key], key=seconds) for key in one.keys() & other.keys()}
    return one | other | both


async def _prompts(engine: Engine, plan: Plan, tell: Tell) -> dict[int, Prompt]:
    """Time to first token of single prompts of four lengths: the median of a few each."""
    found = {}
    longest = plan.context_tokens // 2
    for tokens in sorted({SHORT_TOKENS, longest // 4, longest // 2, longest}):
        streams = [(await engine.answers(1, tokens, 1))[0] for _ in range(REPEATS)]
        seen = Prompt(tokens, median(s.first_s for s in streams[1:]))
        tell(
            say(
                "models.prompt_seen",
                tokens=tokens,
                first_token_s=f"{seen.first_token_s * 1000.0:.1f}",
            )
        )
        found[tokens] = seen
    return found


async def _decodings(
    engine: Engine, plan: Plan, until_s: float, tell: Tell
) -> dict[tuple[int, int], Decoding]:
    found = {}
    for sequences, tokens in cells(plan):
        if asyncio.get_running_loop().time() > until_s:
            tell(say("models.time_up"))
            break
        seen = await _decoding(engine, sequences, tokens)
        if seen is not None:
            tell(
                say(
                    "models.step_seen",
                    sequences=sequences,
                    tokens=tokens,
                    step_s=f"{seen.step_s * 1000.0:.2f}",
                )
            )
            found[sequences, tokens] = seen
    return found


def cells(plan: Plan) -> Iterator[tuple[int, int]]:
    """(sequences, prompt tokens) to time: numbers double, contexts go from short to the bound."""
    held_max = 2 * plan.context_tokens
    counts = [1 << power for power in range(plan.sequences.bit_length())]
    for count in (c for c in counts if c <= plan.sequences):
        longest = min(plan.context_tokens // 2, held_max // count - 2 * ANSWER_TOKENS)
        for tokens in sorted({SHORT_TOKENS, longest // 2, longest}):
            if SHORT_TOKENS <= tokens <= longest:
                yield count, tokens


async def _decoding(engine: Engine, sequences: int, tokens: int) -> Decoding | None:
    """A step of so many sequences that all decode; None when their prompts took longer than the
    longest answers."""
    answer = ANSWER_TOKENS
    while answer <= ANSWER_TOKENS_MAX:
        seen = window(await engine.answers(sequences, tokens, answer))
        if seen is not None:
            return seen
        answer *= 2
    return None


def window(streams: list[Stream]) -> Decoding | None:
    """What the moments in which all answers decode say; None when they are too few. The median
    between two tokens counts: a pause of the machine is not the engine's step."""
    start_s = max(s.times_s[0] for s in streams)
    end_s = min(s.times_s[-1] for s in streams)
    inside = [[t for t in s.times_s if start_s <= t <= end_s] for s in streams]
    made = [s.per_event() * len(times) for s, times in zip(streams, inside, strict=True)]
    if sum(made) / len(made) < WINDOW_TOKENS_MIN:
        return None
    before = [s.per_event() * sum(t < start_s for t in s.times_s) for s in streams]
    held = sum(s.prompt_tokens + b + m / 2 for s, b, m in zip(streams, before, made, strict=True))
    gaps = [
        (later - earlier) / s.per_event()
        for s, times in zip(streams, inside, strict=True)
        for earlier, later in itertools.pairwise(times)
    ]
    return Decoding(len(streams), held, median(gaps))


class Answers(Protocol):
    """What the loop needs of an engine."""

    async def answers(self, count: int, prompt_tokens: int, answer_tokens: int) -> list[Stream]:
        """Answers of one wave; see `Engine`."""
        ...


async def closed_loop(engine: Answers, callers: int, until_s: float) -> Loop:
    """Some rounds of a closed loop; the first ones, all prompts at once, are not counted. When the
    time is up no caller begins another round, once it has one that counts."""
    lengths, clock = random.Random(2), asyncio.get_running_loop()  # noqa: S311

    async def call() -> list[Stream]:
        rounds: list[Stream] = []
        while len(rounds) < LOOP_ROUNDS and (len(rounds) <= LOOP_SKIPPED or clock.time() < until_s):
            rounds += await engine.answers(1, LOOP_PROMPT, lengths.randint(*LOOP_ANSWERS))
        return rounds[LOOP_SKIPPED:]

    rounds = await asyncio.gather(*(call() for _ in range(callers)))
    kept = [stream for some in rounds for stream in some]
    further = sum(s.completion_tokens - 1 for s in kept)
    return Loop(
        Demand(LOOP_PROMPT, (LOOP_ANSWERS[0] + LOOP_ANSWERS[1]) // 2, callers),
        sum(s.first_s for s in kept) / len(kept),
        sum(s.times_s[-1] - s.times_s[0] for s in kept) / further,
    )


def _headers(plan: Plan) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if plan.key_env:
        key = os.environ.get(plan.key_env)
        if not key:
            raise ProblemError(Said("models.not_set", key_env=plan.key_env), Said("models.put_key"))
        headers["authorization"] = f"Bearer {key}"
    if plan.secret_file is not None:
        lines = plan.secret_file.read_text(encoding="utf-8").split()
        if not lines:
            raise ProblemError(
                Said("models.empty", secret_file=plan.secret_file), Said("models.holds_secret")
            )
        headers["x-ballast-secret"] = lines[0]
    return headers
