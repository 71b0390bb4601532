"""HTTP for weights: GETs whose credentials never leave the host they are for.

Redirects are followed here and not by the client library, because a hub redirects to the signed
URL of a store that must not see our token. What a status means is decided here, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from yarl import URL

from serving.engine.weights.errors import AccessError, NotThereError, TransferError, WeightsError
from serving.unreadable import UNREADABLE

REDIRECTS_MAX = 5
LISTING_BYTES_MAX = 64 << 20
SAID_CHARS_MAX = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Ask(NamedTuple):
    """One GET. `secret` headers go to the URL's own origin only, never into a message or log."""

    url: str
    headers: Mapping[str, str] = {}
    secret: Mapping[str, str] = {}
    what: str = ""
    """What is asked for, as messages name it."""


class StatusError(TransferError):
    """A status that may pass: the source is busy or broken."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Requester:
    """Asks; use as an async context manager."""

    def __init__(self, connect_s: float, idle_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=idle_s)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            # Hashes are of the bytes as stored: nothing may be packed on the way.
            headers={"accept-encoding": "identity", "user-agent": "ballast"},
            auto_decompress=False,
            trust_env=False,  # it would also send passwords of ~/.netrc
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._proxies = getproxies()

    async def __aenter__(self) -> Requester:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(self, ask: Ask) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer with status 2xx or 416, its body unread. Raises WeightsError."""
        try:
            response = await self._follow(ask)
            try:
                if response.status != 416:
                    await _check(response, ask)
                yield response
            finally:
                response.close()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            reason = str(error) or type(error).__name__
            raise TransferError(f"{ask.what}: {host_of(ask.url)}: {reason}") from error

    async def read(self, ask: Ask) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of a small answer. Raises WeightsError."""
        async with self.get(ask) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LISTING_BYTES_MAX:
                    raise WeightsError(f"{ask.what}: {host_of(ask.url)} sends more than a listing")
            return bytes(body), response.headers

    async def _follow(self, ask: Ask) -> aiohttp.ClientResponse:
        url, home = ask.url, origin_of(ask.url)
        for _ in range(REDIRECTS_MAX + 1):
            headers = dict(ask.headers)
            if origin_of(url) == home:
                headers |= ask.secret
            response = await self._session.get(
                URL(url, encoded=True),  # signed as it stands: nothing may be spelled anew
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy(url),
            )
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or not target:
                return response
            response.close()
            following = urljoin(url, target)
            if urlsplit(following).scheme not in ("http", "https"):
                raise TransferError(f"{ask.what}: redirected to something that is not HTTP")
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme == "http":
                raise AccessError(
                    f"{ask.what}: {host_of(url)} redirects to {host_of(following)} without TLS: "
                    "refused; name another mirror"
                )
            url = following
        raise TransferError(f"{ask.what}: more than {REDIRECTS_MAX} redirects")

    def _proxy(self, url: str) -> str | None:
        """The proxy of the environment for this URL, as other programs choose it."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host in _LOOPBACK or proxy_bypass(host):
            return None
        found = self._proxies.get(parts.scheme) or self._proxies.get("all") or ""
        return found if found.startswith("http") else None


async def _check(response: aiohttp.ClientResponse, ask: Ask) -> None:
    """Raise what a bad status means; the answer's own words help, its URL may hold a signature."""
    status = response.status
    if status < 300:
        return
    where = host_of(ask.url)
    said = await _said(response)
    label = f"{ask.what}: {where} answers {status}{said}"
    if status in (401, 403):
        hint = (
            "the credentials sent are not good for it"
            if ask.secret
            else "no credentials were sent; if it is private, gated or does not exist, this is how "
            "a hub says so"
        )
        raise AccessError(f"{label}; {hint}")
    if status in (404, 410):
        raise NotThereError(f"{label}; check the name and the revision")
    if status in _PASSING or status >= 500:
        raise StatusError(label, _retry_after_s(response.headers))
    raise WeightsError(label)


async def _said(response: aiohttp.ClientResponse) -> str:
    code = response.headers.get("x-error-code") or ""
    message = response.headers.get("x-error-message") or ""
    if not message:
        try:
            async with asyncio.timeout(5.0):
                body = await response.content.read(4096)
        except (aiohttp.ClientError, TimeoutError):
            body = b""
        message = _message_of(body)
    text = " ".join(f"{code} {message}".split())
    return f" ({text[:SAID_CHARS_MAX]})" if text else ""


def _message_of(body: bytes) -> str:
    """The message in a JSON or XML error body; nothing else of it is shown."""
    text = body.decode("utf-8", errors="replace")
    if text.lstrip().startswith("<"):
        codes = [text.partition(f"<{t}>")[2].partition(f"</{t}>")[0] for t in ("Code", "Message")]
        return " ".join(c for c in codes if len(c) <= SAID_CHARS_MAX)
    try:
        data = msgspec.json.decode(body, type=dict[str, object])
    except UNREADABLE:
        return ""
    found = next((data[k] for k in ("error", "Message", "message") if k in data), "")
    return found if isinstance(found, str) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        return min(60.0, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        return None


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a credential belongs to."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def host_of(url: str) -> str:
    """Host and port for messages; a URL's path and query may hold a signature."""
    return urlsplit(url).netloc.rpartition("@")[2]
