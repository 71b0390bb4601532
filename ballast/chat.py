"""`ballast chat`: one question through the gateway, the answer as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ballast.problem import ProblemError
from ballast.web import answer, error_text

WAIT_S = 120.0
DECISION_HEADERS = ("x-ballast-target", "x-ballast-reason", "x-ballast-queue-ms", "x-request-id")


def chat(base_url: str, key: str, body: dict[str, Any], show: Callable[[str], None]) -> list[str]:
    """Stream one answer into `show`; the decision headers as lines. Raises ProblemError."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = msgspec.json.encode(body | {"stream": True})
    url = f"{base_url}/chat/completions"
    with answer("POST", url, headers, data, WAIT_S) as response:
        if response.status != 200:
            later = response.getheader("retry-after")
            raise ProblemError(
                f"{response.status}: {error_text(response.read())}",
                f"try again in {later} s" if later else "see `ballast status`",
            )
        for text in contents(response):
            show(text)
        return [f"{n}: {v}" for n in DECISION_HEADERS if (v := response.getheader(n))]


def contents(lines: Iterable[bytes]) -> Iterator[str]:
    """The text pieces of a chat stream. Raises ProblemError where it broke off."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise ProblemError("the stream holds an event that is not JSON") from None
        if "error" in event:
            raise ProblemError(f"the answer broke off: {error_text(data)}", "ask again")
        for choice in event.get("choices", ()):
            if text := choice.get("delta", {}).get("content"):
                yield text
    raise ProblemError("the answer ended without its last event", "ask again")
