"""An identity provider's public keys: fetched when needed, kept for a while, changed when it does.

One fetch at a time; none more often than once a minute, whatever strangers send. Whoever asks while
keys are fetched waits for them, at most `FETCH_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import aiohttp
import jwt
import msgspec

from models.worded import Worded
from serving.claims import Named, Signers, signers
from serving.errors import CallerError, OwnError
from serving.settings import Oidc

FETCH_S = 5.0
BYTES_MAX = 256 << 10
FRESH_S = 300.0
"""A key that the provider withdrew is believed no longer than this."""
STALE_S = 3600.0
"""While the provider does not answer, its last keys are good for so long."""
AGAIN_S = 60.0
"""Between two tries, for an unknown key too."""
_log = logging.getLogger(__name__)


class KeySet:
    """The keys of one provider. `clock` is monotonic, seconds."""

    def __init__(self, settings: Oidc, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = asyncio.Lock()
        self._signers: Signers = {}
        self._read_s = self._tried_s = float("-inf")
        self._last_error = ""

    async def find(self, named: Named) -> jwt.PyJWK:
        """The key that a token names. Raises CallerError for an unknown one, OwnError when the
        provider's keys cannot be had."""
        if self._clock() - self._read_s > FRESH_S or named not in self._signers:
            async with self._lock:
                await self._refresh(named)
        if self._clock() - self._read_s > STALE_S:
            raise OwnError(
                "identity_away",
                Worded("token.provider_away", "the identity provider's keys cannot be had now"),
            )
        found = self._signers.get(named)
        if found is None:
            raise CallerError(
                "invalid_api_key",
                Worded("token.unknown_key", "this token names a key that is not known here"),
            )
        return found

    async def _refresh(self, named: Named) -> None:
        now_s = self._clock()
        is_good = now_s - self._read_s <= FRESH_S and named in self._signers
        if is_good or now_s - self._tried_s < AGAIN_S:
            return
        self._tried_s = now_s
        try:
            published = msgspec.json.decode(await self._bytes())
            self._signers = signers(published, self._settings)
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            if reason != self._last_error:
                _log.error("issuer_keys_unreadable", extra={"reason": reason[:300]})
            self._last_error = reason
            return
        self._read_s, self._last_error = now_s, ""
        if not self._signers:
            _log.warning("issuer_keys_unusable", extra={"reason": "no key fits oidc.algorithms"})

    async def _bytes(self) -> bytes:
        path = self._settings.jwks_file
        if path is not None:
            with path.open("rb") as file:
                return _bounded(file.read(BYTES_MAX + 1))
        limit = aiohttp.ClientTimeout(total=FETCH_S)
        # A small answer must not unpack to a large one.
        head = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            aiohttp.ClientSession(timeout=limit, headers=head, auto_decompress=False) as session,
            session.get(self._settings.jwks_url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"the provider answered {response.status}")
            return _bounded(await _read(response))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or as much of it as shows that it is too long."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > BYTES_MAX:
            break
    return b"".join(pieces)


def _bounded(data: bytes) -> bytes:
    if len(data) > BYTES_MAX:
        raise ValueError(f"more than {BYTES_MAX} bytes of keys")
    return data
