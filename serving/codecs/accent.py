"""OpenAI's dialect with an accent: each event is parsed, put right and sent on. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from serving.codecs import payloads
from serving.codecs.payloads import Payloads, listed, mapping
from serving.records import Call
from serving.wire.sse import DONE

_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


class Accent(NamedTuple):
    """How a provider's answers differ."""

    unify: Callable[[Json], None]
    """Puts a message or a delta right, in place."""
    error: Callable[[Json], Json | None] = lambda _: None
    """OpenAI's error for one that hides in a good answer."""

    def plain(self, body: bytes) -> bytes:
        """A whole answer. Raises StreamFault for an error under a 200."""
        answer = payloads.read(body)
        if error := self.error(answer):
            raise payloads.fault({"error": error})
        for choice in listed(answer.get("choices")):
            self.unify(mapping(choice.get("message")))
        return _encode(answer)

    def translator(self, _call: Call) -> Translator:
        """For one stream."""
        return Translator(self)


class Translator:
    """One stream."""

    def __init__(self, accent: Accent) -> None:
        self._accent = accent
        self._payloads = Payloads()
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """See `dialects.Translator`."""
        return self._said(self._payloads.feed(data))

    def end(self) -> bytes:
        """See `dialects.Translator`."""
        return self._said(self._payloads.end())

    def _said(self, events: list[Json]) -> bytes:
        said = b"".join(map(self._event, events))
        if self._payloads.has_done and not self._is_over:
            self._is_over = True
            said += DONE
        return said

    def _event(self, event: Json) -> bytes:
        if error := self._accent.error(event):
            return payloads.event({"error": error})
        for choice in listed(event.get("choices")):
            # MiniMax's closing event repeats the whole answer as a message.
            choice.pop("message", None)
            if not isinstance(choice.get("delta"), dict):
                choice["delta"] = {}
            self._accent.unify(choice["delta"])
        return payloads.event(event)
