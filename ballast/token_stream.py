"""Answers of an OpenAI-compatible engine with the moment at which each token came."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import msgspec

from ballast.messages import Said
from ballast.problem import ProblemError
from ballast.web import error_text

TOKEN_IDS = (1_000, 30_000)
"""Below the vocabulary of every model of the catalogue, above most special tokens."""
ANSWER_WAIT_S = 600.0


class Stream(msgspec.Struct):
    """One answer."""

    prompt_tokens: int
    sent_s: float
    times_s: list[float]
    """When each event with a token came."""
    completion_tokens: int = 0

    @property
    def first_s(self) -> float:
        """From sending to the first token."""
        return self.times_s[0] - self.sent_s

    def per_event(self) -> float:
        """Tokens in one event: engines may send several at once when they are fast."""
        return self.completion_tokens / len(self.times_s)


class Engine:
    """Sends completions of random tokens to one model."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str, rnd: random.Random
    ) -> None:
        self._session = session
        self._url = url
        self._random = rnd
        self.model = model

    async def find_model(self) -> None:
        """Take the first model that the engine lists, unless one was named."""
        if self.model:
            return
        async with self._session.get(f"{self._url}/models") as response:
            body = await response.read()
            if response.status != 200:
                raise ProblemError(f"{self._url}/models: {response.status}: {error_text(body)}")
        rows = msgspec.json.decode(body).get("data") or []
        if not rows:
            raise ProblemError(Said("problem.serves_none", url=self._url))
        self.model = str(rows[0]["id"])

    async def answers(self, count: int, prompt_tokens: int, answer_tokens: int) -> list[Stream]:
        """So many answers at once, each of exactly `answer_tokens`. Raises ProblemError."""
        wanted = (self._answer(prompt_tokens, answer_tokens) for _ in range(count))
        return list(await asyncio.gather(*wanted))

    async def _answer(self, prompt_tokens: int, answer_tokens: int) -> Stream:
        ids = [self._random.randrange(*TOKEN_IDS) for _ in range(prompt_tokens)]
        body = {
            "model": self.model,
            "prompt": ids,
            "max_tokens": answer_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        now_s = asyncio.get_running_loop().time
        stream = Stream(prompt_tokens, now_s(), [])
        data = msgspec.json.encode(body)
        async with asyncio.timeout(ANSWER_WAIT_S):
            async with self._session.post(f"{self._url}/completions", data=data) as response:
                if response.status != 200:
                    text = error_text(await response.read())
                    raise ProblemError(f"{self._url}: {response.status}: {text}")
                async for line in response.content:
                    self._line(line, stream, now_s())
        if not stream.times_s or not stream.completion_tokens:
            raise ProblemError(Said("problem.streamed_none", url=self._url))
        return stream

    def _line(self, line: bytes, stream: Stream, now_s: float) -> None:
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            return
        event = msgspec.json.decode(line[5:])
        if "error" in event:
            raise ProblemError(Said("problem.broke_off", error=error_text(line[5:])))
        if event.get("choices"):
            stream.times_s.append(now_s)
        if event.get("usage"):
            stream.completion_tokens = event["usage"]["completion_tokens"]
