"""Which addresses may be sent what nobody on the way may read. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host name or address is certain to be this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name: it may point anywhere


def is_safe_url(url: str) -> bool:
    """Whether what is sent there cannot be read on the way: https, or http on this machine."""
    parts = urlsplit(url)
    is_near = parts.scheme == "http" and is_loopback(parts.hostname or "")
    return bool(parts.hostname) and (parts.scheme == "https" or is_near)
