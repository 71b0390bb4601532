"""Bodies of requests with prompts of a wanted length. Pure.

A text begins with words that number it, so that no two share a prefix unless they should, and goes
on with a slice out of a long row of words: that costs a tenth of drawing each word.
"""

from __future__ import annotations

from random import Random
from typing import Any, TypeAlias

import msgspec

from benchmarks.load.counting import Words
from benchmarks.load.values import Conversation, Kind, Scenario

Message: TypeAlias = dict[str, str]
ROW_WORDS = 50_000
TAG_WORDS = 5
DOCUMENTS_KEPT = 256


class Texts:
    """Makes the texts of one run; equal seeds make equal texts, of equal lengths whatever the
    seed."""

    def __init__(self, scenario: Scenario, model: str, words: Words, seed: int | str) -> None:
        self._scenario, self._model, self._words, self._seed = scenario, model, words.words, seed
        chance = Random(f"{seed}/texts")
        self._row = chance.choices(self._words, k=ROW_WORDS)
        self._documents: dict[tuple[int, int], str] = {}

    def text(self, tokens: int, series: str, number: int) -> str:
        """So many words, the first of which name the series and the number."""
        chance = Random(f"{self._seed}/{series}/{number}")
        tag = chance.choices(self._words, k=min(TAG_WORDS, tokens))
        rest, start = tokens - len(tag), chance.randrange(ROW_WORDS)
        while rest > 0:
            piece = self._row[start : start + rest]
            tag += piece
            rest, start = rest - len(piece), 0
        return " ".join(tag)

    def opening(self, conversation: Conversation) -> list[Message]:
        """What stands before the first turn: the shared document, if there is one."""
        prefix = self._scenario.kinds[conversation.kind].prefix
        if prefix is None:
            return []
        key = (conversation.kind, conversation.document)
        text = self._documents.get(key)
        if text is None:
            text = self.text(prefix.tokens, f"document {key[0]}", key[1])
            if len(self._documents) >= DOCUMENTS_KEPT:
                self._documents.clear()
            self._documents[key] = text
        return [{"role": "system", "content": text}]

    def question(self, conversation: Conversation, turn: int) -> Message:
        """The user's message of a turn."""
        wanted = conversation.turns[turn].prompt
        text = self.text(wanted, f"turn {turn}", conversation.number)
        return {"role": "user", "content": text}

    def body(self, kind: Kind, messages: list[Message], output: int) -> bytes:
        """The request."""
        fields: dict[str, Any] = {
            "model": self._model, "messages": messages, "max_tokens": output, **kind.fields,
        }  # fmt: skip
        if kind.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        if kind.json_schema is not None:
            schema = {"name": kind.name.replace(" ", "_"), "schema": kind.json_schema}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        return msgspec.json.encode(fields)


def hints(kind: Kind, session: str, *, names_feature: bool = False) -> str:
    """Header lines for Ballast; others pass them over. A feature is a forwarder's to name."""
    lines = ""
    if kind.latency_class:
        lines += f"x-ballast-class: {kind.latency_class}\r\n"
    if kind.feature and names_feature:
        lines += f"x-ballast-feature: {kind.feature}\r\n"
    if session:
        lines += f"x-ballast-session: {session}\r\n"
    return lines
