"""The dialects third parties speak, each as three pure functions around one call. Pure.

`request` says what to send where; `plain` and `translator` turn the answer into the OpenAI dialect
that everything behind understands. OpenAI's own answers pass as they came: no translator at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode

from models.provider import Provider
from serving.codecs import anthropic, anthropic_stream, gemini, gemini_stream, openai
from serving.codecs.minimax import MINIMAX
from serving.codecs.mistral import MISTRAL
from serving.codecs.wording import openai_body
from serving.records import Call, Offering, Surface


class Translator(Protocol):
    """Makes OpenAI's events of another dialect's, however the bytes are cut."""

    def feed(self, data: bytes) -> bytes:
        """Whole events of what came so far; empty while there is none. Raises `sse.StreamFault`."""
        ...

    def end(self) -> bytes:
        """What is left to say when the connection ends in good order."""
        ...


class Dialect(NamedTuple):
    """One wire dialect."""

    body: Callable[[Call, Offering, Provider, int], bytes]
    """Of a call for an offering, bounded by that many tokens when the caller set no bound (0:
    none). Raises `errors.UpstreamError` for what cannot be said in it."""
    path: Callable[[Call], str]
    """Below the account's address; `{model}` is filled in."""
    plain: Callable[[bytes], bytes] | None = None
    """A whole answer as OpenAI's; None where it is."""
    translator: Callable[[Call], Translator] | None = None


def _openai_path(call: Call) -> str:
    return openai.PATHS[call.surface].decode().removeprefix("/v1")


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(openai_body, _openai_path),
    "minimax": Dialect(openai_body, _openai_path, MINIMAX.plain, MINIMAX.translator),
    "mistral": Dialect(openai_body, _openai_path, MISTRAL.plain, MISTRAL.translator),
    "anthropic": Dialect(
        anthropic.body, lambda _: "/messages", anthropic_stream.plain, anthropic_stream.Translator
    ),
    "gemini": Dialect(gemini.body, gemini.path, gemini_stream.plain, gemini_stream.Translator),
}


def address(base_url: str, row: Provider, call: Call, offering: Offering) -> str:
    """Where the call goes."""
    own = row.path if call.surface is Surface.CHAT else None
    if call.is_prefixed and row.prefix is not None:
        own = row.prefix.path or own
    path = own or DIALECTS[row.dialect].path(call)
    path = path.replace("{model}", quote(offering.upstream_model, safe=""))
    if row.query:
        path += ("&" if "?" in path else "?") + urlencode(row.query)
    return base_url.rstrip("/") + path
