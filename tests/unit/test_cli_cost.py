"""`ballast cost`: from flags to a period, from rows to words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ballast.cli import app
from ballast.cost import DAYS_MAX, Wish, collect, question
from ballast.problem import ProblemError
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import Settings

NOW_S = datetime(2026, 11, 25, 20, 30, tzinfo=UTC).timestamp()
TODAY_MS = int(NOW_S * 1000)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")


def test_the_period_is_the_last_days_with_today() -> None:
    since, until, asked = question(Wish(days=7), NOW_S)
    assert (since, until) == (date(2026, 11, 19), date(2026, 11, 26))
    assert asked.until_ms - asked.since_ms == 7 * 86_400_000
    assert asked.since_ms % 86_400_000 == 0
    assert asked.by == ("tenant", "model", "target")


def test_the_period_follows_the_clock_of_the_reader() -> None:
    since, until, asked = question(Wish(days=1, utc_offset_hours=8), NOW_S)
    assert (since, until) == (date(2026, 11, 26), date(2026, 11, 27))
    assert asked.since_ms == int(datetime(2026, 11, 25, 16, tzinfo=UTC).timestamp()) * 1000


def test_days_are_those_of_the_books_unless_asked_otherwise() -> None:
    assert question(Wish(days=1), NOW_S, 8) == question(Wish(days=1, utc_offset_hours=8), NOW_S)
    assert question(Wish(days=1, utc_offset_hours=0), NOW_S, 8)[2].offset_ms == 0


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(since="yesterday"), "--since"),
        (Wish(until="2026-13-01"), "--until"),
        (Wish(since="2026-11-25", until="2026-11-25"), "no period"),
        (Wish(since="2026-11-26", until="2026-11-25"), "no period"),
        (Wish(days=DAYS_MAX + 1), "no period"),
        (Wish(by="tenant,mood"), "--by"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(wish: Wish, said: str) -> None:
    with pytest.raises(ProblemError) as caught:
        question(wish, NOW_S)
    assert said in caught.value.what
    assert caught.value.remedy


CALLS = (("m@h:1", "", 0), ("m@h:1", "", 0), ("openai/gpt", "USD", 12_300))


def test_what_cannot_be_grouped_by_is_told_in_the_readers_language(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite")
    code, said = cost("--by", "nope", lang="zh")
    assert (code, "--by 有误：按 day、tenant" in said, "不能是 'nope'" in said) == (1, True, True)


def fill(
    path: Path, tenant: str = "acme", calls: Sequence[tuple[str, str, int]] = CALLS
) -> None:  # fmt: skip
    ledger = SqliteLedger.open(path)
    for number, (target, currency, micro) in enumerate(calls):
        usage = Usage(900, 100)
        name = f"r{number}"
        ledger.apply(
            [
                AttemptBegin(
                    name, 1, TODAY_MS, TODAY_MS, tenant, "p", "k", "chat", "m", "interactive",
                    target, False, "why", 1, 1, currency, 0, 0,
                ),
                AttemptEnd(name, 1, TODAY_MS, "ok", "", usage, Charge(currency, micro), 4),
                RequestEnd(
                    name, TODAY_MS, TODAY_MS, tenant, "p", "k", "chat", "m", "interactive", "ok",
                    200, "", "why", target, 1, 0, 4, usage,
                ),
            ]
        )  # fmt: skip
    ledger.close()


def cost(*flags: str, lang: str = "en") -> tuple[int, str]:
    done = CliRunner().invoke(
        app, ["--lang", lang, "cost", "--since", "2026-11-25", "--until", "2026-11-26", *flags]
    )
    return done.exit_code, done.output


def test_the_table_tells_money_shares_and_tokens(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite")
    code, said = cost("--by", "tenant,target")
    assert code == 0
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "acme openai/gpt 1 0% 1,000 0% 1,000 USD 0.0123 USD 12.3000" in lines
    assert "acme m@h:1 2 100% 2,000 100% 1,000 - -" in lines
    assert "all 3 67% 3,000 67% 1,000 USD 0.0123 USD 4.1000" in lines
    assert "paid by the hour" in said


def test_json_carries_integers_for_a_program(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite")
    code, said = cost("--by", "day,tier", "--json", "--limit", "1")
    found = json.loads(said)
    assert code == 0
    assert found["is_cut"]
    (row,) = found["rows"]
    assert (row["day"], row["tier"]) == ("2026-11-25", "api")
    assert row["money"] == [
        {"currency": "USD", "kind": "cash", "micro": 12_300, "micro_per_mtok": 12_300_000}
    ]
    assert found["total"]["requests"] == 3
    assert found["total"]["own_request_share"] == pytest.approx(2 / 3)
    assert (found["since"], found["until"]) == ("2026-11-25", "2026-11-26")


TWO = (("glm/big", "CNY", 70_000), ("openai/gpt", "USD", 10_000))


def test_two_currencies_are_added_up_only_at_a_rate_that_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite", calls=TWO)
    _, said = cost("--by", "target")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "all 2 0% 2,000 0% 1,000 CNY 0.0700 CNY 35.0000" in lines
    assert "USD 0.0100 USD 5.0000" in lines, "the same row's other currency"
    (title,) = [line for line in lines if line.startswith("SUMMARY in CNY at ")]
    rate = float(title.split()[4])
    (whole,) = [line for line in lines if line.startswith("in all ")]
    assert float(whole.split()[2].rstrip(":")) == pytest.approx(0.07 + 0.01 * rate, abs=1e-4)
    _, dollars = cost("--by", "target", "--currency", "USD")
    assert f"in all {0.01 + 0.07 / rate:.4f}" in dollars


def test_a_currency_without_a_rate_keeps_the_table_and_says_why_nothing_is_summed(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite", calls=(*TWO, ("azure/big", "EUR", 5_000)))
    code, said = cost("--by", "target")
    assert code == 0
    assert "EUR 0.0050" in said
    assert "no summary: there is no rate from EUR to CNY" in said
    found = json.loads(cost("--json")[1])
    assert (found["summary"], found["no_summary"]["code"]) == (None, "finance.no_rate")
    assert "没有汇总：没有从 EUR 到 CNY 的汇率" in cost("--by", "target", lang="zh")[1]


def test_a_period_without_calls_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite")
    done = CliRunner().invoke(app, ["cost", "--since", "2020-01-01", "--until", "2020-01-02"])
    assert done.exit_code == 0
    assert "nothing ended in that time" in done.output


def test_without_a_ledger_there_is_a_remedy_and_no_new_file(tmp_path: Path) -> None:
    code, said = cost()
    assert code == 1
    assert "no ledger at" in " ".join(said.split())
    assert not list(tmp_path.rglob("ledger.sqlite"))


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    fill(tmp_path / "ballast" / "ledger.sqlite", tenant="a\x1b[2J\n[red]b")
    code, said = cost("--by", "tenant")
    assert code == 0
    assert "\x1b[2J" not in said
    assert "[red]b" in said


def test_a_question_leaves_the_ledger_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ballast" / "ledger.sqlite"
    fill(path)
    before = path.read_bytes()
    report = collect(Settings(state_dir=path.parent), Wish(), NOW_S)
    assert report.total is not None
    assert report.total.requests == 3
    assert path.read_bytes() == before
