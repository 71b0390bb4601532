"""How the robots want their calls signed. Pure; time is an argument.

Feishu: HMAC-SHA256 with `timestamp\\nsecret` as the key and nothing as the message, in the body.
DingTalk: HMAC-SHA256 of `timestamp\\nsecret` with the secret as the key, in the address, the
timestamp in milliseconds. WeCom: the secret is the key in the address. Sources: `cards`.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any
from urllib.parse import urlencode

from ballast.alerting.cards import Kind


def signed(
    kind: Kind, url: str, secret: str, body: dict[str, Any], utc_ms: int
) -> tuple[str, dict[str, Any]]:
    """Address and body to send. Without a secret they stay as they are."""
    if not secret or kind == "wecom":
        return url, body
    if kind == "feishu":
        stamp = str(utc_ms // 1000)
        sign = _mac(f"{stamp}\n{secret}".encode(), b"")
        return url, {"timestamp": stamp, "sign": sign, **body}
    stamp = str(utc_ms)
    sign = _mac(secret.encode(), f"{stamp}\n{secret}".encode())
    glue = "&" if "?" in url else "?"
    return url + glue + urlencode({"timestamp": stamp, "sign": sign}), body


def _mac(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()
