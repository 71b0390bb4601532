"""Where our engines are: one interface, several sources.

A source lists addresses and says what is coming; it keeps nothing between polls and decides
nothing. `fleet` asks each listed engine itself before anything is sent there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp

from models.worded import Worded, of
from serving.brief import brief
from serving.records import DataLabel
from serving.settings import SettingsError
from serving.settings_engines import StaticReplica

ROUTE_PREFIX = "/m/"
"""Serve route prefix of a model's application: `/m/<model>`."""
_REPLICA = "SERVE_REPLICA"
_FAILED_START = "failed to start"
_BUSY = frozenset({"NOT_STARTED", "DEPLOYING"})


class Address(NamedTuple):
    """One engine as a source knows it."""

    model: str
    host: str
    port: int
    prefix: str
    limit: int
    label: DataLabel | None = None
    """Its own; None: where all that have none stand."""

    @property
    def id(self) -> str:
        """Stable name of the target."""
        return f"{self.model}@{self.host}:{self.port}"


class Listing(NamedTuple):
    """What a source sees."""

    addresses: tuple[Address, ...]
    loading: frozenset[str]
    """Models whose application is being deployed."""
    failed: frozenset[str]
    """Models whose deployment has failed: nothing is coming."""
    troubles: Mapping[str, str] = MappingProxyType({})
    """Why an engine of a model did not start, in the source's own words."""
    asleep: frozenset[str] = frozenset()
    """Models of which nobody wants an engine now: none is on its way until somebody does."""


def together(listings: Iterable[Listing]) -> Listing:
    """What several sources see."""
    found = Listing((), frozenset(), frozenset())
    for one in listings:
        found = Listing(
            (*found.addresses, *one.addresses), found.loading | one.loading,
            found.failed | one.failed, {**found.troubles, **one.troubles},
            found.asleep | one.asleep,
        )  # fmt: skip
    return found


class Source(Protocol):
    """One way to find engines."""

    name: str
    """As logs and `/fleet` call it."""

    async def poll(self, session: aiohttp.ClientSession) -> Listing:
        """What there is now. Raises aiohttp.ClientError, TimeoutError or ValueError."""


class StaticSource:
    """A list from the settings."""

    name = "static"

    def __init__(self, replicas: tuple[StaticReplica, ...]) -> None:
        self._listing = Listing(tuple(map(_address, replicas)), frozenset(), frozenset())

    async def poll(self, session: aiohttp.ClientSession) -> Listing:  # noqa: ARG002 - protocol
        """See `Source`."""
        return self._listing


def _address(replica: StaticReplica) -> Address:
    parts = urlsplit(replica.url)
    host = parts.hostname or ""
    try:
        port = parts.port or 80
    except ValueError as error:
        raise SettingsError(
            Worded(
                "settings.static",
                "fleet.static: {url}: {error}",
                url=repr(replica.url),
                error=of(error),
            )
        ) from None
    label = None if replica.pool is None else replica.pool.label
    return Address(replica.model, host, port, parts.path.rstrip("/"), replica.limit, label)


class ServeSource:
    """Ray Serve's REST API: `target_groups` of each application, with the cluster's token."""

    name = "serve"

    def __init__(self, url: str, token_file: Path | None, limit: int = 256) -> None:
        self._url = url.rstrip("/") + "/api/serve/applications/"
        self._token_file = token_file
        self._limit = limit

    async def poll(self, session: aiohttp.ClientSession) -> Listing:
        """See `Source`."""
        headers = {}
        if self._token_file is not None and self._token_file.exists():
            token = self._token_file.read_text(encoding="utf-8").strip()
            headers["authorization"] = f"Bearer {token}"
        async with session.get(self._url, headers=headers) as response:
            if response.status != 200:
                raise ValueError(f"Ray answered {response.status} for {self._url}")
            return listing(await response.json(), self._limit)


def listing(data: dict[str, Any], limit: int) -> Listing:
    """Read Serve's answer. Raises ValueError when it is not of the form known."""
    addresses: list[Address] = []
    loading: set[str] = set()
    failed: set[str] = set()
    asleep: set[str] = set()
    troubles: dict[str, str] = {}
    try:
        for application in (data.get("applications") or {}).values():
            prefix = application.get("route_prefix") or ""
            if prefix.startswith(ROUTE_PREFIX):
                model = prefix.removeprefix(ROUTE_PREFIX)
                if application["status"] in _BUSY:
                    loading.add(model)
                elif application["status"] == "DEPLOY_FAILED":
                    failed.add(model)
                if _is_asleep(application):
                    asleep.add(model)
                if reason := _trouble(application):
                    troubles[model] = reason
        for group in data.get("target_groups") or ():
            prefix = group["route_prefix"]
            if group.get("protocol", "HTTP") != "HTTP" or not prefix.startswith(ROUTE_PREFIX):
                continue
            model = prefix.removeprefix(ROUTE_PREFIX)
            addresses += [
                Address(model, target["ip"], int(target["port"]), prefix, limit)
                for target in group["targets"]
                # At zero replicas Serve lists its own proxy in their place.
                if target.get("name", _REPLICA).startswith(_REPLICA)
            ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"Ray's list of applications has changed its form: {error!r}") from error
    return Listing(
        tuple(addresses), frozenset(loading), frozenset(failed), troubles, frozenset(asleep)
    )


def _is_asleep(application: dict[str, Any]) -> bool:
    """Whether its deployments are all asked for no replica."""
    deployments = (application.get("deployments") or {}).values()
    wanted = [d.get("target_num_replicas") for d in deployments]
    return bool(wanted) and all(number == 0 for number in wanted)


def _trouble(application: dict[str, Any]) -> str:
    """The reason of a failed start, if Serve tells of one."""
    deployments = (application.get("deployments") or {}).values()
    said = [application.get("message") or "", *(d.get("message") or "" for d in deployments)]
    return next((brief(text) for text in reversed(said) if _FAILED_START in text), "")
