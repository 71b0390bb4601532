"""A conversation told something first: what stands for an adapter that a target lacks. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from serving.codecs.chat import messages
from serving.records import Call

_encode = msgspec.json.Encoder().encode
_SYSTEM = ("system", "developer")


def told(call: Call, text: str) -> Call:
    """The chat with `text` before all that is said; unchanged where there is nothing to say. A
    system message of its own is kept below it, in one: many providers take only one. Raises
    UpstreamError for messages that cannot be read."""
    if not text:
        return call
    said = messages(call)
    first = said[0] if said else {}
    own = first.get("content")
    if first.get("role") in _SYSTEM and isinstance(own, str):
        said = [{**first, "content": f"{text}\n\n{own}"}, *said[1:]]
    else:
        said = [{"role": "system", "content": text}, *said]
    return replace(call, fields={**call.fields, "messages": msgspec.Raw(_encode(said))})
