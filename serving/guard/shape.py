"""The shape that most events of a stream share: all but one text is the same bytes. Pure.

What surrounds the text is read once, as any event is; an event that begins and ends with the same
bytes says the same but for its text, so only that is read and written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from serving.guard import labels
from serving.guard.choice import NAMES, Choice, Key

KNOWN = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier",
                   "system_fingerprint", "provider", "prompt_token_ids"})  # fmt: skip
"""Members of an event that hold no text."""
_BARE = frozenset({"index", "delta", "text", "finish_reason", "stop_reason", "logprobs"})
_SILENT = ("finish_reason", "stop_reason", "logprobs")
_START = b"data: {"
_PROBE = "\u70b9 \\ \" '"
_decode = msgspec.json.Decoder().decode
_text_of = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Shape(NamedTuple):
    """What the events of one text of one choice have in common."""

    head: bytes
    tail: bytes
    choice: Choice
    at: int
    """The number of the choice."""
    key: Key

    def texts(self, raws: Sequence[bytes], at: int) -> list[str]:
        """The texts of the events from `at` on that have this shape, as far as they follow each
        other."""
        head, tail, _, _, _ = self
        low, high = len(head), -len(tail)
        out: list[str] = []
        for raw in raws[at:]:
            if not (raw.startswith(head) and raw.endswith(tail)) or b"\n" in raw:
                break
            try:
                out.append(_text_of(raw[low:high]))
            except (msgspec.MsgspecError, UnicodeError):
                break
        return out

    def inspected(self, raws: Sequence[bytes], texts: Sequence[str]) -> Sequence[bytes]:
        """What to send in place of events with these texts. Raises Blocked."""
        text = "".join(texts)
        if not text:
            return raws
        held = self.choice.held(self.key)
        new = self.choice.more(self.key, text)
        return raws if new == text and not held else self._written(raws, texts, (new, held))

    def _written(
        self, raws: Sequence[bytes], texts: Sequence[str], leaves: tuple[str, int]
    ) -> list[bytes]:
        """The events again, now that some text may leave, so many characters of which were held
        back before. Those that say the same stay as they are, those that say nothing now are left
        out."""
        new, held = leaves
        whole = "".join(texts)
        left = len(new) - held
        if left < 0 or new[held:] != whole[:left]:
            # Something within changed: the text leaves in one piece.
            return [self._event(new)] if new else []
        out: list[bytes] = []
        ahead = new[:held]
        for raw, text in zip(raws, texts, strict=True):
            now = ahead + text[:left]
            if now == text:
                out.append(raw)
            elif now:
                out.append(self._event(now))
            left = max(0, left - len(text))
            ahead = ""
        return out

    def _event(self, text: str) -> bytes:
        return self.head + _encode(text) + self.tail


def learnt(raw: bytes, event: dict[str, Any], choices: dict[int, Choice]) -> Shape | None:
    """The shape of an event that has been read; None where it is not one of many alike."""
    if not (raw.startswith(_START) and b"\n" not in raw and is_bare(event)):
        return None
    node = event["choices"][0]
    delta, index = node.get("delta"), node.get("index")
    if type(delta) is not dict or len(delta) != 1 or type(index) is not int:
        return None
    if any(node.get(name) for name in _SILENT) or index not in choices:
        return None
    ((name, text),) = delta.items()
    if type(text) is not str or not text or name in NAMES or not name.isidentifier():
        return None
    found = re.findall(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % name.encode(), raw)
    if len(found) != 1 or raw.count(found[0]) != 1:
        return None
    head, _, tail = raw.partition(found[0])
    # The proof that this is the text's place: another text put there is read as such.
    delta[name] = _PROBE
    try:
        is_place = _decode((head + _encode(_PROBE) + tail)[len(_START) - 1 :]) == event
    finally:
        delta[name] = text
    return Shape(head, tail, choices[index], index, (name, 0)) if is_place else None


def is_bare(event: dict[str, Any]) -> bool:
    """Whether an event holds one choice and nothing beside it that a reader could miss."""
    choices = event.get("choices")
    return (
        type(choices) is list
        and len(choices) == 1
        and type(choices[0]) is dict
        and not event.get("usage")
        and labels.MEMBER not in event
        and event.keys() <= KNOWN
        and choices[0].keys() <= _BARE
    )


def is_void(event: dict[str, Any]) -> bool:
    """Whether an event says nothing now that its text is held back."""
    if not is_bare(event):
        return False
    node = event["choices"][0]
    delta = node.get("delta")
    texts = delta.values() if type(delta) is dict else [node.get("text")]
    return not node.get("finish_reason") and not any(texts)
