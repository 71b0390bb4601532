"""`python -m benchmarks.ledger.without --config FILE`: the gateway with its ledger off.

Rows are made and thrown away: nothing is framed, written or drained. Only to measure what the
ledger costs; such a gateway must serve nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any, cast

import uvloop

from serving import logs
from serving.app import Gateway
from serving.idempotency import Idempotency
from serving.journal import Journal
from serving.ledger.drain import Drainer
from serving.parts import Parts
from serving.rows import Record
from serving.settings import Settings, load


class _Silent:
    """A journal that keeps nothing; all but its writes is the real one's."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, *records: Record) -> None:
        """Throw them away."""

    def append_end(self, *records: Record) -> None:
        """Throw them away."""

    async def synced(self) -> None:
        """Nothing waits for the disk."""


class _Unrecorded(Parts):
    """The parts as they are, but for the journal."""

    async def book(self, store: Idempotency) -> tuple[Journal, Drainer]:
        journal, drainer = await super().book(store)
        return cast("Journal", _Silent(journal)), drainer


class WithoutLedger(Gateway):
    """The gateway as it is, but for its journal."""

    making = _Unrecorded


async def _main(settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await WithoutLedger(settings).run(stop)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger.without", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    logs.configure()
    return uvloop.run(_main(load(parser.parse_args().config)))


if __name__ == "__main__":
    sys.exit(main())
