"""What the gateway is made of beside the request path: stores and what works on them, each started
and handed to the stack that closes it again. Part of the composition root (`serving.app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.tokens import TokenRatio
from models.worded import Worded, of
from serving.allowances import Allowances
from serving.api.batches import BatchRoutes
from serving.api.batches import Terms as BatchTerms
from serving.api.calls import Calls
from serving.api.files import Files
from serving.api.models import Catalogue
from serving.audit.recorder import Recorder
from serving.audit.standing import Standing
from serving.batch.callers import caller_of
from serving.batch.desk import Desk
from serving.batch.lines import Lines
from serving.batch.means import Means
from serving.batch.runner import Runner
from serving.batch.store import opener as batch_opener
from serving.batch.upload import Terms as UploadTerms
from serving.budgets.funds import Funds
from serving.budgets.keeper import Keeper, Terms
from serving.budgets.store import opener as budget_opener
from serving.cache import keys as cache_keys
from serving.cache.keeper import Cache
from serving.cache.shared import Shared, client_of
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
from serving.metrics import Counter, Metrics
from serving.observer import Observer
from serving.pipeline import Pipeline
from serving.quality import store as quality_store
from serving.quality.watch import Watch
from serving.records import Offering
from serving.recovery import Recovery
from serving.review import store as review_store
from serving.review.keeper import Reviews
from serving.settings import Settings, SettingsError
from serving.tracing.context import Sampling
from serving.waiting import Queue
from serving.watched import watch


class Around(NamedTuple):
    """What batches look at."""

    fleet: Fleet
    queue: Queue
    keys: Keys
    metrics: Metrics
    observer: Observer
    is_stopping: Callable[[], bool]


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
            raise SettingsError(of(error)) from None
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

    def calls(
        self, catalogue: Catalogue, named: tuple[str, Fleet], ratios: Mapping[str, TokenRatio]
    ) -> Calls:
        """Reads bodies into calls; `named` is the deployment's id and who knows the fleet."""
        clock, classes = asyncio.get_running_loop().time, self.settings.gateway.classes
        deployment_id, fleet = named
        given = self.settings.tracing
        sampling = Sampling(given.ratio) if given.endpoint else None
        return Calls(catalogue, classes, deployment_id, ratios, clock, lambda: fleet.view, sampling)

    def batches(
        self, pipeline: Pipeline, calls: Calls, reviews: Reviews, around: Around
    ) -> BatchRoutes:
        """Files and batches, worked on from now on. Raises SettingsError."""
        settings, given = self.settings, self.settings.batches
        desk, own = Desk(batch_opener(settings)), Desk(batch_opener(settings))
        self.closing.push_async_callback(desk.close)
        self.closing.push_async_callback(own.close)  # leases wait for nobody's questions
        counted = Counter("ballast_batch_lines", "Lines of batches that were run", ("result",))
        around.metrics.more.append(counted)
        index, folder = settings.gateway.index, settings.state_dir.expanduser().absolute()
        means = Means(
            own, given, calls, Lines(
                pipeline, calls, reviews, given.tries_max, around.observer.refusals
            ),
            lambda: around.fleet.view, around.queue.waiting,
            lambda batch: caller_of(around.keys, batch), _owned(settings), utc_ms,
            f"{calls.deployment_id}/{socket.gethostname()}/{folder}/{index}", counted,
            around.observer.demand.fills, around.is_stopping,
        )  # fmt: skip
        runner = Runner(means)
        runner.start(self.died)
        self.closing.push_async_callback(runner.close)
        files = Files(UploadTerms(desk, given, utc_ms))
        return BatchRoutes(BatchTerms(desk, given, calls, files, runner.poke, utc_ms))

    def cache(self, fleet: Fleet, deployment_id: str) -> Cache | None:
        """Answers that need not be computed again. Raises SettingsError."""
        settings, given = self.settings, self.settings.cache
        if not (given.inputs_bytes_max or given.answers):
            return None
        clock, shared = asyncio.get_running_loop().time, None
        if given.is_shared:
            if not settings.redis.url:
                raise SettingsError(
                    Worded("settings.cache_shared", "cache.is_shared: name a server in redis.url")
                )
            shared = Shared(client_of(settings.redis), deployment_id, clock)
            self.closing.push_async_callback(shared.close)
        weights = {model.name: cache_keys.identity(model) for model in settings.models}
        return Cache(given, weights, lambda: fleet.view, clock, shared)

    def finance(self) -> FinanceDesk:
        """The books beside the rows."""
        desk = FinanceDesk.of(self.settings)
        self.closing.push_async_callback(desk.close)
        return desk


def _owned(settings: Settings) -> frozenset[str]:
    """Models that have, or are to have, engines of ours; others may turn up at a Ray cluster."""
    placed = {replica.model for replica in settings.fleet.static}
    return frozenset(placed | {m.name for m in settings.models if m.engine is not None})
