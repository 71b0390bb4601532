"""The four numbers of the READMEs are those of the pages they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import headline
from benchmarks.headline import GATEWAY, ROLLOUT, SCALING, Found, Missing

NEW = """<!-- figures: peers -->

| gateway | CPU ms / request, 4 KiB | CPU ms / request, 90 KiB |
| --- | --- | --- |
| ballast with guard | 0.3 | 0.4 |
| ballast | 0.11 (0.1 to 0.12) | 0.2 |

| gateway | added first byte p50, ms | p99, ms |
| --- | --- | --- |
| ballast | 0.5 (0.4 to 0.6) | 2 |

| gate | limit | measured | holds |
| --- | --- | --- | --- |
| CPU per request, 4 KiB, relay, ratio to vllm-router | 1 | 1.7 (1.6 to 1.8) | no |
| CPU per request, 90 KiB, relay, ratio to vllm-router | 1 | 1.2 | no |

<!-- end: peers -->
"""


def pages(root: Path, gateway: str) -> Path:
    """A folder with the pages, the gateway's replaced."""
    (root / "docs").mkdir()
    (root / GATEWAY).write_text(gateway, "utf-8")
    for name in (SCALING, ROLLOUT):
        (root / name).write_text((headline.ROOT / name).read_text("utf-8"), "utf-8")
    return root


def test_the_readmes_say_what_the_pages_say() -> None:
    assert headline.main(["--check"]) == 0, "run `python -m benchmarks.headline`"


def test_the_numbers_are_found_in_the_table_of_all_peers_too(tmp_path: Path) -> None:
    numbers = headline.found(pages(tmp_path, NEW))
    assert (numbers.cpu, numbers.ratio) == ("0.11 (0.1 to 0.12)", "1.7 (1.6 to 1.8)")
    assert numbers.first == "0.5 (0.4 to 0.6)"
    assert all(share.endswith("%") for share in numbers.saved)
    assert len(numbers.calls) == 2


def test_a_number_that_has_gone_is_an_error_and_no_gap(tmp_path: Path) -> None:
    gone = NEW.replace("| ballast | 0.5", "| balast | 0.5")
    with pytest.raises(Missing, match="first byte"):
        headline.found(pages(tmp_path, gone))


def test_both_languages_carry_every_number() -> None:
    numbers = Found("0.1301", "2.0802", "0.5503", ("45.4%", "52.5%"), ("13,006", "9,007"))
    for language in ("en", "zh"):
        text = headline.block(numbers, language)
        for one in ("0.1301", "2.0802", "0.5503", "45.4%", "52.5%", "13,006", "9,007"):
            assert one in text
        assert all((headline.ROOT / name).is_file() and f"({name}" in text
                   for name in (GATEWAY, SCALING, ROLLOUT))  # fmt: skip
