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

import math

import msgspec

from autoscale.forecast import Outlook
from autoscale.ladder import Rung

AHEAD = 4
"""Times to ready over which advice is counted: shorter stays do not earn a start."""
UNSERVED_RATIO = 20.0
"""Work that no API takes counts as this many times the replica's price: a refused customer is no
saving. ASSUMED; when calls wait, replicas are asked for at once whatever this says (`urgent`)."""


class Weighed(msgspec.Struct, frozen=True):
    """The accounts after a tick."""

    balances: tuple[float, ...]
    is_on: tuple[bool, ...]

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
    balances: list[float] = []
    is_on: list[bool] = []
    for index, rung in enumerate(rungs):
        was_on = index < len(before.is_on) and before.is_on[index]
        if rung.is_sunk or rung.micro_per_s <= 0.0:
            balances.append(0.0)
            is_on.append(rung.is_sunk)
            continue
        start = rung.micro_per_s * rung.ready_s
        old = before.balances[index] if index < len(before.balances) else -start
        balance, on = _move(rung, view, old, was_on)
        if not on and index >= len(before.is_on) and balance <= -start * (1 + view.trust):
            break  # nothing above this rung has ever had work
        balances.append(balance)
        is_on.append(on)
    return Weighed(tuple(balances), tuple(is_on))


def _move(rung: Rung, view: View, old: float, was_on: bool) -> tuple[float, bool]:
    price, start = rung.micro_per_s, rung.micro_per_s * rung.ready_s
    api = worth_of_work(rung, view)
    used = min(max(view.rate - rung.below, 0.0), rung.capacity)
    gain = (api * used - price) * view.elapsed_s
    ahead_s = AHEAD * rung.ready_s
    promised = (api * view.outlook.share(rung.below, rung.capacity) - price) * ahead_s
    advice = math.copysign(min(abs(promised) / start, 1.0), promised) * view.trust
    # Good advice lowers both barriers, bad advice raises the lower one.
    lowest = -start * (1.0 + advice)
    balance = min(0.0, max(old + gain, lowest))
    if was_on:
        return balance, balance > lowest
    return balance, balance >= -start * max(0.0, advice) and gain > 0.0


def worth_of_work(rung: Rung, view: View) -> float:
    """What a second of a full replica's work would cost elsewhere, or undone."""
    unserved = UNSERVED_RATIO * rung.micro_per_s / rung.capacity
    if view.micro_per_work_s is None:
        return unserved
    return view.micro_per_work_s + view.refused * max(0.0, unserved - view.micro_per_work_s)


def urgent(rungs: tuple[Rung, ...], work_s: float, rate: float, wait_s_max: float) -> int:
    """Replicas that would work off a backlog within `wait_s_max` of being ready, on top of what
    comes in; for calls that no API takes."""
    wanted = rate + work_s / max(wait_s_max, 1.0)
    return next((i for i, rung in enumerate(rungs) if rung.below >= wanted), len(rungs))
