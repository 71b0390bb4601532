"""`python -m benchmarks.budgets`: what budgets cost a call on the request path, in microseconds.

Rounds of the same work; the median round and the spread are printed. `none` is a gateway without
budgets, `elsewhere` one whose budgets do not touch the call, `N touched` the whole of look, bound,
reserve and settle for a call that N budgets touch.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from serving.budgets.base import Told
from serving.budgets.funds import Funds
from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.records import (
    Call,
    Caller,
    Charge,
    DataLabel,
    FleetView,
    LatencyClass,
    Offering,
    Outcome,
    Policy,
    Price,
    Surface,
    Ticket,
    Usage,
)
from serving.rows import AttemptEnd

ROUNDS, TURNS = 30, 5_000
NOW_MS = 1_795_600_000_000
OFFERING = Offering(
    "alpha/big", "alpha", "m", "big", DataLabel("us", "a"),
    Price("USD", 1_700_000, 5_300_000, 300_000, "", ""), frozenset({Surface.CHAT}), 65_536, 1.0,
)  # fmt: skip
VIEW = FleetView(offerings={"m": (OFFERING,)})
CALLER = Caller("key", "acme", "shop", Policy(), "chat")
CALL = Call(
    request_id="0" * 32, surface=Surface.CHAT, tenant="acme", model="m", alias="m", fields={},
    received_s=0.0, received_ms=NOW_MS, first_token_by_s=5.0, complete_by_s=60.0,
    latency_class=LatencyClass.INTERACTIVE, prompt=b"", size=500, prompt_tokens=150, max_tokens=256,
    stream=True, wants_usage=False, affinity=0,
)  # fmt: skip
TICKET = Ticket("0" * 32, 1, OFFERING, "overflow", 0.0, 150, 256, 0.0, True)
ROW = AttemptEnd(
    "0" * 32, 1, NOW_MS, Outcome.OK, "", Usage(120, 200), Charge("USD", 1264), 300
)  # fmt: skip


def funds(*tenants: str) -> Funds:
    """One budget a tenant named, each with money enough."""
    made = Funds(BudgetSettings(), {"m": 65_536}, lambda: NOW_MS)
    rows = [
        Budget(id=f"b{n}", tenant=name, currency="CNY", limit_micro=10**15, created_by="me",
               created_ms=0)
        for n, name in enumerate(tenants)
    ]  # fmt: skip
    made.take({row.id: row for row in rows})
    for (id_, start_ms), purse in made.purses.items():
        purse.told(Told(id_, start_ms, 10**15, 0, 0))
    return made


def one(purse: Funds) -> Callable[[], None]:
    """A call's way through budgets, as the pipeline asks."""

    def run() -> None:
        if not purse.is_any:
            return
        funding = purse.look(CALL, CALLER)
        if funding is None:
            return
        purse.effects(funding)
        call = purse.bound(CALL, funding, VIEW)
        purse.reserve(call, funding, TICKET)
        purse.settle(funding, ROW, call, TICKET)

    return run


def main() -> int:
    """Entry point."""
    cases = {
        "none": funds(), "elsewhere": funds("other", "another"), "1 touched": funds("acme"),
        "3 touched": funds("acme", "acme", "acme"),
    }  # fmt: skip
    for name, purse in cases.items():
        run, rounds = one(purse), []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            for _ in range(TURNS):
                run()
            rounds.append((time.perf_counter() - began_s) / TURNS * 1e6)
        low, mid, high = min(rounds), statistics.median(rounds), max(rounds)
        print(f"{name:<10} {mid:7.3f} us  ({low:.3f} to {high:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
