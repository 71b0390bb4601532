"""Sound to be written down: OpenAI's `/v1/audio/transcriptions` and `/v1/audio/translations`. Pure.

Third parties are asked for JSON alone: it tells the usage, and the guard reads it by its members.
Plain text and subtitles are made of it here, once the guard has read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from models.hearing import TOKENS_PER_S
from serving.codecs.sound import Sound
from serving.errors import CallerError
from serving.records import Block, Call, Offering, Usage
from serving.unreadable import UNREADABLE
from serving.wire.sse import TOKENS_MAX, StreamFault

KINDS: Final = {
    "json": b"application/json", "verbose_json": b"application/json",
    "text": b"text/plain; charset=utf-8", "srt": b"text/plain; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}  # fmt: skip
"""Content types by `response_format`."""
_TIMED = ("verbose_json", "srt", "vtt")
_LISTS = {"timestamp_granularities[]": "timestamp_granularities"}
_NUMBERS = ("temperature",)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def fields(parts: Sequence[tuple[str, str]]) -> dict[str, msgspec.Raw]:
    """A form's members as a body's, the file as what nobody reads. Raises CallerError naming the
    member at fault."""
    found: dict[str, Any] = {"file": {"audio": True}}
    for name, text in parts:
        if name in _LISTS:
            grains = found.setdefault(_LISTS[name], [])
            if not isinstance(grains, list):
                raise _wrong(name, "is given twice")
            grains.append(text)
        elif name in found:
            raise _wrong(name, "is given twice")
        elif name in _NUMBERS:
            found[name] = _number(name, text)
        else:
            found[name] = text
    if not found.get("model"):
        raise _wrong("model", "is required")
    if found.setdefault("response_format", "json") not in KINDS:
        raise _wrong("response_format", f"must be one of {', '.join(KINDS)}")
    if found.pop("stream", "false") not in ("false", "False", "0"):
        raise _wrong("stream", "must be false: transcripts are answered whole")
    grains = found.get("timestamp_granularities")
    if grains and (found["response_format"] != "verbose_json" or {*grains} - {"word", "segment"}):
        raise _wrong("timestamp_granularities", "is word or segment, with verbose_json")
    return {name: msgspec.Raw(_encode(value)) for name, value in found.items()}


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise _wrong(name, "must be a number from 0 to 1")
    return value


def _wrong(name: str, what: str) -> CallerError:
    return CallerError("invalid_value", f"'{name}' {what}", param=name)


def asked(members: Mapping[str, msgspec.Raw]) -> str:
    """The `response_format` of a call's members."""
    return text(members["response_format"])


def text(raw: msgspec.Raw) -> str:
    """A member that `fields` wrote as text."""
    return msgspec.json.decode(raw, type=str)


def content_type(call: Call) -> str:
    """Of a request to a third party. No caller knows the boundary before it is used."""
    if call.sound is None:
        return "application/json"
    return f"multipart/form-data; boundary={_boundary(call)}"


def _boundary(call: Call) -> str:
    return f"ballast-{call.request_id}"


def form(call: Call, target: Offering) -> bytes:
    """The body for a third party: members it knows, its own model's name, and the file under a
    name of ours."""
    sound, mark = call.sound, _boundary(call).encode()
    assert sound is not None
    members = [("model", target.upstream_model)]
    members.append(("response_format", "verbose_json" if asked(call.fields) in _TIMED else "json"))
    for name in ("language", "prompt", "temperature", "timestamp_granularities"):
        if name in call.fields and name in target.speaks:
            value = msgspec.json.decode(call.fields[name])
            if isinstance(value, list):
                members += [(f"{name}[]", one) for one in value]
            else:
                members.append((name, value if isinstance(value, str) else f"{value:g}"))
    head = b'--%b\r\ncontent-disposition: form-data; name="%b"'
    out = [
        head % (mark, name.encode()) + b"\r\n\r\n" + text.encode() + b"\r\n"
        for name, text in members
    ]
    out.append(head % (mark, b"file") + b'; filename="%b"\r\n' % sound.name.encode())
    out += [b"content-type: %b\r\n\r\n" % _type(sound), sound.data, b"\r\n--%b--\r\n" % mark]
    return b"".join(out)


def _type(sound: Sound) -> bytes:
    kind = {"mp3": "mpeg"}.get(sound.container, sound.container)
    return f"audio/{kind}".encode()


def plain(call: Call, target: Offering, body: bytes) -> Block:
    """The Block of an answer. Raises StreamFault for what is no transcript."""
    try:
        told = _decode(body)
    except UNREADABLE as error:
        raise StreamFault(f"the answer is not the JSON expected: {error}", b"") from None
    if not isinstance(told.get("text"), str):
        # Zhipu and others answer an error under a 200 with a code and a message.
        raise StreamFault("the answer holds no text", body)
    return Block(body, 0, _usage(call, target, told), None, opens=True, ends=True)


def _usage(call: Call, target: Offering, told: Mapping[str, Any]) -> Usage:
    """What is billed: of a price by time the longest of what the vendor tells and what its times
    show, else what was measured here; of one by the token what the vendor tells."""
    usage = told.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    takes = target.hearing
    assert takes is not None
    if takes.by == "token":
        counted = [_count(usage.get(name)) for name in ("input_tokens", "output_tokens")]
        if None in counted:
            return Usage(call.prompt_tokens, len(told["text"]), is_estimated=True)
        return Usage(counted[0] or 0, counted[1] or 0)
    seconds = [_seconds(usage.get("seconds")), _seconds(told.get("duration"))]
    most = max(seconds)
    if not most:
        return Usage(takes.billed(call.prompt_tokens), 0, is_estimated=True)
    return Usage(takes.billed(round(most * TOKENS_PER_S)), 0)


def _count(value: Any) -> int | None:
    """A target may report anything; what is no count must not reach the books."""
    is_count = isinstance(value, int | float) and value == value
    return int(min(max(value, 0), TOKENS_MAX)) if is_count else None


def _seconds(value: Any) -> float:
    """Whisper's older answers tell it as text."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0.0 <= seconds < TOKENS_MAX / TOKENS_PER_S else 0.0


def written(body: bytes, wanted: str) -> bytes:
    """An answer's JSON as the format that was asked for."""
    if wanted in ("json", "verbose_json"):
        return body
    told = _decode(body)
    if wanted == "text":
        return f"{told['text'].strip()}\n".encode()
    segments = told.get("segments")
    rows = [row for row in segments if isinstance(row, dict)] if type(segments) is list else []
    cues = []
    for number, row in enumerate(rows, 1):
        begin, end = (_clock(_seconds(row.get(at)), wanted) for at in ("start", "end"))
        head = f"{number}\n" if wanted == "srt" else ""
        cues.append(f"{head}{begin} --> {end}\n{str(row.get('text', '')).strip()}\n\n")
    return ("".join(cues) if wanted == "srt" else "WEBVTT\n\n" + "".join(cues)).encode()


def _clock(seconds: float, wanted: str) -> str:
    """`00:00:01,500`; subtitles of the web have a point there."""
    total_ms = round(seconds * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    point = "," if wanted == "srt" else "."
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}{point}{ms % 1000:03}"
