"""The Kubernetes API, as plain JSON. The official client does addresses, certificates and tokens;
its models stay out of it: they drop fields they do not know, and a RayCluster has none.

The client needs the extra `kubernetes`; a controller that has nothing to do with Kubernetes runs
without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import msgspec

from autoscale.bodies import whole
from models.worded import Worded, of
from serving.settings import SettingsError
from serving.unreadable import UNREADABLE

BODY_BYTES_MAX = 64 << 20
MERGE = "application/merge-patch+json"
"""Only ever with an object as its body: several versions of the client send a list under this name
too, and a server refuses that."""


class ApiError(Exception):
    """The server refused. `status` is its HTTP status; `retry_after_s` what it asked for."""

    def __init__(self, status: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.retry_after_s = retry_after_s


AWAY = (ApiError, aiohttp.ClientError, TimeoutError, ValueError, OSError)
"""All that a call may raise."""


class ClusterApi:
    """One server; use as an async context manager."""

    def __init__(self, kubeconfig: Path | None = None, context: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._client: Any = None

    async def __aenter__(self) -> Self:
        try:
            from kubernetes.aio import client, config
        except ImportError:
            raise SettingsError(
                Worded(
                    "settings.kubernetes",
                    "controller.acting: Kubernetes needs the extra: pip install "
                    "'ballast[kubernetes]'",
                )
            ) from None
        given = client.Configuration()
        given.retries = 0
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(given)
            else:
                await config.load_kube_config(
                    str(self._kubeconfig), self._context or None, given, persist_config=False
                )
        except (config.ConfigException, OSError) as error:
            raise SettingsError(
                Worded("settings.cluster", "controller.acting.cluster: {error}", error=of(error))
            ) from None
        self._client = client.ApiClient(given)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._client.close()

    async def get(self, path: str, timeout_s: float, **query: str) -> Any:
        """An object or a list. Raises one of `AWAY`."""
        return await self._call("GET", _with(path, query), None, timeout_s)

    async def create(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Any:
        """A new object in the collection `path`."""
        return await self._call("POST", path, body, timeout_s)

    async def replace(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Any:
        """The whole object; its resourceVersion must be the one read."""
        return await self._call("PUT", path, body, timeout_s)

    async def merge(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Any:
        """A merge patch: lists in it replace lists."""
        return await self._call("PATCH", path, body, timeout_s)

    async def watch(self, path: str, timeout_s: float, **query: str) -> AsyncIterator[Any]:
        """Events as they come, until the server ends the stream or `timeout_s` passed in silence.
        Raises ApiError(410) when the version asked for is too old."""
        asked = {"watch": "true", "allowWatchBookmarks": "true"} | query
        timeout = aiohttp.ClientTimeout(sock_connect=timeout_s, sock_read=timeout_s)
        response = await self._send("GET", _with(path, asked), None, timeout)
        async with response:
            if response.status >= 300:
                raise await _refused(response)
            async for line in response.content:
                if line.strip():
                    event = msgspec.json.decode(line)
                    if event.get("type") == "ERROR":
                        told = event.get("object") or {}
                        raise ApiError(int(told.get("code") or 500), str(told.get("message", "")))
                    yield event

    async def _call(self, method: str, path: str, body: Any, timeout_s: float) -> Any:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with await self._send(method, path, body, timeout) as response:
            if response.status >= 300:
                raise await _refused(response)
            text = await whole(response, BODY_BYTES_MAX)
            return msgspec.json.decode(text)

    async def _send(
        self, method: str, path: str, body: Any, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        kind = MERGE if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        query: list[tuple[str, str]] = []
        await self._client.update_params_for_auth(headers, query, ["BearerToken"])
        answer: aiohttp.ClientResponse = await self._client.rest_client.request(
            method, self._client.configuration.host + path, headers=headers, body=body,
            _preload_content=False, _request_timeout=timeout,
        )  # fmt: skip
        return answer


def _with(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


async def _refused(response: aiohttp.ClientResponse) -> ApiError:
    text = (await response.content.read(4096)).decode("utf-8", "replace")
    try:
        reason = str(msgspec.json.decode(text)["message"])
    except (*UNREADABLE, KeyError, TypeError):
        reason = text
    asked = response.headers.get("Retry-After", "")
    return ApiError(response.status, reason[:300], float(asked) if asked.isdigit() else 0.0)
