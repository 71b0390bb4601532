"""Small HTTP questions to the running stack, with errors a person can act on."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ballast.messages import Said, named
from ballast.messages.chosen import spoken
from ballast.problem import ProblemError
from models.worded import Worded, unpacked
from serving.unreadable import UNREADABLE

NOT_UP = Said("web.not_up")


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
        closed = Said("web.closed", where=parts.netloc)
        raise ProblemError(closed, Said("web.see_logs")) from None
    except ConnectionError:
        raise ProblemError(Said("web.nothing_answers", where=parts.netloc), NOT_UP) from None
    except TimeoutError:
        late = Said("web.too_late", url=url, seconds=f"{wait_s:.0f}")
        raise ProblemError(late, Said("web.see_logs")) from None
    except (OSError, http.client.HTTPException) as error:
        raise ProblemError(f"{url}: {error or type(error).__name__}", NOT_UP) from None
    finally:
        connection.close()


def get_json(url: str, wait_s: float = 3.0) -> Any:
    """The JSON at `url`. Raises ProblemError."""
    with answer("GET", url, {}, None, wait_s) as response:
        body = response.read()
        if response.status != 200:
            status, told = response.status, error_text(body)
            raise ProblemError(Said("web.answered", url=url, status=status, text=told), NOT_UP)
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        raise ProblemError(Said("web.no_json", url=url), Said("web.other_program")) from None


def in_words(body: bytes) -> str:
    """As `error_text`, and in Chinese with the words for its code before it: the public API says
    what is wrong in English alone."""
    text = error_text(body)
    if isinstance(text, Worded):
        return text  # one that came with its values is told whole
    return by_code(code_of(body), text)


def by_code(code: str, text: str) -> str:
    """A refusal's English, in Chinese with the words for its code before it."""
    words = named("explain.code", code, spoken())
    if spoken() == "en" or words == code:
        return text
    return Said("web.in_words", words=words, text=text)


def code_of(body: bytes) -> str:
    """Of an OpenAI-shaped error; empty where there is none."""
    try:
        return str(msgspec.json.decode(body)["error"]["code"] or "")
    except (*UNREADABLE, KeyError, TypeError):
        return ""


def error_text(body: bytes) -> str:
    """The message of an OpenAI-shaped error, with code and values where it came with them; else the
    start of whatever came."""
    try:
        error = msgspec.json.decode(body)["error"]
        return unpacked(error.get("said"), str(error["message"]))
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        return body[:300].decode("utf-8", "replace").strip() or Said("web.empty")
