"""docs/models.md is what the cards say today, and a person can choose from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from models import prices, sizing
from models.needs import Need, cheapest, smallest
from models.page import render

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/models.md").read_text("utf-8")
KNOWN = sizing.load()
CATALOG = KNOWN.catalog


def test_the_page_is_in_step_with_the_cards():
    assert render(KNOWN, prices.load()) == PAGE, "run `python -m models.page` and commit the page"


def test_the_command_writes_the_page(tmp_path):
    page = tmp_path / "models.md"
    subprocess.run([sys.executable, "-m", "models.page", str(page)], cwd=ROOT, check=True)
    assert page.read_text("utf-8") == PAGE


def test_every_model_has_one_row_and_every_row_as_many_cells_as_its_head():
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \|", PAGE, re.M)
    models = [name for name in rows if name in CATALOG.cards]
    assert sorted(models) == sorted(CATALOG.cards)
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_all_known_trouble_and_all_sources_are_told():
    for card in CATALOG.cards.values():
        for bad in card.known_bad:
            assert bad.issue in PAGE
            assert bad.what in PAGE
    for key in CATALOG.sources:
        assert f"| `{key}` |" in PAGE


@pytest.mark.parametrize(
    ("model", "gpu", "need"),
    [
        ("qwen3-8b", "a100-40", Need(1, "bf16")),
        ("qwen3-32b", "h100-80", Need(1, "fp8")),
        ("qwen3-32b", "h200-141", Need(1, "bf16")),
        ("glm-4.5", "h100-80", Need(8, "fp8")),
        ("glm-5", "a100-80", None),
        ("glm-5", "h200-141", Need(8, "fp8")),
        ("qwen3.8-2.4t-a95b", "h200-141", None),
    ],
)
def test_the_smallest_number_of_gpus_prefers_few_gpus_then_precision(model, gpu, need):
    assert smallest(CATALOG.card(model), KNOWN.gpus.gpu(gpu)) == need


def test_the_cheapest_way_meets_the_load_on_a_supported_gpu():
    choice = cheapest(KNOWN, prices.load(), CATALOG.card("qwen3-32b"))
    assert choice is not None
    assert KNOWN.gpus.gpu(choice.layout.gpu).support == "supported"
    assert choice.callers_max * choice.engines >= 32
    assert choice.cny_per_mtok is not None


def test_what_no_machine_holds_has_no_price():
    assert cheapest(KNOWN, prices.load(), CATALOG.card("qwen3.8-2.4t-a95b")) is None
