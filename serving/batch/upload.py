"""A file that comes in, piece by piece into the store: it never stands in memory whole.

The multipart reader is aiohttp's; while it is behind, the client's transport is paused. Takes
`purpose`, `file` and OpenAI's `expires_after[...]`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
import uuid_utils
from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from serving.batch.base import PIECE_BYTES, BatchStore, Lost, Used
from serving.batch.desk import Desk
from serving.batch.settings import BatchSettings
from serving.batch.values import File, Purpose
from serving.errors import BallastError, CallerError
from serving.records import Caller

DAY_MS = 86_400_000
_T = TypeVar("_T")
_FRAME_BYTES = 64 << 10
"""Of the form around the file."""
_FIELD_BYTES_MAX, _NAME_CHARS_MAX, _PARTS_MAX = 1024, 200, 8
_CHUNK_BYTES = 256 << 10
_EXPIRES_S = 3600, 30 * 86_400


_MALFORMED = (ValueError, HttpProcessingError)
"""The second: a part's own headers cannot be read."""


class _Cut(Exception):  # noqa: N818 - a state
    """The client is gone, or its body was refused."""


class _Flow(BaseProtocol):
    """Pauses the client's transport while the reader is behind."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        super().__init__(loop)
        self._from = self.transport = transport  # a reader without one takes it for closed

    def pause_reading(self) -> None:
        """See `BaseProtocol`."""
        if not self._reading_paused and not self._from.is_closing():
            self._reading_paused = True
            self._from.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002 - the base's
        """See `BaseProtocol`."""
        if self._reading_paused and not self._from.is_closing():
            self._reading_paused = False
            self._from.resume_reading()


class Terms(NamedTuple):
    """What an upload works with."""

    desk: Desk
    settings: BatchSettings
    utc_ms: Callable[[], int]


class Upload:
    """Implements the wire's `Sink`; a task of its own takes what is fed."""

    def __init__(
        self, terms: Terms, caller: Caller, content_type: str, transport: asyncio.Transport
    ) -> None:
        self.bytes_max = terms.settings.file_bytes_max + _FRAME_BYTES
        self.wait_s = terms.settings.upload_wait_s
        self._terms = terms
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._flow = _Flow(self._loop, transport)
        self._stream = StreamReader(self._flow, _CHUNK_BYTES, loop=self._loop)
        self._reader = MultipartReader({hdrs.CONTENT_TYPE: content_type}, self._stream)
        self._fields: dict[str, str] = {}
        self._is_ended = False
        now_ms = terms.utc_ms()
        self._file = File(
            f"file-{uuid_utils.uuid7().hex}", caller.tenant, caller.key_id, Purpose.BATCH, "", 0,
            now_ms, now_ms + terms.settings.keep_days * DAY_MS, caller.user,
        )  # fmt: skip
        self._task = self._loop.create_task(self._take(), name="upload")
        self._task.add_done_callback(self._taken)

    def feed(self, data: bytes) -> None:
        """See `wire.Sink`."""
        if not self._task.done():
            self._stream.feed_data(data)

    def end(self, is_whole: bool) -> None:
        """See `wire.Sink`."""
        if not self._is_ended:
            self._is_ended = True
            if is_whole:
                self._stream.feed_eof()
            else:
                self._stream.set_exception(_Cut())

    def when_over(self, tell: Callable[[], None]) -> None:
        """Call `tell` once it has ended, well or not."""
        self._task.add_done_callback(lambda _: tell())

    async def file(self) -> File:
        """The file, once all of it is stored. Raises BallastError."""
        return await self._task

    def _taken(self, task: asyncio.Task[File]) -> None:
        self._flow.resume_reading()  # whatever still comes is dropped
        if not task.cancelled():
            task.exception()  # the client may be gone: nobody else asks

    async def _take(self) -> File:
        try:
            async with asyncio.timeout(self.wait_s):  # whatever becomes of who feeds it
                await self._check_room()
                await self._parts()
                return await self._finish()
        except BaseException as error:
            await self._ask(lambda store: store.drop_file(self._file.tenant, self._file.id))
            if isinstance(error, TimeoutError):
                message = f"the file was not stored within {self.wait_s:g} s"
                raise CallerError("request_timeout", message) from error
            if isinstance(error, Lost):
                message = "the file was removed while it came in"
                raise CallerError("conflict", message) from error
            if isinstance(error, _MALFORMED) and not isinstance(error, BallastError):
                message = "the body is not the multipart/form-data expected"
                raise CallerError("invalid_value", message) from error
            raise

    async def _check_room(self) -> None:
        given = self._terms.settings
        used = await self._ask(lambda store: store.used(self._caller.tenant))
        self._left = min(given.file_bytes_max, room(used, given))

    async def _ask(self, question: Callable[[BatchStore], _T]) -> _T:
        return await self._terms.desk.ask(question, self._caller.tenant)

    async def _parts(self) -> None:
        count = 0
        async for part in self._reader:
            count += 1
            if not isinstance(part, BodyPartReader) or count > _PARTS_MAX:
                raise CallerError("invalid_value", "send the fields 'purpose' and 'file'")
            encoding = part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary").lower()
            if encoding not in ("binary", "8bit", "7bit"):
                message = f"content-transfer-encoding {encoding[:20]!r} is not taken"
                raise CallerError("invalid_value", message)
            if part.name == "file":
                if self._file.size or self._file.name:
                    raise CallerError("invalid_value", "send one 'file'", param="file")
                await self._store(part)
            else:
                await self._field(part)

    async def _field(self, part: BodyPartReader) -> None:
        data = bytearray()
        while chunk := await part.read_chunk(_FIELD_BYTES_MAX):
            data += chunk
            if len(data) > _FIELD_BYTES_MAX:
                raise CallerError("invalid_value", "a field of the form is too long")
        self._fields[(part.name or "")[:_NAME_CHARS_MAX]] = data.decode("utf-8", "replace")

    async def _store(self, part: BodyPartReader) -> None:
        name = (part.filename or "upload.jsonl")[:_NAME_CHARS_MAX]
        self._file = msgspec.structs.replace(self._file, name=name)
        file_id, number, size = self._file.id, 0, 0
        await self._ask(lambda store: store.put_file(self._file))
        piece = bytearray()
        while True:
            chunk = await part.read_chunk(_CHUNK_BYTES)
            size += len(chunk)
            if size > self._left:
                message = f"the file exceeds {self._left} bytes, which this tenant may store"
                raise CallerError("body_too_large", message)
            piece += chunk
            if len(piece) >= PIECE_BYTES or (piece and not chunk):
                data, piece = bytes(piece), bytearray()
                await self._add(file_id, number, data)
                number += 1
            if not chunk:
                break
        self._file = msgspec.structs.replace(self._file, size=size)

    async def _add(self, file_id: str, number: int, data: bytes) -> None:
        await self._ask(lambda store: store.add_piece(file_id, number, data))

    async def _finish(self) -> File:
        if not self._file.name:
            raise CallerError("invalid_value", "'file' is required", param="file")
        if (purpose := self._fields.get("purpose")) != Purpose.BATCH:
            message = f"'purpose' must be 'batch', not {(purpose or '')[:40]!r}"
            raise CallerError("invalid_value", message, param="purpose")
        until_ms = self._file.expires_ms
        if (seconds := self._fields.get("expires_after[seconds]")) is not None:
            asked_ms = self._file.created_ms + expires_s(seconds) * 1000
            until_ms = min(until_ms, asked_ms)
        file = msgspec.structs.replace(self._file, expires_ms=until_ms, is_whole=True)
        await self._ask(lambda store: store.end_file(file))
        return file


def room(used: Used, given: BatchSettings, size: int = 1) -> int:
    """How many bytes more a tenant may store. Raises CallerError when it may store no file more of
    that size."""
    left = given.bytes_of_tenant_max - used.bytes
    if used.files >= given.files_of_tenant_max or left < size:
        message = (
            f"this tenant has stored {used.files} files with {used.bytes} bytes, one as large as"
            f" its input for each open batch; at most {given.files_of_tenant_max} with"
            f" {given.bytes_of_tenant_max}: delete some"
        )
        raise CallerError("rate_limit_exceeded", message)
    return left


def expires_s(given: str) -> int:
    """Seconds until a file expires, as a client asks for it. Raises CallerError."""
    least, most = _EXPIRES_S
    if not (len(given) < 9 and given.isdecimal() and least <= int(given) <= most):
        message = f"'expires_after.seconds' must be between {least} and {most}"
        raise CallerError("invalid_value", message, param="expires_after")
    return int(given)
