"""docs/providers.md says what the rows say."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from models.provider import FOLDER, load
from models.provider_page import render

ROOT = Path(__file__).resolve().parents[2]
ROWS = load(FOLDER)
PAGE = (ROOT / "docs/providers.md").read_text("utf-8")


def test_the_page_is_in_step_with_the_rows():
    assert render(ROWS) == PAGE, "run `python -m models.provider_page` and commit the page"


def test_the_command_writes_the_page(tmp_path):
    page = tmp_path / "providers.md"
    subprocess.run([sys.executable, "-m", "models.provider_page", str(page)], cwd=ROOT, check=True)
    assert page.read_text("utf-8") == PAGE


def test_every_row_stands_on_it_and_an_unknown_price_is_no_number():
    for row in ROWS.values():
        assert f"## {row.name}\n" in PAGE or f"| `{row.id}` |" in PAGE
    assert "| unknown | low |" in PAGE
    assert " None" not in PAGE


def test_no_cell_breaks_a_table():
    lines = PAGE.split("\n")
    for before, line in itertools.pairwise(lines):
        if before.startswith("| ") and line.startswith("| "):
            assert before.count("|") == line.count("|"), line
