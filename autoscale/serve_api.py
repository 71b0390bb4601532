"""Ray Serve's REST API as the controller needs it: replica counts, and the external scaler's call.

Every call carries the cluster's token. Applications are known by their route, `/m/<model>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from autoscale.bodies import whole
from autoscale.records import Engines

ROUTE_PREFIX = "/m/"
BODY_BYTES_MAX = 16 << 20
READ_S = 2.0
WRITE_S = 10.0
"""Serve writes a checkpoint before it answers."""
RUNNING, STARTING = ("RUNNING", "PENDING_MIGRATION"), ("STARTING", "UPDATING", "RECOVERING")
REFUSALS = {
    401: "the token is not this cluster's: see fleet.ray_token_file",
    403: "the token is not this cluster's: see fleet.ray_token_file",
    404: "Serve has no such application",
    412: "Serve takes no number from outside: deploy it with external_scaler_enabled and without"
    " autoscaling_config",
}


class ServeRefusedError(Exception):
    """Serve answered, and said no."""


class ServeApi:
    """One Ray head."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._paths: dict[str, str] = {}
        """Of the scale call, by model, as the last reading named them."""
        self.hosts: Mapping[str, Mapping[str, int]] = {}
        """Hosts that hold replicas, by model: how many of them run, by address."""

    @property
    def name(self) -> str:
        """As samples call it."""
        return f"serve {self._url}"

    async def read(self, session: aiohttp.ClientSession) -> dict[str, Engines]:
        """Replicas by model. Raises what an HTTP call raises, or ValueError for another form."""
        timeout = aiohttp.ClientTimeout(total=READ_S)
        url = f"{self._url}/api/serve/applications/"
        async with session.get(url, headers=self._headers(), timeout=timeout) as response:
            if response.status != 200:
                raise ValueError(f"{response.status}: {REFUSALS.get(response.status, '')}")
            told = msgspec.json.decode(await whole(response, BODY_BYTES_MAX))
        try:
            found, paths, hosts = counted(told)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"Serve's status has changed its form: {error!r}") from error
        self._paths, self.hosts = paths, hosts
        return found

    def busy(self) -> Mapping[str, frozenset[str]]:
        """Addresses of the hosts that hold replicas, by model."""
        return {model: frozenset(counts) for model, counts in self.hosts.items()}

    async def scale(
        self, session: aiohttp.ClientSession, model: str, replicas: int, limit_s: float
    ) -> None:
        """Ask for a number; Serve acts on it later. Raises ServeRefusedError or what an HTTP call
        raises."""
        path = self._paths.get(model)
        if path is None:
            raise ServeRefusedError(f"no application at {ROUTE_PREFIX}{model}")
        timeout = aiohttp.ClientTimeout(total=min(WRITE_S, limit_s))
        body = {"target_num_replicas": replicas}
        async with session.post(
            self._url + path, json=body, headers=self._headers(), timeout=timeout
        ) as response:
            if response.status < 300:
                return
            text = (await response.content.read(300)).decode("utf-8", "replace")
            why = REFUSALS.get(response.status, text)
            raise ServeRefusedError(f"{response.status}: {why}")

    def _headers(self) -> dict[str, str]:
        if self._token_file is None or not self._token_file.exists():
            return {}
        token = self._token_file.read_text(encoding="utf-8").strip()
        return {"authorization": f"Bearer {token}"}


def counted(
    told: Any,
) -> tuple[dict[str, Engines], dict[str, str], dict[str, Mapping[str, int]]]:
    """Counts, scale paths and hosts by model, from `GET /api/serve/applications/`."""
    found: dict[str, Engines] = {}
    paths: dict[str, str] = {}
    hosts: dict[str, Mapping[str, int]] = {}
    for name, application in (told.get("applications") or {}).items():
        prefix = application.get("route_prefix") or ""
        deployments = application.get("deployments") or {}
        if not prefix.startswith(ROUTE_PREFIX) or len(deployments) != 1:
            continue  # not ours, or nothing is deployed yet
        ((deployment, row),) = deployments.items()
        model = prefix.removeprefix(ROUTE_PREFIX)
        states = [replica["state"] for replica in row.get("replicas") or ()]
        target = int(row["target_num_replicas"])
        if target < 0:
            raise ValueError(f"Serve says that {model} should have {target} replicas")
        found[model] = Engines(
            target=target,
            running=sum(state in RUNNING for state in states),
            starting=sum(state in STARTING for state in states),
            stopping=states.count("STOPPING"),
            message=str(row.get("message") or "")[:300],
        )
        paths[model] = f"/api/v1/applications/{name}/deployments/{deployment}/scale"
        counts: dict[str, int] = {}
        for replica in row.get("replicas") or ():
            if address := replica.get("node_ip"):
                counts[address] = counts.get(address, 0) + (replica["state"] in RUNNING)
        hosts[model] = counts
    return found, paths, hosts
