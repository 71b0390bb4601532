"""Small HTTP questions to the running stack, with errors a person can act on."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ballast.problem import ProblemError
from serving.unreadable import UNREADABLE

NOT_UP = "start it with `ballast up`, or name another settings file with --config"


@contextmanager
def answer(
    method: str, url: str, headers: dict[str, str], body: bytes | None, wait_s: float
) -> Iterator[http.client.HTTPResponse]:
    """The response to one request; closes the connection. Raises ProblemError."""
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=wait_s)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, headers)
        yield connection.getresponse()
    except http.client.RemoteDisconnected:
        raise ProblemError(
            f"{parts.netloc} closed the connection without an answer",
            "see the logs in the state folder",
        ) from None
    except ConnectionError:
        raise ProblemError(f"nothing answers at {parts.netloc}", NOT_UP) from None
    except TimeoutError:
        raise ProblemError(
            f"{url} gave no answer within {wait_s:.0f} s", "see the logs in the state folder"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise ProblemError(f"{url}: {error or type(error).__name__}", NOT_UP) from None
    finally:
        connection.close()


def get_json(url: str, wait_s: float = 3.0) -> Any:
    """The JSON at `url`. Raises ProblemError."""
    with answer("GET", url, {}, None, wait_s) as response:
        body = response.read()
        if response.status != 200:
            raise ProblemError(f"{url} answered {response.status}: {error_text(body)}", NOT_UP)
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        raise ProblemError(
            f"{url} did not answer JSON", "is another program on that port?"
        ) from None


def error_text(body: bytes) -> str:
    """The message of an OpenAI-shaped error, or the start of whatever came."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (*UNREADABLE, KeyError, TypeError):
        return body[:300].decode("utf-8", "replace").strip() or "an empty body"
