"""`/v1/batches`, and the routes of files and batches on the public listener."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec

from serving import errors
from serving.api import batch_requests, files
from serving.api.calls import Calls
from serving.api.files import FILES, Files, encoded, listing, page
from serving.batch.base import BatchStore
from serving.batch.desk import Desk
from serving.batch.settings import BatchSettings
from serving.batch.tallies import Tallies
from serving.batch.values import Batch, Counts, Standing, Status
from serving.errors import BallastError, CallerError
from serving.records import Caller
from serving.wire.server import Connection, Request, Sink

BATCHES = b"/v1/batches"
OWN_PATHS = (FILES, BATCHES)
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_T = TypeVar("_T")


class Terms(NamedTuple):
    """What the routes work with; built by the composition root."""

    desk: Desk
    settings: BatchSettings
    calls: Calls
    files: Files
    poke: Callable[[], None]
    """Tells the runner that something is to be done."""
    utc_ms: Callable[[], int]


class BatchRoutes:
    """Answers everything below `OWN_PATHS`."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._files = terms.files
        self._tallies = Tallies(terms.desk)
        self._under_way: Counter[str] = Counter()
        """Requests, by tenant."""

    def upload(self, request: Request, caller: Caller, transport: asyncio.Transport) -> Sink:
        """Where the body of an upload goes. Raises BallastError."""
        return self._files.upload(request, caller, transport)

    def route(self, request: Request, caller: Caller, connection: Connection) -> None:
        """Answer one request. Raises CallerError for a path or a method that is none."""
        path, _, query_text = request.path.decode("latin-1").partition("?")
        try:
            query = dict(parse_qsl(query_text, max_num_fields=20))
        except ValueError as error:
            raise CallerError("invalid_request", f"the query cannot be read: {error}") from None
        base, *rest = path.removeprefix("/v1/").split("/")
        if not all(map(_ID.fullmatch, rest)):
            raise CallerError("not_found", "no such path; the API is under /v1")
        of = self._of_files if base == "files" else self._of_batches
        known: dict[tuple[str, ...], Any] = of(rest, (request, caller, query), connection)
        method = request.method.decode("latin-1")
        shape = tuple("id" if n == 0 else part for n, part in enumerate(rest))
        found = known.get((method, *shape))
        if base not in ("files", "batches") or not any(key[1:] == shape for key in known):
            raise CallerError("not_found", "no such path; the API is under /v1")
        if found is None:
            allowed = ", ".join(key[0] for key in known if key[1:] == shape)
            raise CallerError("method_not_allowed", f"use {allowed} on this path")
        # An upload has its own bound, and has been taken by now.
        answer = found if request.sink is not None else lambda: self._bounded(caller.tenant, found)
        connection.run(_answered(answer, connection))

    async def _bounded(self, tenant: str, found: Callable[[], Awaitable[_T]]) -> _T:
        """One of the few requests that a tenant may have under way."""
        if self._under_way[tenant] >= self._terms.settings.requests_of_tenant_max:
            message = "this tenant has too many requests for files and batches under way"
            raise CallerError("rate_limit_exceeded", message, retry_after_s=1.0)
        self._under_way[tenant] += 1
        try:
            return await found()
        finally:
            self._under_way[tenant] -= 1
            self._under_way += Counter()  # forgets who has none

    def _of_files(
        self, rest: list[str], asked: tuple[Request, Caller, Mapping[str, str]],
        connection: Connection,
    ) -> dict[tuple[str, ...], Any]:  # fmt: skip
        request, caller, query = asked
        own, name = self._files, rest[0] if rest else ""
        return {
            ("POST",): lambda: own.uploaded(request),
            ("GET",): lambda: own.listed(caller, query),
            ("GET", "id"): lambda: self._file(caller, name),
            ("DELETE", "id"): lambda: own.drop(caller, name),
            ("GET", "id", "content"): lambda: own.send(caller, name, connection),
        }

    async def _file(self, caller: Caller, file_id: str) -> dict[str, Any]:
        return files.shown(await self._files.find(caller, file_id))

    def _of_batches(
        self, rest: list[str], asked: tuple[Request, Caller, Mapping[str, str]], _: Connection
    ) -> dict[tuple[str, ...], Any]:
        request, caller, query = asked
        name = rest[0] if rest else ""
        return {
            ("POST",): lambda: self._create(request, caller),
            ("GET",): lambda: self._listed(caller, query),
            ("GET", "id"): lambda: self._shown(caller, name),
            ("POST", "id", "cancel"): lambda: self._cancel(caller, name),
        }

    async def _create(self, request: Request, caller: Caller) -> dict[str, Any]:
        terms = self._terms
        batch = batch_requests.read(request, caller, terms.calls.classes, terms.utc_ms())
        if batch.mark and (made := await self._made(caller, batch)) is not None:
            return made
        size = (await self._files.find(caller, batch.input_file)).size
        await self._files.check_room(caller, size)
        batch = msgspec.structs.replace(batch, input_size=size)
        most, kept = terms.settings.batches_of_tenant_max, terms.settings.ended_of_tenant_max
        if not await self._ask(caller, lambda store: store.add_batch(batch, most, kept)):
            message = f"this tenant has {most} batches under way; wait for one, or cancel one"
            raise CallerError("rate_limit_exceeded", message, retry_after_s=60.0)
        terms.poke()
        made = await self._made(caller, batch) if batch.mark else None  # perhaps not by us
        return made or shown(Standing(batch), Counts())

    async def _made(self, caller: Caller, batch: Batch) -> dict[str, Any] | None:
        """What an earlier try with the same `Idempotency-Key` made."""
        found = await self._ask(caller, lambda store: store.batch(caller.tenant, batch.id))
        if found is None:
            return None
        if found.batch.mark != batch.mark:
            message = "this Idempotency-Key was used for another batch"
            raise CallerError("idempotency_mismatch", message)
        return await self._counted(caller, found)

    async def _ask(self, caller: Caller, question: Callable[[BatchStore], _T]) -> _T:
        return await self._terms.desk.ask(question, caller.tenant)

    async def _find(self, caller: Caller, batch_id: str) -> Standing:
        found = await self._ask(caller, lambda store: store.batch(caller.tenant, batch_id))
        if found is None:
            raise CallerError("not_found", f"there is no batch {batch_id[:80]!r}")
        return found

    async def _shown(self, caller: Caller, batch_id: str) -> dict[str, Any]:
        return await self._counted(caller, await self._find(caller, batch_id))

    async def _counted(self, caller: Caller, found: Standing) -> dict[str, Any]:
        counts = found.batch.counts
        if counts is None:
            counts = await self._ask(caller, lambda store: store.counts(found.batch.id))
        return shown(found, counts)

    async def _listed(self, caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
        asked = page({k: v for k, v in query.items() if k != "order"}, 20)
        found = await self._ask(caller, lambda store: store.batches(caller.tenant, asked))
        still = [one.batch.id for one in found if one.batch.counts is None]
        counts = await self._tallies.of(caller.tenant, still)
        rows = [shown(one, one.batch.counts or counts[one.batch.id]) for one in found]
        return listing(rows, asked.limit)

    async def _cancel(self, caller: Caller, batch_id: str) -> dict[str, Any]:
        found = await self._find(caller, batch_id)
        if not found.batch.is_open:
            message = f"the batch is {found.batch.status} already"
            raise CallerError("conflict", message)
        now_ms = self._terms.utc_ms()
        await self._ask(caller, lambda store: store.cancel(caller.tenant, batch_id, now_ms))
        self._terms.poke()
        return await self._shown(caller, batch_id)


async def _answered(work: Callable[[], Awaitable[Any]], connection: Connection) -> None:
    """Answer with what the work gives, or says is wrong; None has answered itself."""
    try:
        answer = await work()
    except BallastError as error:
        status = errors.TABLE[error.code].status
        wait_s = error.retry_after_s or 1.0
        head = b"retry-after: %d\r\n" % round(wait_s) if status in (409, 429, 503) else b""
        connection.answer(status, errors.body(error.code, error.message, error.param), head)
    else:
        if answer is not None:
            connection.answer(200, encoded(answer))


def shown(found: Standing, counts: Counts) -> dict[str, Any]:
    """A batch in OpenAI's words."""
    batch, times = found.batch, found.batch.times
    is_asked = found.cancel_ms and batch.status in (Status.VALIDATING, Status.IN_PROGRESS)
    is_ending = batch.status is Status.FINALIZING and batch.ends_as is Status.CANCELLED
    status = Status.CANCELLING if is_asked or is_ending else batch.status
    at = {f"{name}_at": times[name] // 1000 if name in times else None for name in Status}
    del at["validating_at"]
    at["cancelling_at"] = found.cancel_ms // 1000 if found.cancel_ms else None
    faults = [msgspec.to_builtins(fault) for fault in batch.errors]
    return {
        "id": batch.id, "object": "batch", "endpoint": batch.endpoint, "model": batch.model or None,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input_file, "completion_window": batch.window, "status": status,
        "output_file_id": batch.output_file or None, "error_file_id": batch.error_file or None,
        "created_at": batch.created_ms // 1000, "expires_at": batch.expires_ms // 1000, **at,
        "request_counts": {
            "total": counts.total, "completed": counts.done, "failed": counts.failed,
        },
        "metadata": batch.metadata,
    }  # fmt: skip
