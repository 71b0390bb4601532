"""What was spent on what: the same answer from every ledger."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.ledger.base import Ledger
from serving.ledger.costs import DAY_MS, Answer, Cost, Money, Question
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record, RequestEnd

OWN, API = "m@10.0.0.1:8000", "openai/gpt"
EVER = (0, 1 << 60)


def attempt(
    request_id: str, number: int, target: str, usage: Usage, charge: Charge, at_ms: int = 100
) -> list[Record]:
    currency = "" if target == OWN else "USD"
    return [
        AttemptBegin(
            request_id, number, 10, 5, "acme", "shop", "k", "chat", "m", "interactive", target,
            False, "why", 7, 8, currency, 0, 0,
        ),
        AttemptEnd(request_id, number, at_ms, "ok", "", usage, charge, 4),
    ]  # fmt: skip


def request(request_id: str, target: str, attempts: int, usage: Usage) -> RequestEnd:
    return RequestEnd(
        request_id, 5, 100, "acme", "shop", "k", "chat", "m", "interactive", "ok", 200, "", "why",
        target, attempts, 1, 4, usage,
    )  # fmt: skip


def served(
    request_id: str, target: str, usage: Usage, charge: Charge, at_ms: int = 100
) -> list[Record]:
    told = request(request_id, target, 1, usage)
    return [*attempt(request_id, 1, target, usage, charge, at_ms), told]


def ask(ledger: Ledger, *by: str, **more: int) -> Answer:
    asked = {"since_ms": EVER[0], "until_ms": EVER[1]} | more
    return ledger.costs(Question(by, **asked))


def keys(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    return [cost.key for cost in costs]


def test_nothing_spent_is_no_row(ledger: Ledger) -> None:
    ledger.apply([request("refused", "", 0, Usage())])
    assert ask(ledger, "tenant") == ask(ledger) == Answer((), False)


def test_money_is_the_attempts_and_a_request_counts_once_at_its_last(ledger: Ledger) -> None:
    """A call that was paid for at the API, failed, and was then served at home."""
    first, last = Usage(100, 10, 40, 3), Usage(100, 50, is_estimated=True)
    ledger.apply(
        [
            *attempt("a", 1, API, first, Charge("USD", 700)),
            *attempt("a", 2, OWN, last, Charge()),
            request("a", OWN, 2, last),
        ]
    )
    both = Cost(
        ("acme", "m"), (Money("USD", "cash", 700),), 2, 1, 200, 60, 40, 3, 100, 50, 1, 1, 100, 50
    )
    assert ask(ledger, "tenant", "model") == Answer((both,), False)
    by_tier = {cost.key: cost for cost in ask(ledger, "tier").costs}
    assert by_tier["api",].requests == 0
    assert by_tier["api",].money == (Money("USD", "cash", 700),)
    assert by_tier["own",].requests == by_tier["own",].own_requests == 1
    assert by_tier["own",].money == ()


def test_shares_and_rates_follow_from_the_sums(ledger: Ledger) -> None:
    ledger.apply(
        [
            *served("a", OWN, Usage(600, 200), Charge()),
            *served("b", OWN, Usage(0, 100), Charge()),
            *served("c", API, Usage(90, 10), Charge("USD", 333)),
        ]
    )
    (total,) = ask(ledger).costs
    assert total.own_request_share == 2 / 3
    assert total.own_token_share == 0.9
    assert total.tokens_per_request == pytest.approx(1000 / 3)
    assert total.micro_per_mtok(total.money[0]) == 333_000
    (api,) = [cost for cost in ask(ledger, "target").costs if cost.key == (API,)]
    assert api.own_request_share == api.own_token_share == 0.0
    assert api.micro_per_mtok(api.money[0]) == 3_330_000


def test_a_group_without_tokens_or_requests_has_no_rates(ledger: Ledger) -> None:
    ledger.apply(attempt("a", 1, API, Usage(), Charge("USD", 5)))
    (total,) = ask(ledger).costs
    rates = (total.own_request_share, total.own_token_share, total.tokens_per_request)
    assert rates == (None, None, None)
    assert total.micro_per_mtok(total.money[0]) is None


def test_currencies_stay_apart(ledger: Ledger) -> None:
    ledger.apply(
        [
            *served("a", API, Usage(1, 1), Charge("USD", 10)),
            *served("b", API, Usage(2, 2), Charge("CNY", 70)),
            *served("c", API, Usage(3, 3), Charge("CNY", 7)),
        ]
    )
    (total,) = ask(ledger, "tenant").costs
    assert total.money == (Money("CNY", "cash", 77), Money("USD", "cash", 10))
    assert (total.requests, total.tokens) == (3, 12)


def test_days_begin_where_the_reader_lives(ledger: Ledger) -> None:
    hour_ms = DAY_MS // 24
    for name, at_ms in (("late", DAY_MS - 1), ("early", DAY_MS - 9 * hour_ms)):
        ledger.apply(served(name, API, Usage(1, 1), Charge("USD", 1), at_ms))
    assert keys(ask(ledger, "day").costs) == [("1970-01-01",)]
    there = ask(ledger, "day", offset_ms=8 * hour_ms).costs
    assert keys(there) == [("1970-01-01",), ("1970-01-02",)]
    assert ask(ledger, "day", until_ms=DAY_MS - 1).costs[0].requests == 1
    assert ask(ledger, "day", since_ms=DAY_MS).costs == ()


def test_the_dearest_come_first_and_a_cut_is_told(ledger: Ledger) -> None:
    for number in range(5):
        charge = Charge("USD", number)
        ledger.apply(served(f"r{number}", f"p/m{number}", Usage(1, 1), charge))
    whole = ask(ledger, "target", rows_max=5)
    assert keys(whole.costs) == [(f"p/m{number}",) for number in (4, 3, 2, 1, 0)]
    assert not whole.is_cut
    cut = ask(ledger, "target", rows_max=2)
    assert cut == Answer(whole.costs[:2], True)


def test_absurd_counts_of_a_target_spoil_no_other_answer(ledger: Ledger) -> None:
    ledger.apply(served("a", API, Usage(1 << 62, 5), Charge("USD", 5)))
    ledger.apply(served("b", "other/m", Usage(1, 1), Charge("USD", 7)))
    assert [c.money[0].micro for c in ask(ledger, "target").costs] == [7, 5]


@pytest.mark.parametrize(
    ("by", "rows_max"),
    [(("weather",), 9), (("tenant", "tenant"), 9), (("tenant; --",), 9), (("day",), 0)],
)
def test_a_question_that_makes_no_sense_is_refused(by: tuple[str, ...], rows_max: int) -> None:
    with pytest.raises(ValueError):
        Question(by, 0, 1, rows_max=rows_max)
