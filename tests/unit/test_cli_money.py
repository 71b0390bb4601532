"""`ballast money`, `ledger`, `erase` and the summary of `cost`: from files to books to words."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from ballast import exporting
from ballast.cli import app
from ballast.exporting import COLUMNS, escaped
from ballast.problem import ProblemError
from ballast.uploading import upload
from serving.batch.sqlite import SqliteBatches
from serving.batch.values import Batch, File, Purpose
from serving.directory import chain
from serving.directory.base import decode_event
from serving.directory.sqlite import SqliteDirectory
from serving.fakes.object_store import FakeObjectStore
from serving.finance.told import entries
from serving.finance.values import FinanceError
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd

AT_MS = int(datetime(2026, 1, 10, 12, tzinfo=UTC).timestamp()) * 1000
API, OWN = "acme-ai/big", "m@h:1"
PERIOD = ["--since", "2026-01-01", "--until", "2026-02-01"]
TOLD = """
- grant: {id: welcome, kind: credit, provider: acme-ai, amount: 5, currency: CNY,
          since: 2026-01-01, until: 2026-03-01}
- rental: {id: box, pool: a, gpu: h20, gpus: 2, since: 2026-01-10, until: 2026-01-11,
           gpu_hour: 2.5, currency: CNY, source: contract 7, models: [m]}
- cost: {id: people-01, month: 2026-01, what: people, amount: 31, currency: CNY, key: requests}
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    folder = tmp_path / "ballast"
    folder.mkdir()
    ledger = SqliteLedger.open(folder / "ledger.sqlite")
    for name, target, micro, feature in (
        ("a", API, 8_000_000, "search"), ("b", OWN, 0, "search"), ("c", OWN, 0, "=chat()")
    ):  # fmt: skip
        usage, currency = Usage(900, 100), "" if target == OWN else "CNY"
        begun_ms = AT_MS - 3_600_000
        ledger.apply(
            [
                AttemptBegin(
                    name, 1, begun_ms, begun_ms, "acme", "p", "k", "chat", "m", "interactive",
                    target, False, "why", 1, 1, currency, 0, 0, feature, "person",
                ),
                AttemptEnd(name, 1, AT_MS, "ok", "", usage, Charge(currency, micro), 4),
                RequestEnd(
                    name, begun_ms, AT_MS, "acme", "p", "k", "chat", "m", "interactive", "ok", 200,
                    "", "why", target, 1, 0, 4, usage, "", feature, "person",
                ),
            ]
        )  # fmt: skip
    ledger.close()
    return folder


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


def booked(tmp_path: Path) -> None:
    (tmp_path / "told.yaml").write_text(TOLD, "utf-8")
    assert "booked 3: welcome, box, people-01" in run("money", "tell", str(tmp_path / "told.yaml"))


def test_what_is_told_is_in_the_summary_and_usage_and_idle_reconcile(tmp_path: Path) -> None:
    booked(tmp_path)
    found = json.loads(run("cost", *PERIOD, "--json"))["summary"]
    assert (found["cash_micro"], found["granted_micro"]) == (3_000_000, 5_000_000)
    assert found["allocation_micro"] == 2 * 24 * 2_500_000
    assert found["usage_micro"] == found["allocation_micro"] // 24
    assert found["usage_micro"] + found["idle_micro"] == found["allocation_micro"]
    assert found["shared_micro"] == 31_000_000
    features = {row["name"]: row for row in found["features"]}
    assert features["search"]["tokens_per_request"] == 1000
    assert sum(row["micro"] for row in features.values()) == 3_000_000 + 120_000_000 + 31_000_000
    assert found["own_request_share"] == pytest.approx(2 / 3)
    assert found["saving"]["unpriced"] == ["m"]
    said = run("cost", *PERIOD, "--tax", "6")
    assert "in all 154.0000" in said
    assert "with 6.0 % tax: 163.2400" in said


def test_the_saving_is_against_the_first_offering_s_price(tmp_path: Path) -> None:
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "acme-ai.yaml").write_text(
        "id: acme-ai\nname: A\njurisdiction: cn\noperator: A\nbase_url: https://a.example/v1\n"
        "api_key_env: A_KEY\nmodels: [{id: big, context_tokens: 8192, currency: CNY,"
        " input_per_mtok: 4, output_per_mtok: 10, source: list, as_of: '2026-01-01'}]\n"
    )
    config = tmp_path / "c.yaml"
    config.write_text(
        f"providers_dir: {tmp_path / 'providers'}\nstate_dir: {tmp_path / 'ballast'}\n"
        "models: [{name: m, offerings: [acme-ai/big]}]\n"
    )
    found = json.loads(run("cost", *PERIOD, "--json", "-c", str(config)))["summary"]
    assert found["saving"]["api_micro"] == (1800 * 4 + 200 * 10)
    assert found["saving"]["unpriced"] == []


def test_grants_show_what_is_left(tmp_path: Path) -> None:
    booked(tmp_path)
    (row,) = json.loads(run("money", "grants", "--json"))
    assert (row["used"], row["left"], row["lapses"]) == (5_000_000, 0, "2026-03-01")
    assert "welcome" in run("money", "grants")


def test_an_invoice_is_reconciled_and_the_month_closed(tmp_path: Path) -> None:
    booked(tmp_path)
    file = tmp_path / "i.csv"
    file.write_text(
        "provider,period,model,tokens,currency,amount,tax\nacme-ai,2026-01,big,1000,CNY,8,0\n"
    )
    assert "imported 1 lines, replacing 0" in run("money", "invoice", str(file))
    (line,) = json.loads(run("money", "reconcile", "2026-01", "--json"))
    assert line["expected_micro"] == 3_000_000
    assert "did not take our credits off" in line["explanations"][0]
    assert "+5.00" in run("money", "reconcile", "2026-01")
    assert "closed 2026-01" in run("money", "close", "2026-01")
    assert "is closed" in run("money", "invoice", str(file), code=1)
    assert "is closed" in run("money", "drop", "cost", "people-01", code=1)
    assert "0 corrections" in run("money", "correct", "2026-01")
    assert json.loads(run("money", "list", "closing"))[0]["by"].startswith("os:")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "a list"),
        ([{"grant": {}, "cost": {}}], "entry 1: one key"),
        ([{"loan": {}}], "entry 1: one key"),
        ([{"grant": {"id": "g"}}], "entry 1: grant: .*missing required"),
        ([{"cost": {"id": "c", "month": "2026-01", "what": "people", "amount": 1}}], "currency"),
        (
            [{"cost": {"id": "c", "month": "2026-01", "what": "people", "amount": "NaN",
                       "currency": "CNY"}}],
            "no amount of money",
        ),
        (
            [{"grant": {"id": "g", "kind": "credit", "provider": "p", "amount": 5,
                        "since": "2026-01-01", "until": "2026-02-01"}}],
            "money needs a currency",
        ),
        (
            [{"grant": {"id": "g", "kind": "credit", "provider": "p", "amount": 5, "tokens": 5,
                        "since": "2026-01-01", "until": "2026-02-01"}}],
            "not both",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_booked_is_named(told: Any, says: str) -> None:
    with pytest.raises(FinanceError, match=says):
        entries(told, ("me", 1), 0)


def test_days_are_those_of_the_books_time_zone() -> None:
    told = [
        {"grant": {"id": "g", "kind": "prepaid", "provider": "p", "tokens": 9, "paid": "1.5",
                   "currency": "CNY", "since": date(2026, 1, 1), "until": "2026-02-01"}}
    ]  # fmt: skip
    (one,) = entries(told, ("me", 7), 8 * 3_600_000)
    assert one.begin_ms == int(datetime(2025, 12, 31, 16, tzinfo=UTC).timestamp()) * 1000  # type: ignore[union-attr]
    assert (one.unit, one.amount, one.paid_micro, one.by) == ("tokens", 9, 1_500_000, "me")  # type: ignore[union-attr]


def test_csv_is_safe_for_spreadsheets_and_speaks_chinese(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert "wrote 3 rows" in run("ledger", "export", str(out), "--chinese", *PERIOD)
    data = out.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [row["功能"] for row in rows] == ["search", "search", "'=chat()"]
    assert [Decimal(row["金额"]) for row in rows] == [8, 0, 0]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_what_a_spreadsheet_would_run_is_led_by_an_apostrophe(text: str) -> None:
    assert escaped(text) == f"'{text}"
    assert escaped(-1) == -1
    assert escaped("a=1") == "a=1"


def test_xlsx_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    run("ledger", "export", str(tmp_path / "o.xlsx"), *PERIOD)
    run("ledger", "export", str(tmp_path / "o.parquet"), *PERIOD)
    sheet = openpyxl.load_workbook(tmp_path / "o.xlsx").active
    table = parquet.read_table(tmp_path / "o.parquet")
    lines = list(sheet.iter_rows(values_only=True))
    assert list(lines[0]) == table.column_names == list(COLUMNS)
    assert [line[5] for line in lines[1:]] == table["feature"].to_pylist()
    assert lines[3][5] == "=chat()"
    assert table["amount"].to_pylist() == [8, 0, 0]


def test_rows_go_to_an_object_store_signed_and_a_wrong_key_is_said(tmp_path: Path) -> None:
    store = FakeObjectStore("books")
    store.key_id, store.secret = "id", "secret"
    out = tmp_path / "out.csv"
    run("ledger", "export", str(out), *PERIOD)

    async def served() -> None:
        listening = await store.start()
        environ = {"AWS_ENDPOINT_URL": listening.url, "AWS_ACCESS_KEY_ID": "id"}
        good = environ | {"AWS_SECRET_ACCESS_KEY": "secret"}
        await asyncio.to_thread(upload, out, "s3://books/2026/a b.csv", good)
        with pytest.raises(ProblemError, match=r"403: .*SignatureDoesNotMatch"):
            await asyncio.to_thread(
                upload, out, "s3://books/x.csv", environ | {"AWS_SECRET_ACCESS_KEY": "other"}
            )
        with pytest.raises(ProblemError, match="404"):
            await asyncio.to_thread(upload, out, "s3://ghost/x.csv", good)
        await listening.close()
        with pytest.raises(ProblemError, match="Cannot connect"):
            await asyncio.to_thread(upload, out, "s3://books/x.csv", good)

    asyncio.run(served())
    assert store.shelf.files == {"2026/a b.csv": out.read_bytes()}


@pytest.mark.parametrize(
    ("to", "environ", "says"),
    [
        ("s3://books", {}, "names no object"),
        ("s3://books/a/", {}, "names no object"),
        ("s3://b/k", {"AWS_ENDPOINT_URL": "http://store.example"}, "not encrypted"),
        ("s3://b/k", {"AWS_ACCESS_KEY_ID": "x"}, "go together"),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    tmp_path: Path, to: str, environ: dict[str, str], says: str
) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(ProblemError, match=says):
        upload(tmp_path / "f", to, environ)


def test_another_ending_and_a_missing_library_are_said(tmp_path: Path) -> None:
    assert "ends in none of" in run("ledger", "export", str(tmp_path / "o.txt"), code=1)
    with pytest.raises(ProblemError, match="not installed"):
        exporting.library("no_such_library_of_ours")


def test_sums_are_made_old_rows_trimmed_and_costs_asked_of_the_sums(state: Path) -> None:
    assert "anew" in run("ledger", "rollup", "--since", "2026-01-01", "--until", "2026-02-01")
    assert "deleted 3 requests" in run("ledger", "trim")
    found = json.loads(run("cost", *PERIOD, "--by", "feature", "--rollups", "--json"))
    assert {row["feature"]: row["tokens_per_request"] for row in found["rows"]} == {
        "search": 1000, "=chat()": 1000
    }  # fmt: skip


def test_a_person_is_erased_and_the_money_stays(state: Path) -> None:
    said = run("erase", "--tenant", "acme", "--person", "person")
    assert "erased: 6 rows, 0 sampled conversations" in said
    before = json.loads(run("cost", *PERIOD, "--json"))
    assert before["total"]["money"][0]["micro"] == 8_000_000
    assert "erased: 0 rows" in run("erase", "--tenant", "acme", "--person", "person")


def test_files_and_batches_of_a_person_or_a_whole_tenant_are_erased(state: Path) -> None:
    def file(number: int, tenant: str, person: str = "") -> File:
        return File(
            f"file-{number}", tenant, "k", Purpose.BATCH, "f", 7, 1, 1 << 60, person, is_whole=True
        )

    with closing(SqliteBatches.open(state / "batches.sqlite")) as store:
        store.put_file(file(1, "acme", "person"))
        store.put_file(file(2, "acme/shop"))
        store.put_file(file(3, "beta"))
        store.add_batch(Batch("batch_1", "acme", "k", "/v1/embeddings", "file-1", "24h", 1, 2), 9)
    assert "1 files and batches" in run("erase", "--tenant", "acme", "--person", "person")
    said = run("batches", "list", "--tenant", "acme")
    assert "batch_1  validating   0/0 lines" in said
    assert "erased: 2 files" in run("batches", "erase", "--tenant", "acme", "--why", "contract")
    assert "1 files, 7 bytes" in run("batches", "list", "--tenant", "beta")
    assert acts(state)[-1] == ("batches.erase", "batches:acme", "contract")


def acts(state: Path) -> list[tuple[str, str, str]]:
    with closing(SqliteDirectory.open(state / "directory.sqlite")) as store:
        entries_ = store.history()
    assert chain.breaks(entries_) == []
    events = [decode_event(entry.data) for entry in entries_]
    assert all(event.actor.startswith("os:") for event in events)
    return [(event.action, event.subject, event.why) for event in events]


def test_what_is_done_to_the_database_itself_is_in_the_history(state: Path, tmp_path: Path) -> None:
    (tmp_path / "told.yaml").write_text(TOLD)
    run("money", "tell", str(tmp_path / "told.yaml"))
    run("money", "close", "2026-01", "--why", "books agree")
    run("money", "drop", "cost", "people-01", code=1)  # its month is closed; the try is on record
    run("ledger", "trim")
    run("erase", "--tenant", "acme", "--person", "person", "--why", "letter of 3 March")
    assert acts(state) == [
        ("finance.tell", "finance:books", ""),
        ("finance.close", "finance:2026-01", "books agree"),
        ("finance.drop", "finance:people-01", ""),
        ("ledger.trim", "ledger:rows", ""),
        ("ledger.erase", "ledger:acme:person", "letter of 3 March"),
    ]


def test_nothing_is_done_when_the_history_cannot_be_written(state: Path) -> None:
    (state / "directory.sqlite").mkdir()
    said = run("erase", "--tenant", "acme", "--person", "person", code=1)
    assert "so nothing was done" in said
    (state / "directory.sqlite").rmdir()
    assert "erased: 6 rows" in run("erase", "--tenant", "acme", "--person", "person")


def test_a_reason_that_would_forge_a_line_is_refused(state: Path) -> None:
    said = run("erase", "--tenant", "a", "--person", "p", "--why", "x\nactor=root", code=1)
    assert "why:" in said
    assert acts(state) == []


def test_a_name_with_control_characters_reaches_the_history_harmless(state: Path) -> None:
    run("erase", "--tenant", "a\x1b[2J", "--person", "p" * 10_000)
    ((_, subject, _),) = acts(state)
    assert subject.isprintable()
    assert len(subject) == 300


def test_a_scorecard_is_asked_of_the_sums_for_people_and_programs(state: Path) -> None:
    said = run("scorecard", "--month", "2026-01", code=1)
    assert "ballast ledger rollup --since 2026-01-01" in said
    run("ledger", "rollup", "--since", "2026-01-01", "--until", "2026-02-01")
    said = run("scorecard", "--month", "2026-01")
    assert "acme-ai" in said
    assert "few: below 100 attempts" in said
    (card,) = json.loads(run("scorecard", "--month", "2026-01", "--json"))["cards"]
    assert (card["attempts"], card["is_few"], card["money"][0]["micro"]) == (1, True, 8_000_000)
    assert card["promised"] is None
    rows = list(csv.DictReader(io.StringIO(run("scorecard", "--month", "2026-01", "--csv"))))
    assert [(row["provider"], row["model"], row["amount"]) for row in rows] == [
        ("acme-ai", "big", "8.000000")
    ]
    none = run("scorecard", "--month", "2026-01", "--provider", "other", "--json")
    assert json.loads(none)["cards"] == []
