"""What the pipeline works with: the interfaces of its neighbours, and the bundle of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from serving.admission import Admission
from serving.allowances import Allowances
from serving.backends.base import Backend
from serving.budgets.keeper import Keeper
from serving.cache.keeper import Cache
from serving.guard.gate import Gate
from serving.holding import Line
from serving.journal import Journal
from serving.progress import Progress
from serving.records import FleetView
from serving.rows import AttemptEnd
from serving.settings import Retry
from serving.settings_rescue import Rescue


class Client(Protocol):
    """The connection the answer goes to."""

    @property
    def is_closed(self) -> bool:
        """Whether the client is gone."""

    @property
    def is_paused(self) -> bool:
        """Whether the client reads slower than we write."""

    def start(self, head: bytes) -> None:
        """Send the 200 and the head of an event stream."""

    def write(self, data: bytes) -> None:
        """Send part of the stream."""

    async def writable(self) -> None:
        """Wait until the client has read enough."""

    def end(self, data: bytes = b"") -> None:
        """End the stream with its last bytes."""

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """Send a whole answer."""


class Fleet(Protocol):
    """Where the latest view is."""

    view: FleetView


class Settled(Protocol):
    """Is told of every ended request."""

    def attempt(self, progress: Progress, row: AttemptEnd) -> None:
        """One attempt ended."""

    def request(self, progress: Progress) -> None:
        """One request ended."""


class Stages(NamedTuple):
    """What the pipeline works with; built by the composition root."""

    fleet: Fleet
    admission: Admission
    allowances: Allowances
    line: Line
    backends: Mapping[type[Any], Backend]
    journal: Journal
    observer: Settled
    retry: Retry
    loop: asyncio.AbstractEventLoop
    is_disk_sync: bool = False
    """Rows are on the disk, not only in the kernel, before the last byte."""
    gate: Gate | None = None
    """The guard; None relays everything."""
    budgets: Keeper | None = None
    cache: Cache | None = None
    rescue: Rescue = Rescue()
