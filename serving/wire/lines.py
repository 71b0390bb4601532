"""Head lines of HTTP/1.1 answers, made once."""

from __future__ import annotations

_PHRASES = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 422: b"Unprocessable Content",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout", 508: b"Loop Detected",
}  # fmt: skip
STATUS = {s: b"HTTP/1.1 %d %s\r\n" % (s, p) for s, p in _PHRASES.items()}
"""Status lines."""
JSON = b"content-type: application/json\r\n"
SSE = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"
)
"""What every event stream's head says: proxies must neither keep nor collect it."""
