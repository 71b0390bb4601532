"""What a call may cost: its budgets, what they allow of it, reserve and settle. No I/O, no waiting.

Asked before each placement, so that a retry reserves anew. A call that no budget touches costs a
dictionary look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from serving.accounting import billed, price_of
from serving.budgets import ladder, money
from serving.budgets.learnt import Feature, Lengths
from serving.budgets.period import span
from serving.budgets.purse import Purse, Reserved
from serving.budgets.scopes import DEV, Index
from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.placement.offered import offered
from serving.records import (
    POOLED,
    Call,
    Caller,
    FleetView,
    Offering,
    Outcome,
    Price,
    Surface,
    Ticket,
)
from serving.rows import AttemptEnd

PREFETCH_MS = 5_000
"""The next period's first slice is asked for so early."""
SHUT = -1
"""Short of an offering: a provider's own budget has shut it."""
NO_RATE = -2
"""Its price has no rate to the budget's currency."""
_TOKENIZE = Surface.TOKENIZE
_log = logging.getLogger(__name__)


class Funding:
    """One call's budgets. Owned by its progress."""

    __slots__ = ("feature", "held", "missing", "purses", "until_s")

    def __init__(self, purses: tuple[Purse, ...], feature: Feature) -> None:
        self.purses = purses
        self.feature = feature
        self.held: list[Reserved] = []
        """Of the attempt under way."""
        self.missing: list[list[Reserved]] = []
        """What was short of each offering that is not paid for; negative where no more would help:
        `SHUT`, `NO_RATE`."""
        self.until_s = 0.0
        """Waits for leases to be renewed until then at most; 0 before it waited."""


class Funds:
    """All purses of one process. `contexts` are our models' own, tokens."""

    def __init__(
        self, settings: BudgetSettings, contexts: Mapping[str, int], utc_ms: Callable[[], int]
    ) -> None:
        self.gpu = Price(
            settings.gpu_currency, settings.gpu_input_micro_per_mtok,
            settings.gpu_output_micro_per_mtok, settings.gpu_input_micro_per_mtok,
            "budgets.gpu_*", "",
        )  # fmt: skip
        self.contexts = contexts
        self._utc_ms = utc_ms
        self._index = Index(())
        self.in_force: Mapping[str, Budget] = {}
        self.purses: dict[tuple[str, int], Purse] = {}
        """By budget and the period's start."""
        self._current: dict[str, Purse] = {}
        self.lengths = Lengths()
        self.is_any = False
        """Whether there is any budget at all."""
        self.on_low: Callable[[], None] = lambda: None
        """Told when a slice runs dry."""

    def take(self, budgets: Mapping[str, Budget]) -> None:
        """These are in force now; purses of others are closed by their next report."""
        for (id_, _), purse in self.purses.items():
            known = budgets.get(id_)
            if known is not None and (known != purse.budget or purse.is_closed):
                purse.changed(known)
        self.in_force = dict(budgets)
        self._index = Index(budgets.values())
        self._current.clear()
        self.is_any = self._index.is_any
        self.prefetch()

    def prefetch(self) -> None:
        """Have a purse of each budget for now, and for the period that begins in a moment. Caps by
        default wait for their first call: there may be as many as projects."""
        now_ms = self._utc_ms()
        for budget in self.in_force.values():
            if budget.id.startswith(DEV):
                continue
            self._purse(budget, now_ms)
            ends_ms = self._current[budget.id].span.end_ms
            if ends_ms - now_ms <= PREFETCH_MS:
                self._made(budget, ends_ms)

    def is_wanted(self, purse: Purse) -> bool:
        """Whether its budget is still in force."""
        return purse.budget.id in self.in_force

    def _purse(self, budget: Budget, now_ms: int) -> Purse:
        purse = self._current.get(budget.id)
        if purse is None or not purse.span.start_ms <= now_ms < purse.span.end_ms:
            purse = self._current[budget.id] = self._made(budget, now_ms)
        return purse

    def _made(self, budget: Budget, at_ms: int) -> Purse:
        when = span(budget.period, budget.time_zone, at_ms)
        purse = self.purses.get((budget.id, when.start_ms))
        if purse is None:
            purse = Purse(budget, when, money.rate_micro(when.day))
            self.purses[budget.id, when.start_ms] = purse
        return purse

    def look(self, call: Call, caller: Caller) -> Funding | None:
        """The budgets a call touches now; None is none."""
        found = self._index.of(caller.tenant, caller.project, call.model)
        if not found or caller.policy.is_load_test or call.surface is _TOKENIZE:
            return None
        now_ms = self._utc_ms()
        feature = Feature(caller.tenant, caller.project, caller.feature, call.model)
        return Funding(tuple(self._purse(b, now_ms) for b in found), feature)

    def effects(self, funding: Funding) -> ladder.Effects:
        """What the owners' ladders say now; providers' own are read in `bound`."""
        return ladder.effects(
            (p.budget, p.share) for p in funding.purses if p.budget.ladder and not p.budget.provider
        )

    def bound(
        self, call: Call, funding: Funding, view: FleetView, local_by: Budget | None = None
    ) -> Call:
        """The call with the offerings that no budget pays for, and the bound of its answer where
        the caller named none. `local_by`: the budget whose owner keeps calls on our engines."""
        offerings = offered(call, view)
        if not offerings:
            return call
        tokens = self._answer_tokens(call, funding)
        funding.missing = []
        unaffordable = frozenset(
            o.id
            for o in offerings
            if (local_by is not None and (not o.owner or _counts(local_by, o)))
            or not self._pays(call, funding, o, tokens)
        )
        answer_max = tokens if call.max_tokens is None else 0
        if (unaffordable, answer_max) == (call.unaffordable, call.answer_max):
            return call
        return msgspec.structs.replace(call, unaffordable=unaffordable, answer_max=answer_max)

    def _answer_tokens(self, call: Call, funding: Funding) -> int:
        """The most an answer may have; vectors and scores have none."""
        if call.max_tokens is not None or call.surface in POOLED:
            return call.max_tokens or 0
        context = self.contexts.get(call.model, 0)
        tokens = self.lengths.longest(funding.feature)
        return min(tokens, context) if context else tokens

    def _pays(self, call: Call, funding: Funding, offering: Offering, tokens: int) -> bool:
        """Whether all budgets do; each is asked, so that each notes what did not fit."""
        prompt_tokens = billed(offering, call.prompt_tokens)
        most = money.most(offering.price, prompt_tokens, tokens * call.n)
        missing = []
        for purse in funding.purses:
            if not _counts(purse.budget, offering):
                continue
            micro = purse.amount(most, offering.price.currency)
            if not _admits(purse):
                missing.append(Reserved(purse, SHUT))
            elif not purse.fits(micro):
                missing.append(Reserved(purse, NO_RATE if micro is None else micro))
        if missing:
            funding.missing.append(missing)
        return not missing

    def reserve(self, call: Call, funding: Funding, ticket: Ticket) -> None:
        """An attempt begins; owned engines reserve nothing."""
        funding.held = []
        target = ticket.target
        if isinstance(target, Offering):
            tokens = call.max_tokens or call.answer_max
            prompt_tokens = billed(target, call.prompt_tokens)
            most = money.most(price_of(ticket), prompt_tokens, tokens * call.n)
            for purse in funding.purses:
                if _counts(purse.budget, target):
                    micro = purse.amount(most, target.price.currency) or 0
                    purse.reserve(micro)
                    funding.held.append(Reserved(purse, micro))
                    if purse.is_low:
                        self.on_low()
        elif self.gpu.input_micro_per_mtok or self.gpu.output_micro_per_mtok:
            funding.held = [Reserved(p, 0) for p in funding.purses if not p.budget.provider]

    def settle(self, funding: Funding, row: AttemptEnd, call: Call, ticket: Ticket) -> None:
        """It ended: what it cost takes the place of what was reserved."""
        is_api = isinstance(ticket.target, Offering)
        charge = row.charge if is_api else money.of_engine(self.gpu, row.usage)
        held, funding.held = funding.held, []
        for one in held:
            if not one.purse.settle(one.micro, charge, is_bounded=is_api):
                _log.warning(
                    "budget_charge_implausible",
                    extra={"request_id": row.request_id, "budget": one.purse.budget.id,
                           "said_micro": charge.micro, "reserved_micro": one.micro},
                )  # fmt: skip
            if one.purse.is_low:
                self.on_low()
        usage = row.usage
        if call.max_tokens is None and row.outcome == Outcome.OK and not usage.is_estimated:
            each = usage.completion_tokens // max(1, call.n)
            is_cut = is_api and 0 < call.answer_max <= each
            self.lengths.learn(funding.feature, each, is_cut=is_cut)


def _counts(budget: Budget, offering: Offering) -> bool:
    """Whether a call there counts in a budget: what a tenant's own account pays is in that tenant's
    budgets alone, not in those of a provider or of all, which are about our money."""
    if offering.owner:
        return bool(budget.tenant) and not budget.provider
    return budget.provider in ("", offering.provider)


def _admits(purse: Purse) -> bool:
    """Whether the ladder of a provider's own budget lets calls go there still."""
    budget = purse.budget
    is_closed = budget.provider and budget.ladder and purse.share >= budget.ladder[0].at_share
    return not is_closed
