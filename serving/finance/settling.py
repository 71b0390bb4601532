"""Settlement: what paid each attempt, decided once and kept.

One writer at a time reads ended attempts whose parts do not add up to their money, splits them and
stores parts and counters in one transaction. Run again, or after a crash, it finds them settled; a
row that changed (a gateway's own word after `gateway_lost`) is taken back and split anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.finance import months, statements
from serving.finance.base import Database, Work
from serving.finance.grants import Counter, settled
from serving.finance.listing import closed, listed
from serving.finance.values import HOUR_MS, Burn, Grant, Spent

BATCH = 2_000
"""Attempts in one transaction: the drainer waits for it."""
LATE_MS = 26 * HOUR_MS
"""Until then work whose gateway is gone is settled (0107)."""
_MARK = "settled"


def settle(database: Database, now_ms: int, offset_ms: int, back_ms: int = LATE_MS) -> int:
    """Settle what ended since `back_ms` before the last settlement; the number of attempts."""
    count = 0
    while True:
        done = database.write(lambda at: _batch(at, now_ms, offset_ms, back_ms))
        count += done
        if done < BATCH:
            return count


def used(work: Database | Work) -> Counter:
    """Units that each grant paid, by period."""
    return {(row[0], row[1]): int(row[2]) for row in work.rows(statements.USED)}


def unsettle(at: Work, since_ms: int) -> None:
    """Take back everything that was settled of attempts ended since; the next `settle` does it
    anew."""
    for grant_id, period, units, micro in at.rows(statements.BURNS_SINCE, {"since_ms": since_ms}):
        _use(at, grant_id, period, -int(units), -int(micro))
    at.run(statements.DROP_BURNS_SINCE, {"since_ms": since_ms})
    marked_ms = _marked(at)
    if marked_ms > since_ms:
        at.run(statements.PUT_MARK, {"name": _MARK, "at_ms": since_ms})


def _batch(at: Work, now_ms: int, offset_ms: int, back_ms: int) -> int:
    shut = closed(at)
    open_ms = months.bounds(shut[-1], offset_ms)[1] if shut else 0
    since_ms = max(_marked(at) - back_ms, open_ms)
    values = {"since_ms": since_ms, "until_ms": now_ms, "limit": BATCH}
    spent = [_spent(row) for row in at.rows(statements.UNSETTLED, values)]
    for one in spent:
        _take_back(at, one)
    burns = settled(spent, listed(at, Grant), used(at), offset_ms)
    _store(at, burns)
    if len(spent) < BATCH:
        at.run(statements.PUT_MARK, {"name": _MARK, "at_ms": now_ms})
    return len(spent)


def _spent(row: Sequence[object]) -> Spent:
    return Spent(*row)  # type: ignore[arg-type]


def _marked(at: Work) -> int:
    rows = at.rows(statements.MARK, {"name": _MARK})
    return int(rows[0][0]) if rows else 0


def _take_back(at: Work, one: Spent) -> None:
    values = {"request_id": one.request_id, "attempt": one.attempt}
    for grant_id, period, units, micro in at.rows(statements.BURNS_OF, values):
        if grant_id:
            _use(at, grant_id, period, -units, -micro)
    at.run(statements.DROP_BURNS_OF, values)


def _store(at: Work, burns: Iterable[Burn]) -> None:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    rows = []
    for burn in burns:
        rows.append(burn._asdict())
        if burn.grant_id:
            units, micro = sums.get((burn.grant_id, burn.period), (0, 0))
            sums[burn.grant_id, burn.period] = (units + burn.units, micro + burn.micro)
    at.run_many(statements.PUT_BURN, rows)
    for (grant_id, period), (units, micro) in sorted(sums.items()):
        _use(at, grant_id, period, units, micro)


def _use(at: Work, grant_id: str, period: str, units: int, micro: int) -> None:
    values = {"grant_id": grant_id, "period": period, "units": units, "micro": micro}
    at.run(statements.USE, values)
