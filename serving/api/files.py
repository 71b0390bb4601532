"""`/v1/files`: a tenant's files for batches, and what batches wrote."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from serving.batch.base import PAGE_MAX, BatchStore, Page
from serving.batch.upload import Terms, Upload, room
from serving.batch.values import File, Purpose
from serving.errors import CallerError, OwnError
from serving.records import Caller
from serving.wire.server import Connection, Request

FILES = b"/v1/files"
_T = TypeVar("_T")
_BYTES = b"content-type: application/octet-stream\r\ncache-control: no-store\r\n"


class Files:
    """Answers what is asked about files; every method raises BallastError."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._uploads: Counter[str] = Counter()
        """Under way, by tenant."""

    def upload(self, request: Request, caller: Caller, transport: asyncio.Transport) -> Upload:
        """Where the body of an upload goes."""
        kind = request.headers.get(b"content-type", b"").decode("latin-1")
        if not kind.lower().startswith("multipart/form-data;"):
            message = "send the file as 'Content-Type: multipart/form-data; boundary=...'"
            raise CallerError("unsupported_media_type", message)
        if request.headers.get(b"content-encoding", b"identity") != b"identity":
            message = "compressed request bodies are not accepted"
            raise CallerError("unsupported_media_type", message)
        most, tenant = self._terms.settings.uploads_max, caller.tenant
        if self._uploads.total() >= most or self._uploads[tenant] >= (most + 1) // 2:
            message = "too many uploads at once; send it again"
            raise OwnError("no_capacity", message, retry_after_s=5.0)
        try:
            upload = Upload(self._terms, caller, kind, transport)
        except ValueError as error:
            message = "the content type names no usable boundary"
            raise CallerError("unsupported_media_type", message) from error
        self._uploads[tenant] += 1
        upload.when_over(lambda: self._over(tenant))
        return upload

    def _over(self, tenant: str) -> None:
        self._uploads[tenant] -= 1
        self._uploads += Counter()  # forgets who has none

    async def uploaded(self, request: Request) -> dict[str, Any]:
        """The file that came."""
        assert isinstance(request.sink, Upload)
        return shown(await request.sink.file())

    async def listed(self, caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of them."""
        asked = page(query, PAGE_MAX)
        if purpose := query.get("purpose"):
            if purpose not in list(Purpose):
                return listing([], asked.limit)
            asked = asked._replace(purpose=Purpose(purpose))
        found = await self._ask(caller, lambda store: store.files(caller.tenant, asked))
        return listing(list(map(shown, found)), asked.limit)

    async def find(self, caller: Caller, file_id: str) -> File:
        """One of the caller's."""
        file = await self._ask(caller, lambda store: store.file(caller.tenant, file_id))
        if file is None or file.expires_ms <= self._terms.utc_ms():
            raise CallerError("not_found", f"there is no file {file_id[:80]!r}")
        return file

    async def drop(self, caller: Caller, file_id: str) -> dict[str, Any]:
        """Remove one. A batch that reads it has read it, or fails."""
        is_gone = await self._ask(caller, lambda store: store.drop_file(caller.tenant, file_id))
        if not is_gone:
            raise CallerError("not_found", f"there is no file {file_id[:80]!r}")
        return {"id": file_id, "object": "file", "deleted": True}

    async def send(self, caller: Caller, file_id: str, connection: Connection) -> None:
        """Its bytes, piece by piece, no faster than the client reads."""
        await self.find(caller, file_id)
        piece = await self._piece(caller, file_id, 0)
        number = 0
        connection.start(b"", _BYTES)
        while piece is not None and not connection.is_closed:
            connection.write(piece)
            await connection.writable()
            number += 1
            try:
                piece = await self._piece(caller, file_id, number)
            except OwnError:
                connection.abort()  # an answer that began cannot say so in another way
                return
        connection.end()

    async def check_room(self, caller: Caller, size: int) -> None:
        """Whether the caller's tenant may store so much more. Raises CallerError."""
        used = await self._ask(caller, lambda store: store.used(caller.tenant))
        room(used, self._terms.settings, size)

    async def _piece(self, caller: Caller, file_id: str, number: int) -> bytes | None:
        return await self._ask(caller, lambda store: store.piece(file_id, number))

    async def _ask(self, caller: Caller, question: Callable[[BatchStore], _T]) -> _T:
        return await self._terms.desk.ask(question, caller.tenant)


def shown(file: File) -> dict[str, Any]:
    """A file in OpenAI's words."""
    return {
        "id": file.id, "object": "file", "bytes": file.size, "created_at": file.created_ms // 1000,
        "expires_at": file.expires_ms // 1000, "filename": file.name, "purpose": file.purpose,
        "status": "processed", "status_details": None,
    }  # fmt: skip


def page(query: Mapping[str, str], limit: int) -> Page:
    """The page that a query asks for. Raises CallerError."""
    asked = query.get("limit", str(limit))
    if not (asked.isdecimal() and len(asked) < 7 and int(asked) >= 1):
        raise CallerError("invalid_value", "'limit' must be a whole number from 1", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise CallerError("invalid_value", "'order' must be asc or desc", param="order")
    count = min(int(asked), PAGE_MAX)
    return Page(query.get("after", "")[:100], count, is_oldest_first=order == "asc")


def listing(rows: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page in OpenAI's words, of one row more than it shows."""
    shown_rows = rows[:limit]
    return {
        "object": "list", "data": shown_rows, "has_more": len(rows) > limit,
        "first_id": shown_rows[0]["id"] if shown_rows else None,
        "last_id": shown_rows[-1]["id"] if shown_rows else None,
    }  # fmt: skip


def encoded(answer: Any) -> bytes:
    """As JSON."""
    return msgspec.json.encode(answer)
