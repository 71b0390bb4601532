"""Which machines to order and to end, from what was decided, ordered and listed. Pure.

Failure is a normal result at each step: an order may come late, twice, without an id or never, a
list may lack machines, an end may be ignored. So nothing counts as gone before it was missing for a
while, nothing as had before it is listed, and everything that may cost money counts against the
bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from autoscale.actuators.orders_rule import is_ahead
from autoscale.machines import Book, Bounds, Intent, Machine

GONE = ("ended", "failed")


class Want(msgspec.Struct, frozen=True):
    """What was decided for one pool at this tick."""

    machines: int
    """Negative: nothing yet, or a Hold: the number decided last stands and nothing is ended."""
    may_end: bool = True
    """Replicas that must go have gone; false while they still drain."""
    busy: frozenset[str] = frozenset()
    """Addresses that still hold replicas."""


class Steps(msgspec.Struct, frozen=True):
    """What to do now."""

    book: Book
    orders: tuple[Intent, ...] = ()
    """To create, or to create again under the same token."""
    ends: tuple[tuple[str, str], ...] = ()
    """(machine, why)."""
    new: int = 0
    """Machines that are wanted beyond all orders: ask for offers."""
    notes: tuple[str, ...] = ()


def held(listed: Sequence[Machine], busy: frozenset[str]) -> tuple[Machine, ...]:
    """The list, where one that is said to have failed and holds replicas runs: we see it work."""
    return tuple(
        msgspec.structs.replace(m, state="running")
        if m.state == "failed" and m.address in busy
        else m
        for m in listed
    )


def plan(book: Book, listed: Sequence[Machine], want: Want, bounds: Bounds, at_ms: int) -> Steps:
    """The next steps; orders for what is `new` are made by `orders_rule` once offers are known."""
    if want.machines >= 0:
        book = msgspec.structs.replace(book, wanted=want.machines)
    ends: list[tuple[str, str]] = []
    notes: list[str] = []
    book = _matched(book, listed, bounds, at_ms, ends)
    book = _strangers(book, listed, bounds, at_ms, ends)
    live = [i for i in book.intents if not i.ending_ms]
    missing = book.wanted - len(live) if book.wanted >= 0 else 0
    if missing < 0 and want.machines >= 0:
        book = _given_up(book, listed, want, -missing, at_ms)
        if not want.may_end:
            notes.append("its replicas still drain")
    orders, again = _again(book, bounds, at_ms)
    book = msgspec.structs.replace(book, intents=orders)
    ends += [(i.id, "no longer wanted") for i in again if i.ending_ms]
    book = _failed(book, listed, (bounds, at_ms), ends)
    late = [i for i in book.intents if i.ending_ms and at_ms - i.ending_ms > bounds.end_ms]
    if late:
        notes.append(f"{len(late)} still there after their end was asked for, and they cost money")
    return Steps(
        book,
        tuple(i for i in again if not i.ending_ms),
        tuple(end for end in ends if end[0]),  # an end without an id might be anybody's
        max(0, missing),
        tuple(notes),
    )


def _matched(
    book: Book, listed: Sequence[Machine], bounds: Bounds, at_ms: int,
    ends: list[tuple[str, str]],
) -> Book:  # fmt: skip
    """Orders and what is listed of them; those that came to nothing are dropped."""
    kept: list[Intent] = []
    short_until_ms, why = book.short_until_ms, book.why_short
    for intent in book.intents:
        mine = sorted(
            (m for m in listed if m.client_token == intent.token),
            key=lambda m: (m.state in GONE, m.id != intent.id, m.since_ms, m.id),
        )
        ends += [(m.id, "made twice for one order") for m in mine[1:] if m.state not in GONE]
        if mine and mine[0].state not in GONE:
            kept.append(msgspec.structs.replace(intent, id=mine[0].id, seen_ms=at_ms))
        elif mine:
            if not intent.ending_ms:
                short_until_ms, why = at_ms + bounds.cool_ms, _failure(mine[0])
        elif not _is_lost(intent, bounds, at_ms):
            kept.append(intent)
        elif not intent.id:
            short_until_ms, why = at_ms + bounds.cool_ms, f"order {intent.token} never came"
    return msgspec.structs.replace(
        book, intents=tuple(kept), short_until_ms=short_until_ms, why_short=why
    )


def _failure(machine: Machine) -> str:
    return f"machine {machine.id} failed" + (f": {machine.why}" if machine.why else "")


def _is_lost(intent: Intent, bounds: Bounds, at_ms: int) -> bool:
    """Whether an order that is not listed is over."""
    if intent.ending_ms and intent.id:
        return at_ms - intent.seen_ms > 2 * bounds.retry_ms
    if intent.id:
        return at_ms - intent.seen_ms > bounds.missing_ms
    return at_ms - intent.since_ms > bounds.create_ms


def _strangers(
    book: Book, listed: Sequence[Machine], bounds: Bounds, at_ms: int,
    ends: list[tuple[str, str]],
) -> Book:  # fmt: skip
    """Machines with our tag and no order: taken in where one is wanted, else ended after a while.
    Orders are lost with a disk, and come after they were given up."""
    known = {intent.token for intent in book.intents}
    here = [m for m in listed if m.client_token not in known and m.state not in GONE]
    intents = list(book.intents)
    live = sum(1 for i in intents if not i.ending_ms)
    strangers = {
        id_: times for id_, times in book.strangers.items()
        if at_ms - times[1] <= 2 * bounds.retry_ms and id_ not in {m.id for m in listed}
    }  # fmt: skip
    for machine in sorted(here, key=lambda m: (m.since_ms, m.id)):
        since_ms = min(book.strangers.get(machine.id, (at_ms, 0))[0], at_ms)
        is_of_use = machine.state != "ending" and machine.client_token not in known
        if live < book.wanted and is_of_use:
            live += 1
            known.add(machine.client_token)
            token, began_ms = machine.client_token, machine.since_ms or at_ms
            intents.append(Intent(token, began_ms, "", machine.id, at_ms, at_ms))
            continue
        if book.wanted < 0:
            since_ms = at_ms  # nothing was decided yet that it could be too many for
        strangers[machine.id] = since_ms, at_ms
        if at_ms - since_ms >= bounds.stranger_ms:
            ends.append((machine.id, "ours by its tag, and no order explains it"))
    return msgspec.structs.replace(book, intents=tuple(intents), strangers=strangers)


def _failed(
    book: Book, listed: Sequence[Machine], when: tuple[Bounds, int], ends: list[tuple[str, str]]
) -> Book:
    """Give back what failed as long as it is listed: its disk, or all of it, may still be paid."""
    bounds, at_ms = when
    if book.wanted < 0 or is_ahead(book.wait_until_ms, at_ms):
        return book
    failed = {}
    for machine in listed:
        if machine.state == "failed":
            asked_ms = book.failed.get(machine.id, 0)
            if abs(at_ms - asked_ms) >= bounds.retry_ms:
                asked_ms = at_ms
                ends.append((machine.id, "it failed, and may still cost money"))
            failed[machine.id] = asked_ms
    return msgspec.structs.replace(book, failed=failed)


def _given_up(book: Book, listed: Sequence[Machine], want: Want, count: int, at_ms: int) -> Book:
    """Mark the machines to end: those that are not there yet first, then those without replicas,
    newest first. One that holds replicas is left until they have drained."""
    by_id = {m.id: m for m in listed}

    def rank(intent: Intent) -> tuple[bool, bool, int]:
        machine = by_id.get(intent.id)
        is_up = machine is not None and machine.state == "running"
        is_busy = machine is not None and machine.address in want.busy
        return (is_up, is_busy, -intent.since_ms)

    going = sorted((i for i in book.intents if not i.ending_ms), key=rank)[:count]
    may = {i.token for i in going if want.may_end or not rank(i)[0]}
    may -= {i.token for i in going if rank(i)[1]}
    return msgspec.structs.replace(
        book,
        intents=tuple(
            msgspec.structs.replace(i, ending_ms=at_ms, asked_ms=0) if i.token in may else i
            for i in book.intents
        ),
    )


def _again(book: Book, bounds: Bounds, at_ms: int) -> tuple[tuple[Intent, ...], list[Intent]]:
    """All intents with the time of their last request, and those whose request is due."""
    kept, due = [], []
    for intent in book.intents:
        # An order that is to end and has no machine yet: if one comes, its token tells.
        is_idle = bool(intent.id) != bool(intent.ending_ms)
        is_asked = abs(at_ms - intent.asked_ms) < bounds.retry_ms
        if is_idle or is_asked or is_ahead(book.wait_until_ms, at_ms):
            kept.append(intent)
        else:
            kept.append(msgspec.structs.replace(intent, asked_ms=at_ms))
            due.append(kept[-1])
    return tuple(kept), due
