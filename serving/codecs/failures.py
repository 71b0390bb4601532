"""What a third party's error means. Pure: status, headers and body in, kind out.

The provider's own rules come first (a 429 may mean "no money"), then the table below. Sources for
the table: the providers' documentation as collected on 2026-11-21.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from models.provider import ErrorRule
from serving.errors import OPENS_S_MAX, Kind, UpstreamError

GENERIC = {
    400: Kind.BAD_REQUEST, 401: Kind.KEY_DEAD, 402: Kind.ACCOUNT_DEAD, 403: Kind.KEY_DEAD,
    404: Kind.TARGET_DEAD, 408: Kind.TIMEOUT, 409: Kind.SERVER_ERROR, 413: Kind.CONTEXT_TOO_LONG,
    422: Kind.BAD_REQUEST, 429: Kind.RATE_LIMIT, 498: Kind.RATE_LIMIT, 500: Kind.SERVER_ERROR,
    502: Kind.SERVER_ERROR, 503: Kind.OVERLOADED, 504: Kind.TIMEOUT, 524: Kind.TIMEOUT,
    529: Kind.OVERLOADED,
}  # fmt: skip
_CODES = {
    "context_length_exceeded": Kind.CONTEXT_TOO_LONG,
    "insufficient_quota": Kind.ACCOUNT_DEAD,
    "content_filter": Kind.CONTENT_FILTER,
    "content_policy_violation": Kind.CONTENT_FILTER,
    "model_not_found": Kind.TARGET_DEAD,
    "invalid_api_key": Kind.KEY_DEAD,
    "rate_limit_exceeded": Kind.RATE_LIMIT,
    "overloaded_error": Kind.OVERLOADED,
}
_decode = msgspec.json.Decoder().decode


def classify(
    rules: tuple[ErrorRule, ...], status: int, body: bytes, headers: Mapping[str, str]
) -> UpstreamError:
    """The error to raise for a refusal; `status` is 200 for an error inside a good answer."""
    code, kind_name, message = _parts(body)
    kind = None
    meant = _status(status, code)
    for rule in rules:
        if rule.matches(meant, code, kind_name, message):
            kind = Kind(rule.kind)
            break
    if kind is None:
        kind = _CODES.get(code) or _CODES.get(kind_name) or GENERIC.get(meant)
    if kind is None:
        kind = Kind.SERVER_ERROR if status >= 500 or status < 400 else Kind.PROTOCOL
    return UpstreamError(
        kind, f"the provider answered {status} ({kind})", retry_after_s=_retry(headers, body),
        body=body, status=status,
    )  # fmt: skip


def _status(status: int, code: str) -> int:
    """An error object inside a 200 often carries its real status as its code."""
    return int(code) if status < 400 and code.isdecimal() and len(code) == 3 else status


def _parts(body: bytes) -> tuple[str, str, str]:
    """Code, type and message of an error body: nested, flat, Google's, MiniMax's or Huawei's."""
    try:
        data: Any = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", "", body[:500].decode("utf-8", "replace")
    error = _error(data)
    if isinstance(error, str):
        return "", "", error
    if not isinstance(error, dict):
        return "", "", ""
    code = error.get("code") or error.get("error_code") or error.get("status_code")
    kind = error.get("status") if isinstance(error.get("status"), str) else error.get("type")
    message = error.get("message") or error.get("error_msg") or error.get("status_msg")
    return str(code or ""), str(kind or ""), str(message or "")


def _error(data: Any) -> Any:
    """The part of a body that tells. Google puts it into a list where it would have streamed."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return None
    error = data.get("error") or data.get("base_resp")
    return data if error is None else error


def _retry(headers: Mapping[str, str], body: bytes) -> float | None:
    """How long to stay away: Azure says it in milliseconds too, Google in the body."""
    text, unit_s = headers.get("retry-after-ms", ""), 1e-3
    if not text:
        text, unit_s = headers.get("Retry-After", "") or _delay(body), 1.0
    try:
        seconds = float(text) * unit_s
    except ValueError:
        return None
    return min(max(0.0, seconds), OPENS_S_MAX) if math.isfinite(seconds) else None


def _delay(body: bytes) -> str:
    """Google's RetryInfo, `"retryDelay": "34s"`."""
    if b'"retryDelay"' not in body:
        return ""
    try:
        error = _error(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return str(detail["retryDelay"]).removesuffix("s")
    return ""
