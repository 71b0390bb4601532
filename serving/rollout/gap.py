"""What a change of a model costs where both cannot run at once: for as long as the new engine
loads, nobody of ours answers, and what may leave goes to third parties. Pure.

Each key's usual calls are placed as routing would place them with no engine there, by the same
rules; nothing here decides on its own who may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from serving.records import Burst, Offering, Placement, Refuse, Wait
from serving.rollout.counts import Load

HOUR_S = 3600.0
MTOK = 1_000_000
KEPT_MAX = 50


class Kept(NamedTuple):
    """Calls that cannot leave."""

    tenant: str
    key: str
    calls: float
    """In the gap."""
    what: str
    """`wait` or `refuse`."""
    why: str


class Gap(NamedTuple):
    """What the gap will be like, by the load of the time that was looked at."""

    gap_s: float
    calls: float
    """In the gap, as a mean."""
    external_share: float
    """Of those calls."""
    usd_per_hour: float
    """While it lasts; of offerings without a rate to dollars `unpriced` tells."""
    usd: float
    """In the whole gap."""
    waiting: float
    refused: float
    """Calls in the gap."""
    targets: dict[str, float]
    """Calls in the gap, by third party."""
    unpriced: tuple[str, ...]
    kept: tuple[Kept, ...]
    """The largest first, at most `KEPT_MAX`."""


def gap(
    found: Iterable[Load], place: Callable[[Load], Placement], gap_s: float, window_s: float
) -> Gap:
    """`found`: the calls of the last `window_s`; `place`: where one of them would go."""
    total = out = money = waiting = refused = 0.0
    targets: dict[str, float] = {}
    unpriced: set[str] = set()
    kept: list[Kept] = []
    for one in found:
        calls = one.calls * gap_s / window_s
        total += calls
        placed = place(one)
        if isinstance(placed, Burst):
            out += calls
            offering = placed.target
            targets[offering.id] = targets.get(offering.id, 0.0) + calls
            usd = _usd(one, offering)
            if usd is None:
                unpriced.add(offering.id)
            money += (usd or 0.0) * HOUR_S / window_s
        elif isinstance(placed, Wait | Refuse):
            is_wait = isinstance(placed, Wait)
            waiting += calls if is_wait else 0.0
            refused += 0.0 if is_wait else calls
            why = placed.reason if isinstance(placed, Wait) else placed.message
            kept.append(Kept(one.tenant, one.key_id, calls, "wait" if is_wait else "refuse", why))
    kept.sort(key=lambda row: (-row.calls, row.tenant, row.key))
    share = out / total if total else 0.0
    return Gap(gap_s, total, share, money, money * gap_s / HOUR_S, waiting, refused, targets,
               tuple(sorted(unpriced)), tuple(kept[:KEPT_MAX]))  # fmt: skip


def _usd(load: Load, offering: Offering) -> float | None:
    """What all the calls of a load cost there, in US dollars; None without a rate."""
    if not offering.exchange:
        return None
    price = offering.price
    micro = (
        load.prompt_tokens * price.input_micro_per_mtok
        + load.completion_tokens * price.output_micro_per_mtok
    ) / MTOK
    return micro * offering.exchange / 1e6
