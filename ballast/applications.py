"""Puts the engines of a settings file onto a Ray cluster that somebody else started (KubeRay).

Compares first: an application that runs as wanted is left alone, and one that changes keeps the
number of replicas that the controller gave it. Says one JSON line for what it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from ballast import plan
from ballast.messages import Said
from ballast.problem import ProblemError, worded
from serving.engine.serve_rest import ServeApi, ServeError
from serving.engine.spec import DEPLOYMENT_NAME, EngineSpec
from serving.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - of a pod; the chart's network policy says who gets there
PROXY_PORT = 8000
"""Serve's own proxy on the head, which nobody uses."""
POLL_S = 5.0
AWAY = (ServeError, aiohttp.ClientError, TimeoutError)


def wanted(settings: Settings, device: str) -> tuple[EngineSpec, ...]:
    """The engines of the settings. Raises ProblemError."""
    try:
        spec = plan.cluster(settings, plan.Wish(device=device))
    except ValueError as error:
        raise ProblemError(worded(error), Said("problem.mend_models")) from None
    cache = str(settings.cache_dir)
    return tuple(
        msgspec.structs.replace(engine, cache_dir=engine.cache_dir or cache)
        for engine in spec.engines
    )


def changes(engines: Sequence[EngineSpec], details: Mapping[str, Any]) -> dict[str, str]:
    """What a deployment would change, by the name of the application."""
    there = details.get("applications") or {}
    found = {name: "removed" for name in there if name not in {e.model_name for e in engines}}
    for engine in engines:
        app = there.get(engine.model_name)
        if app is None:
            found[engine.model_name] = "new"
        elif _args(app) != _comparable(msgspec.to_builtins(engine)):
            found[engine.model_name] = "changed"
    return found


def counted(engines: Sequence[EngineSpec], details: Mapping[str, Any]) -> tuple[EngineSpec, ...]:
    """The engines, each with the number of replicas that it is held to now."""
    there = details.get("applications") or {}

    def one(engine: EngineSpec) -> EngineSpec:
        deployments = there.get(engine.model_name, {}).get("deployments") or {}
        number = deployments.get(DEPLOYMENT_NAME, {}).get("target_num_replicas")
        return engine if number is None else msgspec.structs.replace(engine, num_replicas=number)

    return tuple(one(engine) for engine in engines)


def _args(app: Mapping[str, Any]) -> Any:
    config = app.get("deployed_app_config") or {}
    return _comparable(config.get("args") or {})


def _comparable(args: Mapping[str, Any]) -> dict[str, Any]:
    """As it came over REST, and without the number, which is the controller's."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(args))
    return {key: value for key, value in plain.items() if key != "num_replicas"}


async def put(settings: Settings, device: str, wait_s: float) -> dict[str, str]:
    """Deploy what differs, waiting `wait_s` for the cluster; what was changed. Raises
    ProblemError."""
    fleet = settings.fleet
    if not fleet.serve_url or fleet.ray_token_file is None:
        raise ProblemError(Said("problem.no_cluster"), Said("problem.name_cluster"))
    engines = wanted(settings, device)
    token = fleet.ray_token_file.read_text("utf-8").strip()
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait_s
    async with ServeApi(fleet.serve_url, token) as api:
        while True:
            try:
                details = await api.details()
                found = changes(engines, details)
                if found:
                    await api.deploy(counted(engines, details), PROXY_PORT, EVERYWHERE)
            except AWAY as error:
                if loop.time() + POLL_S > until_s:
                    raise ProblemError(
                        f"{fleet.serve_url}: {error or type(error).__name__}",
                        Said("problem.look_at_head"),
                    ) from None
                await asyncio.sleep(POLL_S)
            else:
                return found
