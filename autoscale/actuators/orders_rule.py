"""New orders for machines, within price, money and number, and what their answers mean. Pure.

Everything that may cost money counts: orders without a machine, machines that are ending, and those
that no order explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from autoscale.machines import Book, Bounds, Intent, Machine, Offer, ProviderError

BUSY_S, WAIT_S_MAX = 30.0, 3600.0


class Moment(msgspec.Struct, frozen=True):
    """When and as whom orders are made."""

    ms: int
    fence: int
    name: str
    """`ours(tags)`: client tokens begin with it."""


class Ordered(msgspec.Struct, frozen=True):
    """New orders within the bounds, and why there are no more."""

    book: Book
    orders: tuple[Intent, ...] = ()
    why_not: str = ""


def own(listed: Sequence[Machine], book: Book, name: str) -> tuple[tuple[Machine, ...], int]:
    """(those that are ours by their tokens, how many are not). A list may hold a whole account, and
    one machine twice; what we did not order is not ours to count, keep or end."""
    tokens = {intent.token for intent in book.intents}
    mine = [
        m for m in listed
        if m.client_token.startswith(name) or m.client_token in tokens
        or (m.id and m.id in book.failed)
    ]  # fmt: skip
    by_id = {m.id: m for m in sorted(mine, key=lambda m: m.state not in ("ended", "failed"))}
    found = (*(m for m in mine if not m.id), *(m for m in by_id.values() if m.id))
    return found, len(listed) - len(mine)


def ordered(
    book: Book, count: int, market: tuple[Sequence[Offer], Sequence[Machine]], bounds: Bounds,
    at: Moment,
) -> Ordered:  # fmt: skip
    """Up to `count` orders at the cheapest offers. `market`: what is offered, what is listed."""
    offers, listed = market
    orders: list[Intent] = []
    for offer in _places(offers, count):
        if why := _refusal(book, offer, listed, bounds):
            return Ordered(book, tuple(orders), why)
        serial = book.serial + 1
        order = Intent(f"{at.name}{at.fence}-{serial}", at.ms, offer.id, asked_ms=at.ms)
        orders.append(order)
        intents = (*book.intents, order)
        book = msgspec.structs.replace(book, serial=serial, intents=intents)
    why = "" if len(orders) == count else "nothing more is offered"
    return Ordered(book, tuple(orders), why)


def _places(offers: Sequence[Offer], count: int) -> list[Offer]:
    """One offer for each machine, the cheapest first, none more often than it is available."""
    found: list[Offer] = []
    offers = [offer for offer in offers if offer.hour_micro >= 0]  # below: no price at all
    for offer in sorted(offers, key=lambda o: (o.hour_micro, o.id)):
        left = count - len(found)
        found += [offer] * (left if offer.available is None else min(left, offer.available))
    return found


def _refusal(book: Book, offer: Offer, listed: Sequence[Machine], bounds: Bounds) -> str:
    """Why one more at this offer would be too much; empty if it is not."""
    if offer.hour_micro > bounds.price_micro_max:
        now, most = _money(offer.hour_micro), _money(bounds.price_micro_max)
        return f"the cheapest left costs {now}/h, and at most {most}/h was decided with"
    machines, money = counted(book, listed, bounds)
    if machines >= bounds.machines_max:
        return f"max_rented is {bounds.machines_max}"
    hour_micro = money + offer.hour_micro
    if bounds.hour_micro_max is not None and hour_micro > bounds.hour_micro_max:
        most = _money(bounds.hour_micro_max)
        return f"another would make {_money(hour_micro)}/h, hour_max is {most}"
    return ""


def closed(book: Book, at_ms: int) -> str:
    """Why no new machine is asked for now; empty if one may be."""
    if is_ahead(book.wait_until_ms, at_ms):
        return "the provider asked us to wait"
    if is_ahead(book.short_until_ms, at_ms):
        return f"asked again in {(book.short_until_ms - at_ms) / 1e3:.0f} s: {book.why_short}"
    return ""


def is_ahead(until_ms: int, at_ms: int) -> bool:
    """Whether a time is still to come. One further off than we ever wait was set before the clock
    was put back."""
    return 0 < until_ms - at_ms <= WAIT_S_MAX * 1e3


def counted(book: Book, listed: Sequence[Machine], bounds: Bounds) -> tuple[int, int]:
    """(machines, money an hour) of all that may cost some: what is listed with our tag, and what
    is not listed (yet, or just now)."""
    here = [m for m in listed if m.state not in ("ended", "failed")]
    known = {m.client_token for m in listed} | {m.id for m in listed}
    unseen = sum(1 for i in book.intents if i.token not in known and i.id not in known)
    unseen += sum(1 for id_ in book.strangers if id_ not in known)
    prices = [
        bounds.price_micro if m.hour_micro is None or m.hour_micro < 0 else m.hour_micro
        for m in here
    ]
    return len(here) + unseen, sum(prices) + unseen * bounds.price_micro


def answered(
    book: Book, token: str, result: Machine | ProviderError, bounds: Bounds, at_ms: int
) -> Book:
    """The book after a create ended. What was surely not made is forgotten; what may have been
    made (no answer, an answer without an id) stays, and is asked for again under its token."""
    mine = next((i for i in book.intents if i.token == token), None)
    if mine is None:
        return book
    others = tuple(i for i in book.intents if i.token != token)
    if isinstance(result, Machine) and result.client_token != token:
        return book  # of another order: its machine is not ours to end; ours, `list` will tell
    if isinstance(result, Machine):
        told = msgspec.structs.replace(mine, id=result.id or mine.id, seen_ms=at_ms)
        return msgspec.structs.replace(book, intents=(*others, told))
    book = waited(book, result, at_ms)
    is_first = mine.asked_ms == mine.since_ms  # else an earlier request may have been carried out
    if result.kind in ("short", "refused") and is_first:
        return msgspec.structs.replace(
            book, intents=others, short_until_ms=at_ms + bounds.cool_ms,
            why_short=f"{result.kind}: {result}"[:200],
        )  # fmt: skip
    return book


def waited(book: Book, error: ProviderError, at_ms: int) -> Book:
    """The book after a refusal that names a time, or a 429."""
    wait_s = error.retry_after_s or (BUSY_S if error.kind == "busy" else 0.0)
    until_ms = at_ms + round(min(wait_s, WAIT_S_MAX) * 1e3)
    return msgspec.structs.replace(book, wait_until_ms=max(book.wait_until_ms, until_ms))


def _money(micro: int) -> str:
    return f"{micro / 1e6:.2f}"
