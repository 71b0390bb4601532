"""Telling an engine's front end anew what another one made; without vLLM."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import msgspec

from serving.codecs.going_on import Begun, Said
from serving.engine import resume
from serving.engine.vllm_resume import PAUSE_EVERY, _Known

KNOWN = 40 * PAUSE_EVERY


class Replayed(_Known):
    """Its tokens are told anew as nothing but their number."""

    def __init__(self) -> None:
        pass

    def _replay(self, request_id: str):
        for at in range(KNOWN):
            yield SimpleNamespace(at=at, finished=at == KNOWN - 1)


async def told_anew(scope: Any, receive: Any, send: Any) -> None:
    """Writes an event for each token, as vLLM's app does."""
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    async for _ in Replayed().answer(None, None, "r"):  # type: ignore[arg-type]
        event = {"choices": [{"delta": {"content": "x"}}]}
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def test_other_answers_of_the_engine_go_on_while_one_is_told_anew() -> None:
    async def main() -> tuple[int, list[bytes]]:
        turns, sent = 0, []

        async def beside() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        other = asyncio.create_task(beside())
        begun = Begun("/v1/completions", msgspec.Raw(b"{}"), tuple(range(KNOWN)), Said(0, KNOWN))
        scope = {"type": "http", "headers": []}
        await resume.go_on(told_anew, scope, (asyncio.Event().wait, send), begun)  # type: ignore[arg-type]
        other.cancel()
        return turns, sent

    turns, sent = asyncio.run(main())
    assert b"".join(sent) == b"data: [DONE]\n\n", "the client has all of it"
    assert turns >= KNOWN // PAUSE_EVERY - 1
