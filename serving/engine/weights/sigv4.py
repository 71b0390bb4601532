"""Amazon's signature, version 4, for an object store: reads, and writes of a whole object. Pure.

Follows the published description; tests/unit/test_weights_s3.py holds its published examples.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

from serving.engine.weights.credentials import Keys

ALGORITHM = "AWS4-HMAC-SHA256"
NO_BODY = hashlib.sha256(b"").hexdigest()
_UNRESERVED = "-_.~"


def signed(
    url: str, keys: Keys, region: str, now: datetime, headers: Mapping[str, str]
) -> dict[str, str]:
    """The headers that sign a GET of `url` with `headers` (lower-case names) at `now` (UTC).

    The URL's path and query must be encoded as they will be sent.
    """
    return _signed(("GET", url, NO_BODY), keys, region, now, headers)


def signed_put(url: str, keys: Keys, region: str, now: datetime, sha256: str) -> dict[str, str]:
    """The headers that sign a PUT to `url` of a body with that hash (hexadecimal)."""
    return _signed(("PUT", url, sha256), keys, region, now, {})


def _signed(
    what: tuple[str, str, str], keys: Keys, region: str, now: datetime, headers: Mapping[str, str]
) -> dict[str, str]:
    """Method, URL and hash of the body."""
    method, url, body = what
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    added = {"x-amz-content-sha256": body, "x-amz-date": stamp}
    if keys.session:
        added["x-amz-security-token"] = keys.session
    every = {**headers, **added, "host": parts.netloc}
    names = ";".join(sorted(every))
    canonical = "\n".join(
        [
            method,
            parts.path or "/",
            _query(parts.query),
            *(f"{name}:{every[name].strip()}" for name in sorted(every)),
            "",
            names,
            body,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{keys.secret}".encode()
    for word in scope.split("/"):
        key = _hmac(key, word)
    signature = _hmac(key, text).hex()
    credential = f"Credential={keys.id}/{scope},SignedHeaders={names},Signature={signature}"
    return {**added, "authorization": f"{ALGORITHM} {credential}"}


def encoded(text: str, safe: str = "") -> str:
    """URI encoding as the signature wants it."""
    return quote(text, safe=_UNRESERVED + safe)


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(f"{k}={v}" for k, v in sorted((encoded(k), encoded(v)) for k, v in pairs))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
