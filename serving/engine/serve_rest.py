"""Ray Serve's REST API: deploy, read, scale. Authenticated with the cluster's token."""

from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from serving.engine.spec import APP_IMPORT_PATH, DEPLOYMENT_NAME, EngineSpec
from serving.unreadable import UNREADABLE

APPLICATIONS = "/api/serve/applications/"
LOOPBACK = "127.0.0.1"


class ServeError(RuntimeError):
    """The REST API refused, or answered with something else than JSON."""


@dataclass(frozen=True, slots=True)
class AppStatus:
    """One model's application as Serve reports it."""

    name: str
    status: str
    """NOT_STARTED, DEPLOYING, RUNNING, UNHEALTHY, DEPLOY_FAILED, DELETING"""
    message: str
    replica_states: tuple[str, ...]
    addresses: tuple[str, ...]
    """Base URLs of the replicas that serve, route prefix included."""
    is_asleep: bool = False
    """It is asked for no replica."""


class ServeApi:
    """A client of one Ray head; use as an async context manager."""

    def __init__(self, base_url: str, token: str, timeout_s: float = 30.0) -> None:
        self._session = aiohttp.ClientSession(
            base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )

    async def __aenter__(self) -> "ServeApi":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def deploy(
        self, engines: tuple[EngineSpec, ...], proxy_port: int, host: str = LOOPBACK
    ) -> None:
        """Make `engines` the applications of the cluster; others are removed."""
        await self._call("PUT", APPLICATIONS, serve_config(engines, proxy_port, host))

    async def details(self) -> dict[str, Any]:
        """All that Serve tells of its applications."""
        found: dict[str, Any] = await self._call("GET", APPLICATIONS, None)
        return found

    async def scale(self, model_name: str, replicas: int) -> None:
        """Ask for `replicas` of one model; a redeploy resets it to the spec's number."""
        path = f"/api/v1/applications/{model_name}/deployments/{DEPLOYMENT_NAME}/scale"
        await self._call("POST", path, {"target_num_replicas": replicas})

    async def statuses(self) -> dict[str, AppStatus]:
        """Every application by name."""
        return read_statuses(await self.details())

    async def _call(self, method: str, path: str, body: Any) -> Any:
        async with self._session.request(method, path, json=body) as response:
            text = await response.text()
            if response.status >= 300:
                raise ServeError(f"{method} {path}: {response.status} {text[:2000]}")
            try:
                return msgspec.json.decode(text) if text else None
            except UNREADABLE as error:
                raise ServeError(f"{method} {path}: not JSON: {text[:200]}") from error


def serve_config(
    engines: tuple[EngineSpec, ...], proxy_port: int, host: str = LOOPBACK
) -> dict[str, Any]:
    """The Serve config: one application per model, scaled from outside. Replicas listen on `host`
    too: where gateways run elsewhere, on all addresses, behind the secret and network policies."""
    return {
        # With the proxy disabled Serve starts no replica server either; its host is theirs too.
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": proxy_port, "keep_alive_timeout_s": 75},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": engine.model_name,
                "route_prefix": engine.route_prefix,
                "import_path": APP_IMPORT_PATH,
                "external_scaler_enabled": True,
                "args": msgspec.to_builtins(engine),
            }
            for engine in engines
        ],
    }


def read_statuses(details: dict[str, Any]) -> dict[str, AppStatus]:
    """Parse `GET /api/serve/applications/`."""
    targets: dict[str, list[str]] = {}
    for group in details.get("target_groups") or ():
        # A group without an application or ingress lists Serve's proxy, not a replica.
        if group.get("protocol") == "HTTP" and group.get("app_name"):
            targets.setdefault(group["app_name"], []).extend(
                f"http://{target['ip']}:{target['port']}{group['route_prefix']}"
                for target in group["targets"]
                if target.get("name", "").startswith("SERVE_REPLICA")
            )
    return {name: _read_app(name, app, targets) for name, app in details["applications"].items()}


def _read_app(name: str, app: dict[str, Any], targets: dict[str, list[str]]) -> AppStatus:
    deployments = app.get("deployments", {}).values()
    wanted = [d.get("target_num_replicas") for d in deployments]
    replicas = [r["state"] for d in deployments for r in d.get("replicas", ())]
    messages = [app.get("message", ""), *(d.get("message", "") for d in deployments)]
    return AppStatus(
        name=name,
        status=app["status"],
        message=" ".join(text for text in messages if text),
        replica_states=tuple(sorted(replicas)),
        addresses=tuple(sorted(targets.get(name, ()))),
        is_asleep=bool(wanted) and all(number == 0 for number in wanted),
    )
