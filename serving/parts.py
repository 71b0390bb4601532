"""What the gateway is made of beside the request path: stores and what works on them, each started
and handed to the stack that closes it again. Part of the composition root (`serving.app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving.allowances import Allowances
from serving.audit.recorder import Recorder
from serving.audit.standing import Standing
from serving.budgets.funds import Funds
from serving.budgets.keeper import Keeper, Terms
from serving.budgets.store import opener as budget_opener
from serving.directory.store import opener as directory_opener
from serving.finance.desk import FinanceDesk
from serving.fleet import Fleet
from serving.guard.gate import Gate
from serving.guard.moderation import Moderator, Service
from serving.guard.termfile import ListFault
from serving.idempotency import Idempotency
from serving.journal import Journal
from serving.keys import Keys, pepper
from serving.ledger.drain import Drainer
from serving.ledger.late import LateLedger
from serving.ledger.store import opener
from serving.limits.sharing import Sharing
from serving.logs import utc_ms
from serving.metrics import Metrics
from serving.quality import store as quality_store
from serving.quality.watch import Watch
from serving.records import Offering
from serving.recovery import Recovery
from serving.review import store as review_store
from serving.review.keeper import Reviews
from serving.settings import Settings, SettingsError
from serving.watched import watch


class Parts(NamedTuple):
    """How each part is made."""

    settings: Settings
    died: Callable[[], None]
    """Called when a task ends that the gateway cannot do without."""
    closing: contextlib.AsyncExitStack
    """Closes them in the reverse order."""

    async def book(self, store: Idempotency) -> tuple[Journal, Drainer]:
        """The durable record, with earlier lives settled if the ledger is there."""
        settings, own, book = self.settings, self.settings.gateway, self.settings.ledger
        state = settings.state_dir
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = LateLedger(opener(settings))
        self.closing.callback(ledger.close)
        journal = Journal.open(
            state / "journal" / str(own.index), book.segment_bytes, book.reserve_bytes
        )
        self.closing.callback(journal.close)
        drainer = Drainer(journal, ledger, book.drain_s, book.exit_wait_s)
        self.closing.push_async_callback(drainer.close)
        recovery = Recovery(drainer, ledger, (store, own.idempotency.ttl_s))
        self.closing.push_async_callback(recovery.close)
        drainer.on_death = recovery.on_death = self.died
        await recovery.start()
        return journal, drainer

    async def limits(self, deployment_id: str) -> tuple[Sharing, Allowances]:
        """Limits, and their counters that processes share. Raises SettingsError."""
        own = self.settings.gateway
        process = f"{own.index}-{os.urandom(8).hex()}"
        sharing = Sharing(self.settings, (deployment_id, process), utc_ms)
        self.closing.push_async_callback(sharing.close)
        await sharing.start(self.died)
        rates = None if sharing.rates is None else sharing.rates.meter
        clock = asyncio.get_running_loop().time
        return sharing, Allowances(own.pods, rates, sharing.plans.meter, clock)

    def budgets(self, funds: Funds, life: str) -> Keeper:
        """Money that calls may spend; the leases are given back before the journal is closed."""
        keeper = Keeper(Terms(funds, budget_opener(self.settings), life, utc_ms))
        keeper.on_death = self.died
        self.closing.push_async_callback(keeper.close)
        keeper.start()
        return keeper

    def guard(self) -> Gate:
        """The filter of inputs and answers, its term lists watched. Raises SettingsError."""
        given, moderator = self.settings.guard, None
        if given.moderation is not None:
            asked = given.moderation
            token = asked.token_file.read_text("ascii").strip() if asked.token_file else ""
            service = Service(asked.url, token, asked.timeout_s, asked.concurrent_max)
            moderator = Moderator(service, asyncio.get_running_loop().time)
            self.closing.push_async_callback(moderator.close)
        secret = hashlib.blake2b(pepper(self.settings), person=b"guard").digest()
        gate = Gate(given, secret, moderator)
        try:
            gate.load()
        except ListFault as error:
            raise SettingsError(str(error)) from None
        watching = asyncio.create_task(gate.lists.watch(given.check_s), name="term-lists")
        watch(watching, self.died)
        self.closing.callback(watching.cancel)
        return gate

    async def record_policy(
        self, deployment_id: str,
        of: tuple[Keys, Mapping[str, tuple[Offering, ...]], Gate],
    ) -> None:  # fmt: skip
        """What settings and files say, put into the history where it is new."""
        keys, sold, gate = of
        offered = tuple(offering for rows in sold.values() for offering in rows)

        def look() -> Standing:
            known = tuple(keys.standing.keys.values())
            return Standing(self.settings, known, offered, gate.lists.stamp)

        actor = f"gateway:{deployment_id}/{self.settings.gateway.index}"
        recorder = Recorder(directory_opener(self.settings), actor, look, utc_ms)
        recorder.on_death = self.died
        self.closing.push_async_callback(recorder.close)
        await recorder.start()

    def reviews(self, metrics: Metrics) -> Reviews:
        """What is sampled for people to judge. Raises SettingsError."""
        settings = self.settings
        seal = review_store.sealer(settings, os.urandom)
        reviews = Reviews(settings.review, seal, review_store.opener(settings), utc_ms)
        reviews.on_death = self.died
        reviews.start()
        self.closing.push_async_callback(reviews.close)
        metrics.more.append(reviews.counted)
        return reviews

    def heed_canaries(self, fleet: Fleet) -> None:
        """Offerings whose answers have changed are asked last."""
        if self.settings.canaries.key_file is None:
            return

        def tell(drifting: frozenset[str]) -> None:
            fleet.drifting = drifting

        heeding = Watch(quality_store.opener(self.settings), tell, utc_ms)
        heeding.start(self.died)
        self.closing.push_async_callback(heeding.close)

    def finance(self) -> FinanceDesk:
        """The books beside the rows."""
        desk = FinanceDesk.of(self.settings)
        self.closing.push_async_callback(desk.close)
        return desk
