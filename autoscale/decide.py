"""Rent the next replica, or let its work go to the API? One account per replica's place. Pure.

For each rung the account holds what the API would have cost for the work that this replica could
have done, less what the replica costs; it never rises above 0 nor falls below minus the price of a
start. At 0 renting would have paid from the last low on: rent. At the bottom the opposite: give
back. That is the work function of two states with a switching cost (Lin et al. 2011; Albers and
Quedenfeld 2018) with its constant left out. The forecast moves the two barriers by at most the
policy's trust, as in ski rental with advice (Purohit, Svitkina, Kumar 2018): wrong advice costs a
bounded factor.
"""

from __future__ import annotations

import msgspec

from autoscale.forecast import Outlook
from autoscale.ladder import Rung

NOTHING = 1e-3
"""Work in sight that is worth less than this part of a replica's price counts as none."""
UNSERVED_RATIO = 20.0
"""Work that no API takes counts as this many times the replica's price: a refused customer is no
saving. ASSUMED; when calls wait, replicas are asked for at once whatever this says (`urgent`)."""


class Weighed(msgspec.Struct, frozen=True):
    """The accounts after a tick."""

    balances: tuple[float, ...]
    is_on: tuple[bool, ...]
    depth: int = 0
    """Rungs that have been weighed. Those beyond `balances` stand off at the bottom (`idle`): most
    of a long ladder, which need not be walked nor kept."""

    @property
    def count(self) -> int:
        """Replicas wanted. Switches may leave gaps for a tick; the number is what counts."""
        return sum(self.is_on)


class View(msgspec.Struct, frozen=True):
    """What the accounts are moved by."""

    rate: float
    """Demand in replicas."""
    outlook: Outlook
    micro_per_work_s: float | None
    """The API's price of a second of a replica's work; None: there is no API."""
    refused: float
    """Share of what overflows that the API does not take."""
    elapsed_s: float
    trust: float


def weigh(rungs: tuple[Rung, ...], view: View, before: Weighed) -> Weighed:
    """Move each rung's account by one tick and switch those that reached a barrier."""
    old_balances, old_is_on, trust, rate = before.balances, before.is_on, view.trust, view.rate
    known = len(old_balances)
    depth = before.depth if before.depth > known else known
    full = _full(rungs, view, before)
    balances, is_on = [0.0] * full, [True] * full
    above, upper, place = view.outlook.above, 0.0, -1.0
    for index in range(full, len(rungs)):
        rung = rungs[index]
        below, price = rung.below, rung.micro_per_s
        over = upper if below == place else above(below)
        if index >= known and rate <= below and _is_idle_from(rung, view, over):
            depth = len(rungs)
            break
        if price <= 0.0 or rung.is_sunk:
            balances.append(0.0)
            is_on.append(rung.is_sunk)
            upper, place = over, below
            continue
        place = below + rung.capacity
        upper = above(place)
        if index < known:
            balance, on = _move(rung, view, over - upper, old_balances[index], old_is_on[index])
        else:
            start = price * rung.ready_s
            old = idle(rung, trust) if index < depth else -start
            balance, on = _move(rung, view, over - upper, old, was_on=False)
            if not on and index >= depth and balance <= -start * (1 + trust):
                depth = index
                break  # nothing above this rung has ever had work
        balances.append(balance)
        is_on.append(on)
    else:
        depth = len(rungs)
    kept = len(is_on)
    while (
        kept > full and not is_on[kept - 1] and balances[kept - 1] == idle(rungs[kept - 1], trust)
    ):
        kept -= 1
    return Weighed(tuple(balances[:kept]), tuple(is_on[:kept]), depth)


def _full(rungs: tuple[Rung, ...], view: View, before: Weighed) -> int:
    """Rungs at the foot of the ladder that are on with a whole account, and earned their price in
    this tick: no advice can move them, so none is reckoned. Most of a fleet at most times."""
    if view.trust >= 1.0:
        return 0
    count, rate = 0, view.rate
    # A replica at full work whose price is no more than this earns it, whatever is refused.
    cheap = view.micro_per_work_s or 0.0
    for rung, balance, was_on in zip(rungs, before.balances, before.is_on, strict=False):
        if not was_on or balance:
            break
        price, capacity = rung.micro_per_s, rung.capacity
        is_plain = rate - rung.below >= capacity and 0.0 < price <= cheap * capacity
        if not (is_plain or rung.is_sunk) and (price <= 0.0 or _gain(rung, view) < 0.0):
            break
        count += 1
    return count


def higher(rungs: tuple[Rung, ...], now: Weighed, before: Weighed, trust: float) -> Weighed:
    """Of two states the one that speaks for more, rung by rung."""
    count = min(max(len(now.balances), len(before.balances)), len(rungs))
    rest = [idle(rung, trust) for rung in rungs[:count]]
    balances, is_on = [], []
    for k in range(count):
        new = now.balances[k] if k < len(now.balances) else rest[k]
        # A rung that has never been weighed has no past that could speak.
        past = rest[k] if k < max(before.depth, len(before.balances)) else new
        old = before.balances[k] if k < len(before.balances) else past
        balances.append(max(new, old))
        is_on.append(any(state.is_on[k] for state in (now, before) if k < len(state.is_on)))
    return Weighed(tuple(balances), tuple(is_on), now.depth)


def idle(rung: Rung, trust: float) -> float:
    """The account of a replica for which there was no work and is none in sight."""
    return -rung.micro_per_s * rung.ready_s * (1.0 - trust)


def _is_idle_from(rung: Rung, view: View, over: float) -> bool:
    """Whether this rung, for which there is no work, and all above it end the tick at the bottom,
    whatever they are: none is in sight. `over` is the expected demand above the rung."""
    if rung.least_micro_per_s <= 0.0:
        return False
    worth = UNSERVED_RATIO * rung.most_micro_per_work_s
    if view.micro_per_work_s is not None:
        api = view.micro_per_work_s
        worth = api + view.refused * max(0.0, worth - api)
    return worth * over <= NOTHING * rung.least_micro_per_s * (1.0 - 1e-9)


def _gain(rung: Rung, view: View) -> float:
    """What a replica in this place earned in the tick, beyond its price."""
    used, capacity = view.rate - rung.below, rung.capacity
    used = 0.0 if used < 0.0 else capacity if used > capacity else used
    return (worth_of_work(rung, view) * used - rung.micro_per_s) * view.elapsed_s


def _move(rung: Rung, view: View, share: float, old: float, was_on: bool) -> tuple[float, bool]:
    """The account after the tick and whether the rung is on; `share` is the demand expected for
    it, `old` its account before."""
    price, trust = rung.micro_per_s, view.trust
    worth, start = worth_of_work(rung, view), price * rung.ready_s
    gain = -price * view.elapsed_s if view.rate <= rung.below else _gain(rung, view)
    promised, advice = worth * share, -trust
    if promised > NOTHING * price:
        # As good as what a replica would earn beyond its price over a time to ready, in starts.
        good = promised / price - 1.0
        advice = trust if good > 1.0 else good * trust
    # Good advice lowers both barriers, bad advice raises the lower one.
    lowest, balance = -start * (1.0 + advice), old + gain
    balance = lowest if balance < lowest else 0.0 if balance > 0.0 else balance
    if was_on:
        return balance, balance > lowest
    return balance, gain > 0.0 and balance >= (-start * advice if advice > 0.0 else 0.0)


def worth_of_work(rung: Rung, view: View) -> float:
    """What a second of a full replica's work would cost elsewhere, or undone."""
    api = view.micro_per_work_s
    if api is not None and not view.refused:
        return api
    unserved = UNSERVED_RATIO * rung.micro_per_s / rung.capacity
    return unserved if api is None else api + view.refused * max(0.0, unserved - api)


def saved_per_rent(rung: Rung, view: View) -> float:
    """API money that a replica in this place is expected to save for each unit of its rent."""
    share = view.outlook.share(rung.below, rung.capacity)
    if rung.micro_per_s <= 0.0:
        return share * UNSERVED_RATIO
    return share * (worth_of_work(rung, view) / rung.micro_per_s)


def urgent(rungs: tuple[Rung, ...], work_s: float, rate: float, wait_s_max: float) -> int:
    """Replicas that take what comes in and would work off a backlog, once ready, in the time that
    they took to come (`wait_s_max` if that is longer); for calls that no API takes. Sooner would
    ask for machines by a queue that is another one when they are there."""
    ready_s = rungs[0].ready_s if rungs else 1.0
    wanted = rate + work_s / max(wait_s_max, ready_s, 1.0)
    return next((i for i, rung in enumerate(rungs) if rung.below >= wanted), len(rungs))
