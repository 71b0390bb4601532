"""Every way a request can fail, in one tree and one table.

    BallastError
    ├── CallerError      the caller's fault: never sent to a paid API, never retried
    ├── OwnError         ours: full, down, not configured
    └── UpstreamError    a target's, before anything reached the client

Domain code raises with a code; only `TABLE` knows HTTP. Refusals inside the pure middle are values
(`records.Refuse`) carrying the same codes.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from models.worded import packed
from serving.records import Label, Usage


class Row(NamedTuple):
    """How one code looks from outside."""

    status: int
    type: str
    retryable: bool


_INVALID = "invalid_request_error"
_AUTH = "authentication_error"
_DENIED = "permission_error"
_LIMIT = "rate_limit_error"
_QUOTA = "insufficient_quota"  # OpenAI's type where money is spent
_BUSY = "service_unavailable_error"
_API = "api_error"

TABLE: dict[str, Row] = {
    # The caller's.
    "invalid_request": Row(400, _INVALID, False),
    "invalid_json": Row(400, _INVALID, False),
    "invalid_encoding": Row(400, _INVALID, False),
    "invalid_value": Row(400, _INVALID, False),
    "remote_media_refused": Row(400, _INVALID, False),
    "context_length_exceeded": Row(400, _INVALID, False),
    "unsupported_surface": Row(404, _INVALID, False),
    "missing_api_key": Row(401, _AUTH, False),
    "invalid_api_key": Row(401, _AUTH, False),
    # Of this call alone, as their type says: one-api switches a whole channel off for a
    # `permission_error`.
    "model_not_allowed": Row(403, _INVALID, False),
    "header_not_allowed": Row(403, _INVALID, False),
    "residency_refused": Row(403, _INVALID, False),
    "not_found": Row(404, _INVALID, False),
    "model_not_found": Row(404, _INVALID, False),
    "method_not_allowed": Row(405, _INVALID, False),
    "request_timeout": Row(408, _INVALID, True),
    "idempotency_in_flight": Row(409, _INVALID, True),
    "already_served": Row(409, _INVALID, False),
    "conflict": Row(409, _INVALID, False),
    "role_required": Row(403, _DENIED, False),
    "body_too_large": Row(413, _INVALID, False),
    "unsupported_media_type": Row(415, _INVALID, False),
    "idempotency_mismatch": Row(422, _INVALID, False),
    "headers_too_large": Row(431, _INVALID, False),
    "rate_limit_exceeded": Row(429, _LIMIT, True),
    "budget_exceeded": Row(429, _QUOTA, True),
    # Ours.
    "internal_error": Row(500, _API, True),
    "journal_full": Row(503, _BUSY, True),
    "directory_away": Row(503, _BUSY, True),
    "quality_away": Row(503, _BUSY, True),
    "reviews_away": Row(503, _BUSY, True),
    "batches_away": Row(503, _BUSY, True),
    "ledger_away": Row(503, _BUSY, True),
    "identity_away": Row(503, _BUSY, True),
    "draining": Row(503, _BUSY, True),
    "loop_detected": Row(508, _INVALID, False),
    "no_capacity": Row(503, _BUSY, True),
    "engine_loading": Row(503, _BUSY, True),
    "queue_full": Row(503, _BUSY, True),
    "deadline_unreachable": Row(503, _BUSY, True),
    "stopped": Row(503, _BUSY, True),
    "queue_timeout": Row(503, _BUSY, True),
    # Upstream, when no further target may be tried.
    "upstream_unavailable": Row(502, _API, True),
    "upstream_refused": Row(400, _INVALID, False),
    "upstream_timeout": Row(504, _API, True),
    "content_filter": Row(400, _INVALID, False),
    "stream_interrupted": Row(502, _API, True),
}


TOLD = {"no_capacity": "overloaded"}
"""Codes that clients get another word for: RAGFlow takes an error whose text holds "capacity" for
an exhausted quota, and does not try again (rag/llm/chat_model.py, read 2026-11-26)."""


class BallastError(Exception):
    """Never raised itself; carries a code of `TABLE` and a message safe to show the caller."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        if type(self) is BallastError:
            raise TypeError("raise CallerError, OwnError or UpstreamError, not their base")
        assert code in TABLE, code
        super().__init__(message)
        self.code = code
        self.message = str(message)
        """In English; what it was made of, where it has a code, stays in `args`."""
        self.param = param
        self.retry_after_s = retry_after_s


class CallerError(BallastError):
    """The request is wrong; sending it again unchanged cannot help."""


class OwnError(BallastError):
    """We cannot serve it now."""


class Kind(Label):
    """What went wrong at a target: decides retry, breaker and metric label."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    FULL = "full"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    ACCOUNT_DEAD = "account_dead"
    KEY_DEAD = "key_dead"
    TARGET_DEAD = "target_dead"
    QUOTA_WINDOW = "quota_window"
    CONTENT_FILTER = "content_filter"
    CONTEXT_TOO_LONG = "context_too_long"
    BAD_REQUEST = "bad_request"
    CUT = "cut"
    PROTOCOL = "protocol"


FINAL: frozenset[Kind] = frozenset({Kind.BAD_REQUEST, Kind.CONTENT_FILTER, Kind.CONTEXT_TOO_LONG})
"""Kinds that another target must not see: the caller's fault, or a block with legal meaning."""

COUNTS: frozenset[Kind] = frozenset(
    {Kind.CONNECT, Kind.TIMEOUT, Kind.OVERLOADED, Kind.SERVER_ERROR, Kind.CUT, Kind.PROTOCOL}
)
"""Kinds that count towards a breaker."""

OPENS: dict[Kind, float] = {
    Kind.RATE_LIMIT: 15.0,
    Kind.ACCOUNT_DEAD: 600.0,
    Kind.KEY_DEAD: 600.0,
    Kind.TARGET_DEAD: 600.0,
    Kind.QUOTA_WINDOW: 600.0,
}
"""Kinds that open a breaker at once, and for how many seconds unless the target said longer."""


OPENS_S_MAX = 3600.0
"""A Retry-After beyond this is believed for an hour, then probed."""


class UpstreamError(BallastError):
    """A target failed before the commit point."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        retry_after_s: float | None = None,
        sent: bool = True,
        body: bytes = b"",
        status: int = 0,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(_CODES.get(kind, "upstream_unavailable"), message)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.sent = sent
        """Whether the target may have begun to work (and to bill)."""
        self.body = body
        """The target's own OpenAI-shaped error, passed on when the kind is final."""
        self.status = status
        self.usage = usage
        """What the target says it did before it failed: that is billed."""


_CODES = {
    Kind.FULL: "no_capacity",
    Kind.RATE_LIMIT: "no_capacity",
    Kind.OVERLOADED: "no_capacity",
    Kind.QUOTA_WINDOW: "no_capacity",
    Kind.BAD_REQUEST: "upstream_refused",
    Kind.CONTENT_FILTER: "content_filter",
    Kind.CONTEXT_TOO_LONG: "context_length_exceeded",
    Kind.TIMEOUT: "upstream_timeout",
}


def body(code: str, message: str, param: str | None = None) -> bytes:
    """The OpenAI-shaped JSON error for a code of `TABLE`."""
    return msgspec.json.encode({"error": _shaped(code, message, param)})


def told(code: str, message: str, param: str | None = None) -> bytes:
    """The same for a listener of ours alone: with the sentence by its code and values, for who
    tells it in another language."""
    error = _shaped(code, message, param)
    said = packed(message)
    return msgspec.json.encode({"error": error | ({} if said is None else {"said": said})})


def _shaped(code: str, message: str, param: str | None) -> dict[str, str | None]:
    shown, row = TOLD.get(code, code), TABLE[code]
    return {"message": str(message), "type": row.type, "param": param, "code": shown}
