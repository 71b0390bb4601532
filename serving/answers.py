"""The last bytes of a call that did not succeed. Pure: the error and how far the call had come go
in, status, headers and body come out."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from serving import errors
from serving.attempt import outcome_of
from serving.errors import BallastError, UpstreamError
from serving.progress import Progress, Tail
from serving.records import Exposure, Outcome

_PASSED = frozenset({400, 403, 413, 422})
"""Statuses of an engine that reach the caller as they are."""
_RETRY_STATUSES = frozenset({409, 429, 503})
RETRY_S_MAX = 3600.0
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def failure(progress: Progress, error: BallastError) -> Tail:
    """How a call ends with `error`; records it in `progress`."""
    outcome = outcome_of(error)
    row = errors.TABLE[error.code]
    status, body = row.status, errors.body(error.code, error.message, error.param)
    if isinstance(error, UpstreamError) and error.kind in errors.FINAL:
        is_told = progress.caller.policy.exposure is Exposure.FULL
        if not progress.is_api or is_told:
            status, body = _final(error, body, is_own=not progress.is_api)
    if progress.has_committed:
        progress.ended(Outcome.CUT, 200, error.code)
        return Tail(200, _error_event(body, progress), b"", is_stream=True)
    progress.ended(outcome, status, error.code)
    head = progress.head()
    if row.retryable and status in _RETRY_STATUSES:
        wait_s = min(error.retry_after_s or 1.0, RETRY_S_MAX)
        head += b"retry-after: %d\r\n" % max(1, math.ceil(wait_s))
    return Tail(status, body, head, is_stream=False)


def _final(error: UpstreamError, body: bytes, *, is_own: bool) -> tuple[int, bytes]:
    """The answer for a call that its target refused for good: our engine's own words, or ours with
    a third party's message."""
    status = errors.TABLE[error.code].status
    try:
        data = msgspec.json.decode(error.body, type=dict[str, Any])
    except _UNREADABLE:
        return status, body
    told = data.get("error", data)
    if not isinstance(told, dict) or not isinstance(told.get("message"), str):
        return status, body
    if is_own:
        return (error.status if error.status in _PASSED else status), error.body
    return status, errors.body(error.code, f"the provider refused it: {told['message'][:300]}")


def _error_event(body: bytes, progress: Progress) -> bytes:
    """The final event of a broken stream: what went wrong, and the usage so far."""
    error = msgspec.json.decode(body)
    error["error"]["code"] = "stream_interrupted"
    usage = progress.usage
    error["usage"] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "is_estimated": usage.is_estimated,
    }
    return b"data: " + msgspec.json.encode(error) + b"\n\n"
