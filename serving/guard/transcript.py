"""Inspects what a third party wrote down of sound. Pure.

The text is read whole, and its pieces (segments, words) once more by themselves. A term that lies
across two pieces is masked in the text alone: then the pieces are cut anew from the masked text
where they add up to it, and left out where they do not. Where anything was masked the numbers of
the tokens go, for they spell the text a second time.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.guard.inspector import CONTENT_FILTER, Inspector
from serving.records import Block

_PIECES = {"segments": "text", "words": "word"}
"""Lists of an answer, and the member in which a piece's text stands."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Transcript(Inspector):
    """Of one answer."""

    def withheld(self) -> dict[str, Any]:
        """See `Inspector`."""
        return {"text": "", "segments": [], "finish_reason": CONTENT_FILTER}

    def plain(self, block: Block) -> Block:
        """See `Inspector`."""
        new = super().plain(block)
        if new is block or new.finish == CONTENT_FILTER:
            return new
        before, after = _decode(block.data), _decode(new.data)
        is_cut = before["text"] != after["text"]
        for name, member in _PIECES.items():
            if is_cut and name in after:
                after[name] = _cut(before, after["text"], (name, member)) or []
            pieces = after.get(name)
            for piece in pieces if type(pieces) is list else ():
                if type(piece) is dict:
                    piece.pop("tokens", None)
        after.pop("logprobs", None)
        return msgspec.structs.replace(new, data=_encode(after))


def _cut(before: dict[str, Any], text: str, of: tuple[str, str]) -> list[dict[str, Any]] | None:
    """The pieces with their share of a text that was masked character by character; None where
    they do not add up to it."""
    (name, member), whole = of, before["text"]
    if len(text) != len(whole) or type(before[name]) is not list:
        return None
    pieces, at = [], 0
    for piece in before[name]:
        said = piece.get(member) if isinstance(piece, dict) else None
        if not isinstance(said, str):
            return None
        found = whole.find(said.strip(), at)
        # Between two pieces there is nothing but what parts words.
        if found < 0 or whole[at:found].strip(" \n,.!?;:，。！？；：、"):
            return None
        end = found + len(said.strip())
        shown = said.replace(said.strip(), text[found:end], 1) if said.strip() else said
        pieces.append({**piece, member: shown})
        at = end
    return pieces
