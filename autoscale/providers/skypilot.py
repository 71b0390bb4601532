"""Machines by SkyPilot, one of its clusters each. UNTRIED against the real thing: written from its
documented Python SDK (0.9 and later: calls return a request that `get` waits for), tested against a
fake module of that shape.

The client token is the cluster's name, so asking twice is asking for the same cluster, and the
beginning of the name stands for our tags. Its SDK blocks; each call runs in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from autoscale.machines import Create, Machine, Offer, ProviderError, State, Tags
from models.worded import Worded
from serving.settings import SettingsError

STATES: Mapping[str, State] = {"INIT": "creating", "UP": "running", "STOPPED": "failed"}
SHORT = "ResourcesUnavailableError"
MICRO = 1_000_000
T = TypeVar("T")


def module() -> Any:
    """The SDK. Raises SettingsError without it."""
    try:
        return importlib.import_module("sky")
    except ImportError:
        raise SettingsError(
            Worded(
                "settings.skypilot",
                "controller.acting.machines: skypilot needs its package: pip install skypilot",
            )
        ) from None


class SkyPilot:
    """`accelerators` as SkyPilot spells them, `H100:1`; `task` is a file that starts an engine."""

    def __init__(self, sky: Any, task: Path, accelerators: str, is_spot: bool) -> None:
        self._sky = sky
        self._task = task
        self._gpu, _, count = accelerators.partition(":")
        self._count = float(count or 1)
        self._is_spot = is_spot

    async def offers(self, tags: Tags, gpu: str, limit_s: float) -> tuple[Offer, ...]:  # noqa: ARG002
        """See `Provider`."""

        def ask() -> Any:
            request = self._sky.list_accelerators(name_filter=f"^{re.escape(self._gpu)}$")
            return self._sky.get(request)

        listed = await _threaded(ask, limit_s)
        found = []
        for rows in listed.values():
            for row in rows:
                price = row.spot_price if self._is_spot else row.price
                if row.accelerator_count == self._count and price and price > 0:
                    name = f"{row.cloud}/{row.region}/{row.instance_type}"
                    found.append(Offer(name, round(price * MICRO)))
        return tuple(found)

    async def create(self, order: Create, limit_s: float) -> Machine:
        """See `Provider`. Does not wait until it is up: that takes minutes, and `list` tells."""

        def ask() -> None:
            task = self._sky.Task.from_yaml(str(self._task))
            wanted = self._sky.Resources(
                accelerators={self._gpu: self._count}, use_spot=self._is_spot
            )
            task.set_resources(wanted)
            self._sky.launch(task, cluster_name=named(order.client_token))

        await _threaded(ask, limit_s)
        return Machine(named(order.client_token), order.client_token, "creating")

    async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
        """See `Provider`."""
        rows = await _threaded(lambda: self._sky.get(self._sky.status()), limit_s)
        prefix = named(f"{tags.deployment}-{tags.pool}-")
        found = []
        for row in rows:
            name = str(_field(row, "name"))
            if name.startswith(prefix) and re.fullmatch(r"\d+-\d+", name.removeprefix(prefix)):
                status = getattr(_field(row, "status"), "name", str(_field(row, "status")))
                since_ms = int(_field(row, "launched_at") or 0) * 1000
                token = f"{tags.deployment}-{tags.pool}-{name.removeprefix(prefix)}"
                state = STATES.get(status, "creating")
                found.append(Machine(name, token, state, None, since_ms))
        return tuple(found)

    async def terminate(self, machine: str, fence: int, limit_s: float) -> None:  # noqa: ARG002
        """See `Provider`."""
        await _threaded(lambda: self._sky.down(machine), limit_s)


def named(token: str) -> str:
    """A cluster's name: small letters, digits, dashes."""
    return re.sub(r"[^a-z0-9-]", "-", token.lower())


def _field(row: Any, name: str) -> Any:
    """Rows are dicts in some versions and objects in others."""
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)


async def _threaded(work: Callable[[], T], limit_s: float) -> T:
    """Run a blocking call; one that takes longer is left to end by itself, its answer unread."""
    call = asyncio.ensure_future(asyncio.to_thread(work))
    await asyncio.wait({call}, timeout=limit_s)
    if not call.done():
        call.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise ProviderError("away", f"SkyPilot: no answer within {limit_s:.0f} s")
    error = call.exception()  # of any kind: its errors share no parent
    if error is None:
        return call.result()
    kind = type(error).__name__
    raise ProviderError("short" if kind == SHORT else "away", f"SkyPilot: {kind}: {error}")
