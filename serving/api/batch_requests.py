"""What `POST /v1/batches` asks for, as a batch.

With an `Idempotency-Key` the batch's id follows from tenant, key and header: a retry finds what its
first try made, on any gateway, as long as that is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec
import uuid_utils

from serving import forwarded
from serving.api import hints
from serving.batch import lines
from serving.batch.upload import expires_s
from serving.batch.values import Batch
from serving.errors import CallerError
from serving.records import Caller, LatencyClass
from serving.settings import Deadlines
from serving.wire.server import Request

WINDOW_H_MAX = 168
_WINDOW = re.compile(r"([1-9]\d{0,2})h")
_PAIRS_MAX, _KEY_CHARS_MAX, _VALUE_CHARS_MAX = 16, 64, 512
_HEADERS = (*lines.HEADERS, forwarded.TENANT, forwarded.PROJECT, forwarded.FEATURE)
_DAY_S = 86_400
Classes: TypeAlias = Mapping[LatencyClass, Deadlines]


class _Expires(msgspec.Struct):
    anchor: str
    seconds: int


class _Create(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _Expires | None = None


def read(request: Request, caller: Caller, classes: Classes, now_ms: int) -> Batch:
    """The batch. Raises CallerError."""
    try:
        given = msgspec.json.decode(request.body, type=_Create)
    except msgspec.ValidationError as error:
        raise CallerError("invalid_value", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallerError("invalid_json", "the body is not valid JSON") from None
    if lines.surface_of(given.endpoint) is None:
        message = f"'endpoint' must be one of {', '.join(lines.ENDPOINTS)}"
        raise CallerError("invalid_value", message, param="endpoint")
    window = _WINDOW.fullmatch(given.completion_window)
    if window is None or int(window[1]) > WINDOW_H_MAX:
        message = f"'completion_window' must be hours like 24h, at most {WINDOW_H_MAX}h"
        raise CallerError("invalid_value", message, param="completion_window")
    headers = request.headers
    hints.read(headers, caller, classes)  # what is wrong is said now
    kept = {n.decode(): headers[n].decode("latin-1") for n in _HEADERS if n in headers}
    batch_id, mark = _identity(request, caller, kept)
    return Batch(
        batch_id, caller.tenant, caller.key_id, given.endpoint,
        given.input_file_id[:100], window[0], now_ms, now_ms + int(window[1]) * 3_600_000,
        end_user=caller.user, headers=kept, metadata=_metadata(given.metadata),
        output_days=_days(given.output_expires_after), mark=mark,
    )  # fmt: skip


def _identity(request: Request, caller: Caller, kept: dict[str, str]) -> tuple[str, str]:
    """The batch's id, and the mark of what was asked: empty without an `Idempotency-Key`."""
    name = request.headers.get(b"idempotency-key")
    if not name:
        return f"batch_{uuid_utils.uuid7().hex}", ""
    # Tenant and key are proven, so nobody else's request can name this id; it need be no secret.
    whose = _mark([caller.tenant, caller.key_id, name.decode("latin-1")])
    asked = [hashlib.sha256(request.body).hexdigest(), caller.user, sorted(kept.items())]
    return f"batch_{whose}", _mark(asked)


def _mark(parts: Sequence[object]) -> str:
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def _metadata(given: dict[str, str] | None) -> dict[str, str] | None:
    for key, value in (given or {}).items():
        if len(key) > _KEY_CHARS_MAX or len(value) > _VALUE_CHARS_MAX:
            message = f"'metadata': keys of {_KEY_CHARS_MAX}, values of {_VALUE_CHARS_MAX} letters"
            raise CallerError("invalid_value", f"{message} at most", param="metadata")
    if given and len(given) > _PAIRS_MAX:
        message = f"'metadata' has more than {_PAIRS_MAX} pairs"
        raise CallerError("invalid_value", message, param="metadata")
    return given


def _days(given: _Expires | None) -> int:
    """How long output files are kept, in whole days; 0 is not said."""
    if given is None:
        return 0
    return -(-expires_s(str(given.seconds)) // _DAY_S)
