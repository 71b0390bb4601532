"""Orders and ends the machines of one pool at its provider. What to do is in `machines_rule`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

import aiohttp

from autoscale.acts import Act, AskedOf, Outcome
from autoscale.actuators import machines_rule as rule
from autoscale.actuators import orders_rule as orders
from autoscale.actuators.base import Actuator, Order
from autoscale.lease import Fence, FencedError
from autoscale.machine_book import BookFile
from autoscale.machines import Book, Bounds, Create, Intent, Machine, ProviderError, Tags, ours
from autoscale.policy import Pool
from autoscale.providers.base import Provider
from autoscale.records import Samples, Scale

PATIENCE_S = 1.0
"""How long a tick waits for a provider."""
ENDS_MAX = 16
"""Requests of each kind in one tick: the rest follows at the next ones."""


class Desk(NamedTuple):
    """One pool at one provider."""

    tags: Tags
    pool: Pool
    bounds: Bounds
    per_replica: int
    call_s: float
    """Longest request."""


class MachinesActuator(Actuator):
    """Owns the pool's book."""

    def __init__(
        self, desk: Desk, provider: Provider, file: BookFile,
        busy: Callable[[], Mapping[str, frozenset[str]]], patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self.name = f"machines/{desk.tags.pool}"
        self._desk = desk
        self._provider = provider
        self._file = file
        self._busy = busy
        self._patience_s = patience_s
        self._book = Book()
        self._visit: asyncio.Task[Act] | None = None
        self._addresses: tuple[str, ...] = ()

    def begin(self, asked: AskedOf) -> None:  # noqa: ARG002 - protocol
        """See `Actuator`."""
        self._book = self._file.read()

    def short(self, at_ms: int) -> tuple[str, ...]:
        """See `Actuator`."""
        tags, is_short = self._desk.tags, orders.is_ahead(self._book.short_until_ms, at_ms)
        return (f"{tags.model}/{tags.pool}",) if is_short else ()

    def hosts(self) -> Mapping[str, str]:
        """See `Actuator`."""
        return dict.fromkeys(self._addresses, self._desk.tags.pool)

    def cease(self) -> None:
        """See `Actuator`."""
        if self._visit is not None:
            self._visit.cancel()
            self._visit = None

    async def apply(
        self,
        order: Order,
        fence: Fence,
        session: aiohttp.ClientSession,  # noqa: ARG002 - protocol
    ) -> tuple[Act, ...]:
        """See `Actuator`. A slow provider holds up no tick: what is asked goes on beside the next
        ones, and nothing else is asked meanwhile."""
        if self._visit is None:
            self._visit = asyncio.create_task(self._look(order, fence))
        await asyncio.wait({self._visit}, timeout=self._patience_s)
        if not self._visit.done():
            return (self._act("coming", "its provider is still being asked", ()),)
        visit, self._visit = self._visit, None
        return (visit.result(),)

    async def _look(self, order: Order, fence: Fence) -> Act:
        """One look at the provider, and what follows from it."""
        at_ms, listed = order.samples.at_ms, tuple[Machine, ...]()
        try:
            every = await self._provider.list(self._desk.tags, self._limit_s(fence))
            mine, others = orders.own(every, self._book, ours(self._desk.tags))
            listed = rule.held(mine, self._held())
            self._addresses = tuple(m.address for m in listed if m.address)
            want = self._want(order)
            steps = rule.plan(self._book, listed, want, self._desk.bounds, at_ms)
            self._keep(steps.book)
            notes = await self._carry_out(steps, listed, at_ms, fence)
        except FencedError as late:
            return self._act("fenced", str(late), listed)
        except ProviderError as error:
            self._book = orders.waited(self._book, error, at_ms)
            return self._act("unknown", f"{error.kind}: {error}", ())
        except OSError as error:
            return self._act("unknown", f"its book cannot be written, so nothing is: {error}", ())
        return self._told((*steps.notes, *notes), listed, others)

    async def _carry_out(
        self, steps: rule.Steps, listed: tuple[Machine, ...], at_ms: int, fence: Fence
    ) -> tuple[str, ...]:
        """Ends first: they save money and make room. Raises FencedError."""
        notes: list[str] = []
        for machine, why in steps.ends[:ENDS_MAX]:
            try:
                await self._provider.terminate(machine, fence.token, self._limit_s(fence))
            except ProviderError as error:
                notes.append(f"{machine} ({why}) not ended: {error}")
                self._book = orders.waited(self._book, error, at_ms)
        asked = list(steps.orders)
        if steps.new:
            made, why = await self._new(steps, listed, at_ms, fence)
            asked += made
            notes += [why] if why else []
        for intent in asked[:ENDS_MAX]:
            if why := await self._create(intent, at_ms, fence):
                notes.append(why)
        return tuple(notes)

    async def _new(
        self, steps: rule.Steps, listed: tuple[Machine, ...], at_ms: int, fence: Fence
    ) -> tuple[tuple[Intent, ...], str]:
        """New orders, in the book before they are sent."""
        desk = self._desk
        if why := orders.closed(self._book, at_ms):
            return (), why
        try:
            offers = await self._provider.offers(desk.tags, desk.pool.gpu, self._limit_s(fence))
        except ProviderError as error:
            self._keep(orders.waited(self._book, error, at_ms))
            return (), f"no offers: {error}"
        at = orders.Moment(at_ms, fence.token, ours(desk.tags))
        made = orders.ordered(self._book, steps.new, (offers, listed), desk.bounds, at)
        self._keep(made.book)
        return made.orders, made.why_not

    async def _create(self, intent: Intent, at_ms: int, fence: Fence) -> str:
        """Send one order; why it failed."""
        desk = self._desk
        asked = Create(
            intent.token, desk.tags, intent.offer, desk.bounds.price_micro_max, desk.pool.gpu,
            desk.pool.terms, desk.pool.jurisdiction, fence.token,
        )  # fmt: skip
        result: Machine | ProviderError
        try:
            result = await self._provider.create(asked, self._limit_s(fence))
        except ProviderError as error:
            result = error
        self._keep(orders.answered(self._book, intent.token, result, desk.bounds, at_ms))
        return f"{result.kind}: {result}" if isinstance(result, ProviderError) else ""

    def _keep(self, book: Book) -> None:
        self._file.write(book)
        self._book = book

    def _limit_s(self, fence: Fence) -> float:
        return fence.left_s(self._desk.call_s)

    def _want(self, order: Order) -> rule.Want:
        tags = self._desk.tags
        decision = next((d for d in order.decisions if d.model == tags.model), None)
        if not isinstance(decision, Scale):
            return rule.Want(-1)
        machines = decision.pools.get(tags.pool, 0) * self._desk.per_replica
        return rule.Want(machines, _has_drained(order.samples, decision), self._held())

    def _held(self) -> frozenset[str]:
        """Addresses that hold replicas of our model."""
        return self._busy().get(self._desk.tags.model, frozenset())

    def _told(self, notes: tuple[str, ...], listed: tuple[Machine, ...], others: int) -> Act:
        book = self._book
        up = [m for m in listed if m.state == "running"]
        live = [i for i in book.intents if not i.ending_ms]
        words = f"{len(live)} of {max(0, book.wanted)} ordered, {len(up)} running"
        if book.strangers:
            words += f", {len(book.strangers)} without an order"
        if others:
            words += f", {others} listed without a token of ours and left alone"
        words = "; ".join((words, *notes))
        outcome: Outcome = "kept"
        if any("cost money" in note for note in notes):
            outcome = "stuck"
        elif len(live) < book.wanted:
            outcome = "refused"
        elif len(up) != book.wanted or notes:
            outcome = "coming"
        return self._act(outcome, words, listed)

    def _act(self, outcome: Outcome, reason: str, listed: tuple[Machine, ...]) -> Act:
        up = sum(m.state == "running" for m in listed)
        tags, wanted = self._desk.tags, self._book.wanted
        return Act(self.name, tags.model, outcome, reason[:500], wanted, up, tags.pool)


def _has_drained(samples: Samples, decision: Scale) -> bool:
    """Whether Serve holds no more replicas than wanted. Where there is no Serve the provider's
    own way to stop a machine drains it."""
    engines = (samples.engines or {}).get(decision.model)
    if engines is None:
        return samples.engines is None
    return engines.running + engines.stopping <= decision.replicas
