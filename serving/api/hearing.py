"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a form with a file of sound in, a Call
out, and the transcript in the format that was asked for."""

from __future__ import annotations

import asyncio
import hashlib
import warnings
from collections.abc import Mapping
from email.message import Message
from typing import NamedTuple

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam
from msgspec.structs import replace

from serving.api.calls import Calls, Given
from serving.codecs import hearing, sound
from serving.codecs.openai import Parsed
from serving.codecs.sound import Sound
from serving.errors import CallerError
from serving.passing import Passing, Wire
from serving.records import Call, Caller, Sensitivity, Surface
from serving.rules import confined
from serving.wire.server import Request

FORM = b"multipart/form-data"
FIELDS_MAX, FIELD_BYTES_MAX = 32, 32 << 10
THREAD_BYTES = 256 << 10
"""A larger form is read in a thread: one of 16 MiB takes 20 to 40 ms, and an MP3 in it as long
again, on two shared cores; nobody else's tokens wait for that."""
FILTERED = b"x-ballast-finish: content_filter\r\n"
_WITHHELD = b'"finish_reason":"content_filter"'
_MALFORMED = (ValueError, RuntimeError, HttpProcessingError)
"""RuntimeError is aiohttp's for a `_charset_` that is none."""
# It warns with the caller's file name in the words; the list of what was warned of is never cut.
warnings.filterwarnings("ignore", category=BadContentDispositionHeader)
warnings.filterwarnings("ignore", category=BadContentDispositionParam)


class Heard(NamedTuple):
    """A form that was read."""

    parsed: Parsed
    sound: Sound
    digest: str
    """Of what was asked: clients draw a new boundary for each try."""

    def call(
        self, calls: Calls, caller: Caller, of: tuple[Surface, Mapping[bytes, bytes], int]
    ) -> tuple[Call, CallerError | None]:
        """As `Calls.read`. `of`: surface, headers and the body's bytes."""
        surface, headers, size = of
        call, fault = calls.read(Given(surface, self.parsed, headers, size), caller)
        call = replace(call, sound=self.sound)
        # A voice tells whose it is: sound goes where personal data may, guard or none.
        return confined(call, caller, Sensitivity.PERSONAL), fault


async def read(request: Request) -> Heard:
    """The form of a request. Raises CallerError naming the field at fault."""
    kind = request.headers.get(b"content-type", b"").decode("latin-1")
    if not kind.lower().startswith("multipart/form-data;"):
        message = "send the file as 'Content-Type: multipart/form-data; boundary=...'"
        raise CallerError("unsupported_media_type", message)
    if request.headers.get(b"content-encoding", b"identity") != b"identity":
        message = "compressed request bodies are not accepted"
        raise CallerError("unsupported_media_type", message)
    if len(request.body) > THREAD_BYTES:
        body = request.body
        return await asyncio.to_thread(lambda: asyncio.run(_read(kind, body)))
    return await _read(kind, request.body)


async def _read(kind: str, body: bytes) -> Heard:
    try:
        parts, data = await _parts(kind, body)
    except _MALFORMED as error:
        message = "the body is not the multipart/form-data expected"
        raise CallerError("invalid_value", message) from error
    fields = hearing.fields(parts)
    file = sound.read(data)
    if file is None:
        message = "'file' is no sound known here: flac, mp3, mp4 (m4a), ogg, wav or webm"
        raise CallerError("invalid_value", message, param="file")
    digest = hashlib.sha256(hashlib.sha256(data).digest())
    for name, raw in sorted(fields.items()):
        digest.update(b"%b\0%b\0" % (name.encode(), raw))
    model = hearing.text(fields["model"])
    parsed = Parsed(fields, model, b"", 0, None, False, False, "", counted=file.tokens)
    return Heard(parsed, file, digest.hexdigest()[:32])


async def _parts(kind: str, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), len(body) + 1)
    stream.feed_data(body)
    stream.feed_eof()
    fields: list[tuple[str, str]] = []
    file: bytes | None = None
    async for part in MultipartReader({hdrs.CONTENT_TYPE: kind}, stream):
        if not isinstance(part, BodyPartReader) or len(fields) >= FIELDS_MAX:
            raise CallerError("invalid_value", "the form has more or other parts than are taken")
        name = _name(part)
        data = bytes(await part.read())
        if name == "file":
            if file is not None:
                raise CallerError("invalid_value", "send one 'file'", param="file")
            file = data
        elif len(data) > FIELD_BYTES_MAX:
            raise CallerError("invalid_value", f"{name!r} is too long", param=name)
        else:
            fields.append((name, data.decode("utf-8")))
    if not file:
        raise CallerError("invalid_value", "'file' is required", param="file")
    return fields, file


def _name(part: BodyPartReader) -> str:
    """Of a part. Raises ValueError for one that is no text. aiohttp's own reading finds none beside
    a file name with two semicolons."""
    head, given = Message(), part.headers.get(hdrs.CONTENT_DISPOSITION, "")
    given.encode()  # bytes that are no UTF-8 came as halves of characters
    head["content-disposition"] = given
    name = head.get_param("name", "", "content-disposition")
    if not isinstance(name, str):
        raise ValueError("a part's name is no plain text")
    return name[:100]


class Written(Passing[Wire]):
    """Implements `Client` for one call: its good answer in the format that was asked for."""

    def __init__(self, client: Wire, wanted: str) -> None:
        super().__init__(client)
        self._wanted = wanted

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        if status != 200:
            self._client.answer(status, body, head)
        elif not self._client.is_closed:
            if _WITHHELD in body[-100:]:
                head += FILTERED
            kind = b"content-type: %b\r\n" % hearing.KINDS[self._wanted]
            data = hearing.written(body, self._wanted)
            self._client.start(head, kind)
            self._client.end(data)
