"""A wave: so many streams at once, each of exactly as many tokens; its tokens a second."""

from __future__ import annotations

import asyncio
import json
import time
from statistics import median
from typing import NamedTuple

import aiohttp

from benchmarks.gateway.client import PATH, Target

WAVE_S_MAX = 180.0
WORDS = ("course", "lesson", "teacher", "question", "answer", "exercise", "chapter", "example")


class NotWhole(Exception):  # noqa: N818 - reads as what happened
    """An answer failed, or had not the tokens it was asked for."""


class Wave(NamedTuple):
    """What one gave."""

    tokens: int
    seconds: float
    """From the first request sent to the last stream's end."""
    first_ms: float
    """Median time to the first content."""

    @property
    def tokens_s(self) -> float:
        """Tokens a second, all streams together."""
        return self.tokens / self.seconds


async def wave(target: Target, streams: int, tokens: int, number: int) -> Wave:
    """Send one. `number` makes the prompts new, so that no prefix is known. Raises NotWhole."""
    timeout = aiohttp.ClientTimeout(total=WAVE_S_MAX)
    headers = {"authorization": f"Bearer {target.key}"}
    async with aiohttp.ClientSession(target.url, headers=headers, timeout=timeout) as session:
        began_s = time.perf_counter()
        firsts = await asyncio.gather(
            *(_stream(session, _body(target.model, tokens, number, n)) for n in range(streams))
        )
        seconds = time.perf_counter() - began_s
    return Wave(streams * tokens, seconds, round(1000 * median(firsts), 1))


def _body(model: str, tokens: int, number: int, stream: int) -> dict[str, object]:
    words = " ".join(WORDS[(number + stream * k) % len(WORDS)] for k in range(40))
    return {
        "model": model, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": f"{number}-{stream}. Tell of: {words}"}],
    }  # fmt: skip


async def _stream(session: aiohttp.ClientSession, body: dict[str, object]) -> float:
    """One answer, read whole; seconds to its first content. Raises NotWhole."""
    sent_s = time.perf_counter()
    first_s, used = 0.0, -1
    async with session.post(PATH, json=body) as answer:
        if answer.status != 200:
            raise NotWhole(f"{answer.status} {(await answer.text())[:300]}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise NotWhole(str(event["error"]))
            if not first_s and any(c["delta"].get("content") for c in event.get("choices") or ()):
                first_s = time.perf_counter() - sent_s
            used = (event.get("usage") or {}).get("completion_tokens", used)
    if used != body["max_tokens"] or not first_s:
        raise NotWhole(f"{used} tokens in place of {body['max_tokens']}")
    return first_s
