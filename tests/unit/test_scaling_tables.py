"""The table of the autoscaler's runs, from the lines that runs left."""

from __future__ import annotations

from typing import Any

from benchmarks.scaling.tables import HEAD, NAME, PAGE, table


def line(policy: str, seed: int, **more: Any) -> dict[str, Any]:
    known = {
        "part": "requests", "trace": "servegen_day.parquet@1h-2h", "ratio": 3.0, "cost": 1.2,
        "kept": 0.99, "own_share": 0.9, "starts": 3, "optimum_starts": 2, "saved": 0.5,
        "edge": 0.8,
    }  # fmt: skip
    return known | {"policy": policy, "seed": seed} | more


def test_a_policy_is_one_row_with_the_range_of_its_seeds() -> None:
    rows = table([line("ours", 1), line("ours", 2, cost=1.3, kept=0.98)]).splitlines()
    assert rows[:2] == HEAD.splitlines()
    (row,) = rows[2:]
    assert row.startswith("| day@1h-2h | ours | 1.250 ± 0.050 | 98.50% (98.00% to 99.00%) | 90.0%")
    assert row.endswith("| 3 (2) | 50.0% | 0.80 | 2 |")


def test_the_cheapest_comes_first_and_an_absent_api_is_a_case_of_its_own() -> None:
    lines = [line("dear", 1, cost=2.0), line("cheap", 1), line("fluid", 1, part="days")]
    rows = table([line("dear", 1, part="requests-away"), *lines]).splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| day@1h-2h", "cheap"], ["| day@1h-2h", "dear"], ["| day@1h-2h, API away", "dear"],
    ]  # fmt: skip


def test_the_page_has_a_place_for_it() -> None:
    assert f"<!-- figures: {NAME} -->" in PAGE.read_text()
