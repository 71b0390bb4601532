"""`ballast chat`: one question through the gateway, the answer as it comes, then what it cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ballast import books
from ballast.messages import Said
from ballast.problem import ProblemError
from ballast.web import answer, in_words
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
        what = getattr(error, "strerror", None) or Said("chat.not_ascii")
        found = Said("chat.no_key_in", path=path, reason=what)
        raise ProblemError(found, "`ballast keys create`") from None
    words = text.split()
    if len(words) != 1:
        raise ProblemError(Said("web.holds_no_key", file=path), Said("web.one_word"))
    return words[0]


def _refusal(response: HTTPResponse) -> ProblemError:
    later, asked = response.getheader("retry-after"), response.getheader("x-request-id")
    see = {404: Said("chat.models_list_them"), 401: Said("chat.wrong_key")}.get(
        response.status, Said("chat.see_status")
    )
    remedy = Said("chat.again_in", seconds=later) if later else see
    body = response.read()
    if b'"budget_exceeded"' in body:  # the header's hour is its bound, the budget's own end is told
        remedy = Said("chat.budget")
    return ProblemError(
        Said("chat.refused", status=response.status, text=in_words(body)),
        Said("chat.and_why", remedy=remedy, request=asked) if asked else remedy,
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
            raise ProblemError(Said("chat.not_json")) from None
        if "error" in event:
            broken = Said("chat.broke_off", text=in_words(data))
            raise ProblemError(broken, Said("chat.ask_again"))
        yield event
    raise ProblemError(Said("chat.no_last"), Said("chat.ask_again"))


def summary(settings: Settings, told: Answered) -> Said:
    """One line: who answered and why, tokens, money; waits some seconds for the ledger."""
    where, _, target = told.target.partition(";")
    prompt, completion = (
        told.usage.get(f"{part}_tokens", "?") for part in ("prompt", "completion")
    )
    return Said(
        "chat.summary",
        target=target or Said("chat.hidden"),
        where=Said(f"chat.where.{where}") if where in ("api", "own") else where,
        reason=told.reason,
        tokens=Said("chat.tokens", prompt=prompt, completion=completion),
        cost=_cost(settings, told.request_id),
        request=told.request_id,
    )


def _cost(settings: Settings, request_id: str) -> str:
    try:
        booked = books.find(settings, request_id, books.BOOKED_S_MAX)
    except ProblemError:
        return Said("chat.cost_unknown")
    if booked.row is None:
        return Said("chat.not_booked")
    return books.amounts(books.charges(booked.attempts))
