"""One request in sentences, and the day's money: from a ledger with rows of every kind."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ballast import books
from ballast.books import amount, amounts
from ballast.budgets_cli import units
from ballast.cli import app
from ballast.digits import rounded
from ballast.messages import entries
from ballast.problem import ProblemError
from serving import errors
from serving.errors import TABLE, Kind
from serving.ledger.base import LedgerNewer, LedgerUnavailable
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd
from serving.settings import Settings

AT_MS = 1_790_000_000_000
API, OWN = "deepseek/flash", "m@127.0.0.1:30000"


def begin(number: int, attempt: int, target: str, reason: str) -> AttemptBegin:
    is_api = target == API
    price = ("USD", 300_000, 1_200_000) if is_api else ("", 0, 0)
    return AttemptBegin(
        f"{number:032x}", attempt, AT_MS, AT_MS, "acme", "web", "key1", "chat", "m", "patient",
        target, is_api, reason, 10, 20, *price,
    )  # fmt: skip


def end(number: int, attempt: int, outcome: str = "ok", error: str = "", **more: Any) -> AttemptEnd:
    usage, charge = more.get("usage", Usage(12, 34)), more.get("charge", Charge())
    first_ms = 5 if outcome == "ok" else -1
    return AttemptEnd(
        f"{number:032x}", attempt, AT_MS + 90, outcome, error, usage, charge, first_ms
    )


def intent(number: int, attempt: int) -> EgressIntent:
    return EgressIntent(
        f"{number:032x}", attempt, AT_MS, "acme", 1, "named:cn", "cn", "deepseek", "flash"
    )


def request(number: int, reason: str, target: str = "", attempts: int = 0, **changes: Any) -> Any:
    row = RequestEnd(
        f"{number:032x}", AT_MS, AT_MS + 12_345, "acme", "web", "key1", "chat", "m", "patient",
        "ok", 200, "", reason, target, attempts, 0, 7, Usage(12, 34), "secret hash",
    )  # fmt: skip
    return msgspec.structs.replace(row, **changes)


ROWS: tuple[Record, ...] = (
    begin(1, 1, OWN, "local"), end(1, 1), request(1, "local", OWN, 1, queue_ms=250),
    begin(2, 1, OWN, "local"), end(2, 1, "upstream_error", "connect", usage=Usage()),
    begin(2, 2, API, "overflow:retry"), intent(2, 2),
    end(2, 2, usage=Usage(12, 34, 3, 2), charge=Charge("USD", 44)),
    request(2, "overflow:retry", API, 2),
    request(3, "loading", outcome="refused", status=503, code="engine_loading", first_token_ms=-1),
    request(4, "", outcome="caller_error", status=404, code="model_not_found", first_token_ms=-1),
    begin(5, 1, API, "overflow:full"), intent(5, 1),
    end(5, 1, "gateway_lost", "gateway_lost", usage=Usage(9, 9, is_estimated=True),
        charge=Charge("USD", 14)),
    request(5, "overflow:full", API, 1, outcome="gateway_lost", status=0, code="gateway_lost"),
    begin(6, 1, OWN, "local"),
    request(7, "replay"),
    request(9, "budget", outcome="refused", status=429, code="budget_exceeded", first_token_ms=-1),
    request(8, "a new reason", OWN, 1, outcome="a new outcome"),
)  # fmt: skip
TOLD = {
    1: [
        "was answered (HTTP 200).", "Key key1 of tenant acme (project web) called chat",
        "2026-09-21 14:13:20 UTC, in class patient",
        f"It went to {OWN}, an engine of ours, because it had room",
        "held 250 ms", "first content came 7 ms after the call", "over after 12.3 s",
        "No charge (an engine of ours is paid by the hour) for 12 + 34 tokens.",
    ],
    2: [
        f"To {OWN}, an engine of ours, because", "ended as upstream_error: no connection to it",
        "No tokens, no charge: paid by the hour",
        f"To {API}, an API in cn, because what was tried before it had failed",
        "(named:cn) allows cn; the intent to send to deepseek was on the disk",
        "12 prompt (3 cached) + 34 completion tokens (2 reasoning), USD 0.000044 at USD 0.30 per",
        "cost USD 0.000044 for",
    ],
    3: ["was refused (HTTP 503)", "sent nowhere, because the engine was loading", "cost Nothing."],
    4: ["wrong in itself (HTTP 404)", "because there is no such model here (model_not_found)"],
    5: ["was under way when its gateway died", "tokens, estimated, USD 0.000014"],
    6: ["is under way, or its gateway died", "It has not ended."],
    7: ["answer of an earlier call that had the same Idempotency-Key", "nothing billed"],
    8: ["a new outcome (HTTP 200)", "because a new reason (a new reason)"],
    9: ["because what was left of a budget did not pay for it", "(budget_exceeded, budget)"],
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A state folder with a ledger and no gateway."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("BALLAST_GATEWAY__OPS_PORT", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    ledger = SqliteLedger.open(tmp_path / "ballast" / "ledger.sqlite")
    ledger.apply(ROWS)
    ledger.close()
    return Settings(state_dir=tmp_path / "ballast")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("number", TOLD)
def test_a_request_is_told_in_sentences_without_a_gateway(number: int) -> None:
    code, told = run("explain", f"{number:032x}")
    assert code == 0
    for words in TOLD[number]:
        assert words in told


@pytest.mark.usefixtures("settings")
def test_the_latest_request_is_told_when_no_id_is_given() -> None:
    assert f"{9:032x}" in run("explain")[1]


@pytest.mark.usefixtures("settings")
def test_json_holds_the_decision_each_try_and_the_cost_but_no_hash_of_what_was_sent() -> None:
    code, output = run("explain", "--json", f"{2:032x}")
    assert code == 0
    found = msgspec.json.decode(output)
    assert (found["reason"], found["total_ms"], found["is_booked"]) == (
        "overflow:retry",
        12345,
        True,
    )
    assert [t["end"]["outcome"] for t in found["tries"]] == ["upstream_error", "ok"]
    assert found["tries"][1]["intent"]["jurisdiction"] == "cn"
    assert found["cost_micro"] == {"USD": 44}
    assert "secret hash" not in output


@pytest.mark.usefixtures("settings")
def test_an_unknown_id_names_the_ledger_and_the_silent_gateway() -> None:
    code, output = run("explain", "f" * 32)
    assert code == 1
    assert "ledger.sqlite, and nothing answers at 127.0.0.1:1" in output


def test_every_closed_name_has_its_words() -> None:
    assert _group("outcome") == set(Outcome)
    assert set(Kind) <= _group("error")
    assert _group("code") == (set(TABLE) - OF_THE_DESK) | set(errors.TOLD.values()), (
        "clients get these"
    )
    assert not {"ok", ""} & _group("reason")


OF_THE_DESK = {"conflict", "role_required", "not_found", "method_not_allowed", "directory_away",
               "quality_away", "reviews_away", "batches_away", "ledger_away",
               "identity_away"}  # fmt: skip
"""Codes of the admin API and of routes, which leave no row to explain."""


def _group(name: str) -> set[str]:
    found = (key.split(".", 2) for key in entries("explain") if key.count(".") > 1)
    return {member for _, group, member in found if group == name}


def test_money_is_summed_by_target_and_currency(settings: Settings) -> None:
    found = books.spent(settings, AT_MS + 1000)
    api = {"target": API, "currency": "USD", "attempts": 2, "estimated": 1}
    own = {"target": OWN, "currency": "", "attempts": 2, "estimated": 0}
    assert found["rows"] == [
        own | {"prompt_tokens": 12, "completion_tokens": 34, "micro": 0},
        api | {"prompt_tokens": 21, "completion_tokens": 43, "micro": 58},
    ]
    assert books.spent(settings, AT_MS + 2 * books.DAY_MS)["rows"] == []


def test_a_sum_looks_at_so_many_tries_and_no_more(settings: Settings) -> None:
    with books.opened(settings) as ledger:
        assert ledger.latest_since_ms(100) == 0
        since_ms = ledger.latest_since_ms(1)
        assert sum(total.attempts for total in ledger.totals(since_ms)) <= 1


def test_a_row_that_has_not_come_is_waited_for_and_not_for_long(settings: Settings) -> None:
    found = books.find(settings, f"{6:032x}", wait_s=0.2)
    assert found.row is None
    assert len(found.attempts) == 1


def test_reading_creates_and_changes_nothing(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(LedgerUnavailable):
        SqliteLedger.open_to_read(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    with books.opened(settings) as ledger, pytest.raises(LedgerUnavailable, match="readonly"):
        ledger.forget("x")
    with pytest.raises(ProblemError, match="no ledger"), books.opened(Settings(state_dir=tmp_path)):
        raise AssertionError("opened")


def test_a_ledger_of_a_newer_version_is_not_read(settings: Settings) -> None:
    path = settings.state_dir / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerNewer):
        SqliteLedger.open_to_read(path)


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "USD 0.00"), (17, "USD 0.000017"), (1_500_000, "USD 1.50"), (-2, "USD -0.000002"),
     (1_234_567_890_123, "USD 1,234,567.890123")],
)  # fmt: skip
def test_money_is_written_exactly(micro: int, text: str) -> None:
    assert amount("USD", micro) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.0001234, "0.000123"), (0.5, "0.50"), (0.054, "0.054"), (12.345, "12.35"),
     (-0.0004, "-0.0004"), (1e-9, "0.000000001"), (4321.0, "4,321.00")],
)  # fmt: skip
def test_a_small_amount_does_not_read_as_nothing(value: float, text: str) -> None:
    assert rounded(value) == text


def test_a_budget_of_a_ten_thousandth_is_shown_whole() -> None:
    assert units(100, "CNY") == "0.0001 CNY"
    assert units(100_000_000, "CNY") == "100.00 CNY"


def test_currencies_are_never_added_up() -> None:
    assert amounts({"USD": 10, "CNY": 2_000_000}) == "CNY 2.00 + USD 0.00001"
