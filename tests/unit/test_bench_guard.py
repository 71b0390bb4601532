"""The guard's benchmark reads its corpus, scores it and writes figures that say where they are
from."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.gateway.machine import Provenance
from benchmarks.guard import __main__ as command
from benchmarks.guard import corpus
from benchmarks.guard.corpus import Case, Score
from benchmarks.guard.samples import CHINESE, ENGLISH, term_list, tokens
from benchmarks.guard.speed import Figure, markdown, timed


def test_marks_and_escapes_become_text_and_places() -> None:
    case = corpus._case("a⟦TERM:b\\u200bc⟧d\\n⟦NAME:e⟧")
    assert case == Case("ab\u200bcd\ne", (("TERM", 1, 4), ("NAME", 6, 7)))


@pytest.mark.parametrize("name", [*corpus.PERSONAL, *corpus.TERMS])
def test_every_corpus_has_cases_of_both_sorts(name: str) -> None:
    cases = corpus.read(name)
    least = 5 if ".talk" in name else 20
    assert sum(bool(case.expected) for case in cases) > least
    assert sum(not case.expected for case in cases) > least
    assert not any("⟦" in case.text for case in cases)


def test_scores_tell_missed_inexact_and_false() -> None:
    cases = [
        Case("abcdef", (("A", 0, 3), ("B", 3, 6))),
        Case("xyz", (("A", 0, 2),)),
        Case("nothing", ()),
        Case("alarm", ()),
    ]
    found = {"abcdef": [("A", 0, 3), ("A", 4, 5)], "xyz": [("A", 1, 3)], "alarm": [("B", 0, 1)]}
    result = corpus.measure("name", cases, lambda text: found.get(text, []))
    assert result.scores == (Score("A", 2, 2, 1, 1), Score("B", 1, 0, 0, 1))
    assert (result.cases, result.clean, result.clean_alarmed) == (4, 2, 1)
    assert any(error.startswith("missed B") for error in result.errors)
    table = corpus.markdown([result])
    assert "| name | A | 2 | 100% (2) | 1 | 1 |" in table
    assert "an alarm in 1 of the 2" in table


def test_texts_are_cut_as_models_send_them() -> None:
    for text in (CHINESE, ENGLISH):
        assert "".join(tokens(text)) == text
    assert tokens("we go on.") == ["we", " go", " on", "."]
    assert tokens("我们去吧，好") == ["我们", "去吧", "，", "好"]


def test_a_term_list_has_its_size_and_no_word_of_the_texts() -> None:
    entries = term_list(400, random.Random(1))
    assert len(entries) == 400
    assert sum(term.text.isascii() for term in entries) == 200
    assert not any(term.text in CHINESE + ENGLISH for term in entries)


def test_figures_say_whether_they_hold_and_where_they_are_from() -> None:
    figures = [Figure("scan", "us", (1.0, 2.0, 9.0), 3.0), Figure("slow", "us", (4.0,), 3.0)]
    source = Provenance("c", "now", "abc", True, "cpu", 2, (0.0, 0.0, 0.0), "6.1", {"python": "3"})
    table = markdown(figures, 3, source)
    assert "| scan | us | 2.00 (1.00 to 9.00) | 3 | yes |" in table
    assert "| slow | us | 4.00 (4.00 to 4.00) | 3 | no |" in table
    assert "commit abc with changes; cpu, 2 cores" in table
    assert len(timed(lambda: None, 1, 1)) == 1


def test_the_report_is_put_into_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures: corpus -->\n<!-- end: corpus -->\nb\n", "utf-8")
    assert command.main(["corpus", "--errors", "--page", str(page)]) == 0
    assert "| personal.zh | IDCARD |" in page.read_text("utf-8")
    assert "missed NAME" in capsys.readouterr().out
    assert command.main([]) == 2
    assert command.main(["--help"]) == 0
