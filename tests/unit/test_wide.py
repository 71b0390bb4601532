"""Wide tables leave out what matters least, and cut nothing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ballast.wide import Wide

COLUMNS = ("model", ">B", "released", ">price")
LINES = [("qwen3-32b", "32.8", "2025-04-29", "12.34"), ("glm-4.5", "355", "2025-07-28", "56.78")]


def shown(width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    console.print(Wide(COLUMNS, LINES, less=("released", "B"), title="all"))
    return out.getvalue()


def test_all_columns_are_there_where_there_is_room() -> None:
    assert "2025-04-29" in shown(80)
    assert "left out" not in shown(80)


def test_the_least_important_goes_first_and_is_named() -> None:
    text = shown(36)
    assert "2025-04-29" not in text
    assert "32.8" in text
    assert "left out, for want of width: released" in " ".join(text.split())


@given(st.integers(22, 100))
def test_nothing_is_cut_to_an_ellipsis(width: int) -> None:
    text = shown(width)
    assert "…" not in text
    assert "12.34" in text


@pytest.mark.parametrize("words", [["models", "rank", "qwen3-32b"], ["models", "list"],
                                   ["models", "show", "qwen3-32b"]])  # fmt: skip
def test_the_catalogues_tables_fit_eighty_columns(words: list[str], monkeypatch) -> None:
    from typer.testing import CliRunner

    from ballast import printing
    from ballast.cli import app

    monkeypatch.setattr(printing, "WIDTH", 80)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    table = [line for line in done.output.splitlines() if line.startswith(("│", "┃"))]
    assert table
    assert not [line for line in table if "…" in line]
