"""`ballast split report`: what a person and a program are told, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ballast.cli import app
from serving.ledger.sqlite import SqliteLedger
from serving.records import Usage
from serving.rows import RequestEnd

AT_MS = 1_764_000_000_000
"""2025-11-24."""
PERIOD = ["--since", "2025-11-20", "--until", "2025-12-01"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [
        RequestEnd(
            f"r{n}", AT_MS, AT_MS + 900, "acme", "p", "k", "chat", "m", "interactive", "ok", 200,
            "", "why", "m@h:1", 1 + n % 2, 0, 300, Usage(9, 20 + n), name="chat",
            route=f"split:{'a' if n < 60 else 'b'}", part=n * 100 % 10_000, finish="stop",
            is_stream=True,
        )
        for n in range(100)
    ]  # fmt: skip
    ledger = SqliteLedger.open(tmp_path / "state" / "ledger.sqlite")
    ledger.apply(rows)
    ledger.close()
    file = tmp_path / "c.yaml"
    file.write_text(
        f"state_dir: {tmp_path / 'state'}\nmodels: [{{name: m, aliases: [chat, plain]}}]\n"
        "routing: {names: {chat: {split: [{name: a, percent: 50}, {name: b, percent: 50}]}}}\n"
    )
    return file


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_a_person_reads_both_sides_with_intervals_and_what_is_not_sticky(config: Path) -> None:
    said = run("split", "report", "chat", *PERIOD, "-c", str(config))
    assert "requests 60 40" in said
    assert "answer tokens 49.5 (" in said
    assert "+50.0 (" in said
    assert "few: a, b: below 100 requests or 30 parts" in said
    assert "sticky: 0 parts seen on two sides, 10 on another side" in said


def test_a_program_reads_the_same_as_json(config: Path) -> None:
    found = json.loads(run("split", "report", "chat", *PERIOD, "--json", "-c", str(config)))
    assert [(side["name"], side["requests"], side["is_few"]) for side in found["sides"]] == [
        ("a", 60, True), ("b", 40, True)
    ]  # fmt: skip
    assert (found["since"], found["elsewhere"]) == ("2025-11-20", 10)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["chat", "--since", "2025-01-01", "--until", "2025-01-05"], "no request of its split"),
        (["plain", *PERIOD], "plain is not split (routing.names); split: chat"),
        (["chat", "--since", "soon"], "write days as 2026-11-25"),
        (["chat", "--since", "2025-12-01", "--until", "2025-11-01"], "is no period"),
    ],
)
def test_what_is_missing_is_said(config: Path, words: list[str], says: str) -> None:
    assert says in run("split", "report", *words, "-c", str(config), code=1)
