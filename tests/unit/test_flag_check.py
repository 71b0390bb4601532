"""docs/engine-flags.md tells of today's catalogue: its counts, and the questions vLLM was asked."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from benchmarks.checkpoints.real_size import config
from benchmarks.flag_check.ask import Asker, Folders, sample
from benchmarks.flag_check.cases import cases
from benchmarks.flag_check.page import Judged, known_part, render
from benchmarks.flag_check.tally import tally
from models import sizing
from serving.engine.paper.check import Question, Verdict

PAGE = Path(__file__).resolve().parents[2] / "docs/engine-flags.md"
REMEDY = "run `python -m benchmarks.flag_check docs/engine-flags.md` and commit the page"
KNOWN = sizing.load()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folders, list[Question]]:
    folders = Folders(tmp_path_factory.mktemp("configs"))
    return folders, list(Asker(folders).questions(cases(KNOWN)))


def test_the_page_counts_what_the_catalogue_proposes_and_refuses_today():
    text = render(tally(cases(KNOWN)), Judged("", (), frozenset()))
    assert known_part(text) == known_part(PAGE.read_text("utf-8")), REMEDY


def test_vllm_was_asked_the_questions_of_today(asked):
    folders, questions = asked
    page = PAGE.read_text("utf-8")
    (digest,) = re.findall(r"digest is `([0-9a-f]{16})`", page)
    assert folders.digest(questions) == digest, REMEDY
    (proposed,) = re.findall(r"\| with flags \|.* (\d+) \|\n", page)
    (taken,) = re.findall(r"\| of these vLLM takes \|.* (\d+) \|\n", page)
    assert int(proposed) == int(taken) == len(questions)


def test_the_digest_is_the_same_wherever_the_folders_lie(tmp_path):
    few = list(itertools.islice(cases(KNOWN), 40))
    found = []
    for name in ("here", "there"):
        folders = Folders(tmp_path / name)
        found.append((folders, list(Asker(folders).questions(few))))
    (here, first), (there, second) = found
    assert [q.argv for q in first] != [q.argv for q in second]
    assert here.digest(first) == there.digest(second)
    assert here.digest(first[1:]) != here.digest(first)


def test_every_variant_is_in_the_fast_sample_where_it_may_start(asked):
    _, questions = asked
    found = [question.id for question in sample(questions, ("a100-80", "h200-141"))]
    everywhere = {question.id.split(" ")[0] for question in questions}
    assert {name.split(" ")[0] for name in found} == everywhere
    assert len(found) < 400


def test_a_refusal_of_vllm_stands_on_the_page_with_its_words():
    verdict = Verdict(
        "qwen3-8b/bf16 1x1 h100-80", ("arguments", "parsers"), "ValueError: no | such 8"
    )
    text = render(tally(()), Judged("d", (verdict,), frozenset()))
    assert "| 1 | configuration | ValueError: no / such 8 | `qwen3-8b/bf16 1x1 h100-80` |" in text


def test_a_config_has_the_sizes_of_its_card():
    card = KNOWN.catalog.card("qwen3-32b")
    found = config(card, card.variants["fp8"])
    assert found["num_hidden_layers"] == card.shape.layers
    assert found["quantization_config"]["quant_method"] == "fp8"
    assert "quantization_config" not in config(card, card.variants["bf16"])
