"""Budgets before and after a placement: what the pipeline asks of them, in its order.

Before: the owner's ladder, and the offerings nobody pays for. After a refusal for want of money: a
moment's wait where the slice is dry and the budget is not, else the reason in words.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from serving.budgets.funds import NO_RATE, Funding
from serving.budgets.keeper import Keeper
from serving.budgets.ladder import Effects
from serving.budgets.period import zone
from serving.budgets.values import Budget
from serving.errors import OwnError
from serving.progress import Progress
from serving.records import FleetView, Refuse, Wait
from serving.rules import AS_WRITTEN

CODE = "budget_exceeded"
AWAY_RETRY_S = 5.0
WAIT_S = 1.0
"""A call waits so long at most, in all, for dry slices to be renewed."""


def bound(progress: Progress, keeper: Keeper, view: FleetView) -> None:
    """Write what its budgets allow into the call. Raises OwnError where an owner's ladder refuses
    it."""
    funds, caller = keeper.funds, progress.caller
    before, funding = progress.funding, funds.look(progress.call, caller)
    if funding is None:
        progress.funding = None
        return
    effects = funds.effects(funding)
    if effects.model and _may_change(progress, keeper, effects.model):
        progress.call = replace(progress.call, model=effects.model)
        funding = funds.look(progress.call, caller) or funding
    if before is not None:
        funding.until_s = before.until_s
    progress.funding = funding
    if effects.refused_by is not None:
        progress.reason = "budget"
        raise _refusal(keeper, funding, effects)
    call = progress.call
    first_by_s = min(call.complete_by_s, call.received_s + effects.wait_s)
    if effects.wait_s and first_by_s > call.first_token_by_s:
        call = replace(call, first_token_by_s=first_by_s)
    progress.call = funds.bound(call, funding, view, effects.local_by)


def _may_change(progress: Progress, keeper: Keeper, model: str) -> bool:
    """Whether another model may answer: before anybody works or waits for it, one that we have,
    that the key may call, and that the prompt fits. An adapter has one model only, and so have
    vectors, voices and what was asked of one target."""
    call, allowed = progress.call, progress.caller.policy.models
    if progress.attempts or progress.had_turn or model == call.model:
        return False
    if call.adapter or call.pin or call.surface in AS_WRITTEN:
        return False
    if allowed is not None and model not in allowed:
        return False
    return call.prompt_tokens + (call.max_tokens or 0) <= keeper.funds.contexts.get(model, -1)


async def may_again(progress: Progress, keeper: Keeper, placement: Refuse | Wait) -> bool:
    """Whether a call that is not served for want of money is to be placed once more: what is dry is
    a slice, not the budget, and has been renewed meanwhile."""
    funding = progress.funding
    if funding is None or keeper.last_error:
        return False
    if isinstance(placement, Refuse) and placement.code != CODE:
        return False
    ways = [w for w in funding.missing if all(one.purse.may_pay(one.micro) for one in w)]
    if not ways:
        return False
    funding.until_s = funding.until_s or keeper.now_s() + WAIT_S
    left_s = funding.until_s - keeper.now_s()
    if left_s <= 0.0:
        return False
    for one in ways[0]:
        one.purse.waiting += one.micro
    await keeper.wait(left_s)
    return True


def explained(progress: Progress, keeper: Keeper, placement: Refuse) -> Refuse:
    """The refusal in words: which budget, and when it starts anew."""
    funding = progress.funding
    if placement.code != CODE or funding is None:
        return placement
    error = _refusal(keeper, funding, keeper.funds.effects(funding))
    return Refuse(CODE, placement.reason, error.message, error.retry_after_s)


def _refusal(keeper: Keeper, funding: Funding, effects: Effects) -> OwnError:
    owner = effects.refused_by or effects.local_by
    short = [one.purse for way in funding.missing[:1] for one in way]
    if owner is not None:
        purse = next(p for p in funding.purses if p.budget is owner)
        does = "refuses calls" if effects.refused_by else "keeps calls on our own engines"
        why = f"{_named(owner)} {does} from the share spent that its owner set"
    else:
        purse = max(short or funding.purses, key=lambda p: p.span.end_ms)
        if keeper.last_error and purse.left <= 0:
            text = f"the budgets' store is away, and this gateway's part of {_named(purse.budget)}"
            return OwnError(CODE, f"{text} is spent", retry_after_s=AWAY_RETRY_S)
        foreign = [[one for one in way if one.micro == NO_RATE] for way in funding.missing]
        if foreign and all(foreign):  # no raise and no new period would help
            text = "its targets are paid in a currency without a rate to that of"
            return OwnError(CODE, f"{text} {_named(foreign[0][0].purse.budget)}")
        why = f"what is left of {_named(purse.budget)} does not pay for this call"
    starts = datetime.fromtimestamp(purse.span.end_ms / 1e3, UTC)
    at = starts.astimezone(zone(purse.budget.time_zone)).isoformat(timespec="minutes")
    left_s = purse.span.end_ms / 1e3 - keeper.utc_ms() / 1e3
    return OwnError(CODE, f"{why}; it starts anew at {at}", retry_after_s=max(1.0, left_s))


def _named(budget: Budget) -> str:
    whole, part = divmod(budget.limit_micro, 1_000_000)
    amount = f"{whole}.{f'{part:06d}'.rstrip('0').ljust(2, '0')}"  # a small one must not read 0.00
    return f"budget {budget.id!r} ({amount} {budget.currency} a {budget.period})"
