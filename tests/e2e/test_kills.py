"""Kills of the real thing, under a client's stream: nothing silent, nothing lost, all returns."""

from __future__ import annotations

import contextlib
import http.client
import json
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

MODEL = "smollm2-135m-instruct"
pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(1200)]


def processes(stack: Any, needle: str) -> list[psutil.Process]:
    """The stack's processes whose command line or title holds `needle`."""
    found = []
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            if needle in " ".join(process.cmdline()) or needle in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


def stream(stack: Any, tokens: int) -> Iterator[dict[str, Any]]:
    """The events of one long stream; ends when the server ends it."""
    body = {
        "model": MODEL, "max_tokens": tokens, "stream": True, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Count slowly and do not stop."}],
    }  # fmt: skip
    request = urllib.request.Request(
        f"{stack.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {stack.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        for line in response:
            if line.startswith(b"data: ") and b"[DONE]" not in line:
                yield json.loads(line[6:])


def until_ready(stack: Any, patience: Any) -> None:
    """The model answers again."""

    def answers() -> bool:
        try:
            return bool(stack.chat(max_tokens=2)[0] == 200)
        except OSError:
            return False

    patience(answers, "the model answers again")


def cut(stack: Any, patience: Any, needle: str) -> dict[str, Any]:
    """Kill -9 what is named `needle` once a stream has content; the stream's last event."""
    until_ready(stack, patience)
    last: dict[str, Any] = {}
    is_killed = False
    for last in stream(stack, 4000):
        content = last.get("choices") and last["choices"][0]["delta"].get("content")
        if content and not is_killed:
            is_killed = True
            victims = processes(stack, needle)
            assert victims, f"no process named {needle}"
            for victim in victims:
                victim.kill()
    return last


@pytest.mark.parametrize("needle", ["EngineCore", "ray::ServeReplica"])
def test_a_stream_whose_engine_is_killed_ends_in_an_error_with_usage(
    stack: Any, patience: Any, needle: str
) -> None:
    last = cut(stack, patience, needle)
    assert last["error"]["code"] == "stream_interrupted"
    assert last["usage"]["completion_tokens"] > 0
    until_ready(stack, patience)


def test_the_stack_survives_the_death_of_rays_head(stack: Any, patience: Any) -> None:
    last = cut(stack, patience, "gcs_server")
    # Streams run on while the raylet lives; either way the client is told how it ended.
    assert "error" in last or last["choices"][0]["finish_reason"]
    until_ready(stack, patience)


def test_a_killed_gateway_comes_back_and_books_what_it_lost(stack: Any, patience: Any) -> None:
    until_ready(stack, patience)
    before = psutil.Process(processes(stack, "serving.app")[0].pid)
    started_ms = int(time.time() * 1e3)
    with contextlib.suppress(OSError, http.client.HTTPException):  # cut as the process died
        for event in stream(stack, 4000):
            if event.get("choices") and event["choices"][0]["delta"].get("content"):
                before.kill()
    until_ready(stack, patience)

    def lost() -> int:
        with sqlite3.connect(f"file:{stack.state}/ledger.sqlite?mode=ro", uri=True) as books:
            found = books.execute(
                "SELECT count(*) FROM requests WHERE outcome = 'gateway_lost' AND received_ms >= ?",
                (started_ms - 60_000,),
            ).fetchone()
        return int(found[0])

    patience(lambda: lost() == 1, "one gateway_lost row")
