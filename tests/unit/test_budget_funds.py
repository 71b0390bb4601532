"""What a call may cost: which budgets it touches, what they close, what is reserved and settled."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from models.hearing import Hearing
from serving import accounting
from serving.attempt import Attempt
from serving.budgets.base import Told
from serving.budgets.funds import Funding, Funds
from serving.budgets.learnt import FIRST_GUESS
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

NOW_MS = 1_795_600_000_000


def offering(provider: str, micro: int, currency: str = "CNY") -> Offering:
    """Its input and output tokens cost so many micro-units each."""
    price = Price(currency, micro * 1_000_000, micro * 1_000_000, micro, "", "")
    return Offering(
        f"{provider}/big", provider, "m", "big", DataLabel("us", "x"), price,
        frozenset({Surface.CHAT}), 65_536, 1.0,
    )  # fmt: skip


CHEAP, DEAR, NAMELESS = offering("cheap", 1), offering("dear", 10), offering("nameless", 1, "")
VIEW = FleetView(offerings={"m": (CHEAP, DEAR, NAMELESS)})
CALLER = Caller("key", "acme", "shop", Policy(), "chat")
CALL = Call(
    request_id="0" * 32, surface=Surface.CHAT, tenant="acme", model="m", alias="m", fields={},
    received_s=0.0, received_ms=NOW_MS, first_token_by_s=5.0, complete_by_s=60.0,
    latency_class=LatencyClass.INTERACTIVE, prompt=b"", size=500, prompt_tokens=50, max_tokens=50,
    stream=True, wants_usage=False, affinity=0,
)  # fmt: skip


def funds(free: int, *rows: dict[str, Any], **settings: Any) -> Funds:
    """Budgets with so much leased each."""
    made = Funds(BudgetSettings(**settings), {"m": 2048}, lambda: NOW_MS)
    budgets = [
        Budget.model_validate(
            {"id": f"b{n}", "limit_micro": 10**6, "created_by": "me", "created_ms": 0} | row
        )
        for n, row in enumerate(rows)
    ]
    made.take({b.id: b for b in budgets})
    for (id_, start_ms), purse in made.purses.items():
        purse.told(Told(id_, start_ms, free, 0, 0))
    return made


def looked(made: Funds, call: Call = CALL) -> Funding:
    found = made.look(call, CALLER)
    assert found is not None
    return found


def closed(made: Funds, call: Call = CALL, *, is_local: bool = False) -> list[str]:
    local_by = next(iter(made.in_force.values())) if is_local else None
    bound = made.bound(call, looked(made, call), VIEW, local_by)
    return sorted(id_.partition("/")[0] for id_ in bound.unaffordable)


@pytest.mark.parametrize(
    ("free", "out"),
    [(1000, ["nameless"]), (999, ["dear", "nameless"]), (99, ["cheap", "dear", "nameless"])],
)
def test_offerings_are_closed_whose_most_does_not_fit(free: int, out: list[str]) -> None:
    assert closed(funds(free, {})) == out


def test_every_budget_must_pay_and_a_provider_s_only_for_its_own() -> None:
    assert closed(funds(100, {}, {"provider": "dear"})) == ["dear", "nameless"]
    assert closed(funds(100, {"kind": "soft"}, {"provider": "dear"})) == ["dear"]
    ladder = [{"at_share": 0.0, "action": "local_only"}]
    assert closed(funds(1000, {"provider": "cheap", "ladder": ladder})) == ["cheap"]
    assert closed(funds(10**6, {}), is_local=True) == ["cheap", "dear", "nameless"]


def test_several_answers_cost_several_times() -> None:
    assert closed(funds(1000, {}), replace(CALL, n=19)) == ["dear", "nameless"]


@pytest.mark.parametrize(("free", "is_paid"), [(99, False), (100, True)])
def test_sound_reserves_the_least_that_its_vendor_bills(free: int, is_paid: bool) -> None:
    """A second of sound, where ten are billed at a micro-unit a tenth."""
    hears = Hearing.model_validate({"by": "time", "bytes_max": 1 << 20, "seconds_min": 10})
    row = replace(CHEAP, hearing=hears)
    call = replace(CALL, surface=Surface.TRANSCRIPTION, prompt_tokens=10, max_tokens=0)
    made = funds(free, {})
    funding = looked(made, call)
    bound = made.bound(call, funding, FleetView(offerings={"m": (row,)}))
    assert (row.id not in bound.unaffordable) == is_paid
    ticket = Ticket("r", 1, row, "x", 0.0, 10, 0, 0.0, True)
    made.reserve(call, funding, ticket)
    assert funding.held[0].micro == 100
    begun = accounting.begin(call, CALLER, ticket, NOW_MS)
    assert accounting.lost(begun, NOW_MS)[0].charge.micro == 100, "its gateway died meanwhile"
    attempt = Attempt(ticket, 0.0, 0)
    attempt.sent = True
    assert attempt.counted(call)[0].prompt_tokens == 100, "its vendor told nothing"


def test_load_tests_and_token_counts_touch_no_budget() -> None:
    made = funds(0, {})
    assert made.look(replace(CALL, surface=Surface.TOKENIZE), CALLER) is None
    assert made.look(CALL, replace(CALLER, policy=Policy(is_load_test=True))) is None
    assert funds(0, {"tenant": "other"}).look(CALL, CALLER) is None


def test_an_answer_without_a_limit_is_bounded_by_the_model_s_context() -> None:
    made = funds(10**6, {})
    bare = replace(CALL, max_tokens=None)
    assert FIRST_GUESS > 2048
    assert made.bound(bare, looked(made), VIEW).answer_max == 2048
    assert made.bound(CALL, looked(made), VIEW).answer_max == 0


def test_vectors_have_no_answer_to_bound() -> None:
    made = funds(60, {})
    vectors = replace(CALL, max_tokens=None, surface=Surface.EMBEDDINGS)
    bound = made.bound(vectors, looked(made), VIEW)
    assert (bound.answer_max, CHEAP.id in bound.unaffordable) == (0, False)


def tried(made: Funds, target: Offering, charge: Charge) -> None:
    """One attempt, from bound to end."""
    funding = looked(made)
    call = made.bound(CALL, funding, VIEW)
    ticket = Ticket("0" * 32, 1, target, "x", 0.0, 50, 50, 0.0, True)
    made.reserve(call, funding, ticket)
    assert all(one.purse.reserved == one.micro for one in funding.held)
    row = AttemptEnd("0" * 32, 1, NOW_MS, Outcome.OK, "", Usage(40, 30), charge, 1)
    made.settle(funding, row, call, ticket)
    assert not funding.held


def test_what_an_attempt_cost_takes_the_place_of_what_it_reserved() -> None:
    made = funds(5000, {}, {"provider": "dear"}, {"currency": "USD"})
    tried(made, CHEAP, Charge("CNY", 70))
    spent = [(p.spent, p.reserved) for p in made.purses.values()]
    assert spent == [(70, 0), (0, 0), (10, 0)]


def test_a_charge_that_cannot_be_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    made = funds(5000, {})
    tried(made, CHEAP, Charge("CNY", 1 << 60))
    (purse,) = made.purses.values()
    assert (purse.spent, purse.reserved) == (100, 0)
    assert [r.getMessage() for r in caplog.records] == ["budget_charge_implausible"]


def test_a_slice_that_runs_low_is_told_of() -> None:
    made = funds(5000, {})
    told = []
    made.on_low = lambda: told.append(1)
    tried(made, CHEAP, Charge("CNY", 70))
    assert not told
    tried(made, DEAR, Charge("CNY", 4000))
    assert told
