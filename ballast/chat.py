"""`ballast chat`: one question through the gateway, the answer as it comes, then what it cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ballast import books
from ballast.problem import ProblemError
from ballast.web import answer, error_text
from serving.settings import Settings
from serving.unreadable import UNREADABLE

WAIT_S = 120.0


class Answered(NamedTuple):
    """What an answer's headers and last event tell."""

    request_id: str
    target: str
    """`own;m@127.0.0.1:30000`, as far as the key may see."""
    reason: str
    usage: dict[str, Any]


def chat(base_url: str, key: str, body: dict[str, Any], show: Callable[[str], None]) -> Answered:
    """Stream one answer into `show`. Raises ProblemError."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    more = {"stream": True, "stream_options": {"include_usage": True}}
    url = f"{base_url}/chat/completions"
    with answer("POST", url, headers, msgspec.json.encode(body | more), WAIT_S) as response:
        if response.status != 200:
            raise _refusal(response)
        usage: dict[str, Any] = {}
        for event in events(response):
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    show(text)
        return Answered(
            response.getheader("x-request-id") or "",
            response.getheader("x-ballast-target") or "",
            response.getheader("x-ballast-reason") or "",
            usage,
        )


KEY_BYTES_MAX = 16 << 10
WRONG_KEY = (
    "the key is not known to the running stack: the demo key is that of the XDG_STATE_HOME it was"
    " started with; --key names another"
)


def key_in(path: Path) -> str:
    """The API key in a file, or in the input for `-`: never on the command line, which others on
    the machine may read. Raises ProblemError."""
    try:
        if str(path) == "-":
            text = sys.stdin.readline(KEY_BYTES_MAX)
        else:
            with path.open("rb") as file:
                text = file.read(KEY_BYTES_MAX).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not ASCII"
        raise ProblemError(f"no API key in {path}: {what}", "`ballast keys create`") from None
    words = text.split()
    if len(words) != 1:
        raise ProblemError(f"{path} holds no key", "it is one word, on one line")
    return words[0]


def _refusal(response: HTTPResponse) -> ProblemError:
    later, asked = response.getheader("retry-after"), response.getheader("x-request-id")
    see = {404: "`ballast models` lists them", 401: WRONG_KEY}.get(
        response.status, "see `ballast status`"
    )
    remedy = f"try again in {later} s" if later else see
    return ProblemError(
        f"{response.status}: {error_text(response.read())}",
        f"{remedy}; why: ballast explain {asked}" if asked else remedy,
    )


def events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a chat stream. Raises ProblemError where it broke off."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = msgspec.json.decode(data)
        except UNREADABLE:
            raise ProblemError("the stream holds an event that is not JSON") from None
        if "error" in event:
            raise ProblemError(f"the answer broke off: {error_text(data)}", "ask again")
        yield event
    raise ProblemError("the answer ended without its last event", "ask again")


def summary(settings: Settings, told: Answered) -> str:
    """One line: who answered and why, tokens, money; waits some seconds for the ledger."""
    where, _, target = told.target.partition(";")
    kind = {"api": "an API", "own": "an engine of ours"}.get(where, where)
    usage = told.usage
    tokens = f"{usage.get('prompt_tokens', '?')} + {usage.get('completion_tokens', '?')} tokens"
    return (
        f"{target or 'target not shown to this key'}, {kind} ({told.reason}): {tokens},"
        f" {_cost(settings, told.request_id)}; why: ballast explain {told.request_id}"
    )


def _cost(settings: Settings, request_id: str) -> str:
    try:
        booked = books.find(settings, request_id, books.BOOKED_S_MAX)
    except ProblemError:
        return "cost not known here"
    if booked.row is None:
        return "cost not booked yet"
    return books.amounts(books.charges(booked.attempts))
