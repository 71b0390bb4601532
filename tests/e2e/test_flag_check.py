"""The catalogue's flags under the pinned vLLM's own code, which believes in an absent GPU.

The fast part asks about each variant of each card, once on an Ampere and once on a Hopper, up to
its configuration; the full part asks about everything and builds what it can.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest

from benchmarks.flag_check.__main__ import judge
from benchmarks.flag_check.ask import Asker, Folders, ask, sample
from benchmarks.flag_check.cases import cases
from models import sizing
from serving.engine.paper.check import Question

PAGE = Path(__file__).resolve().parents[2] / "docs/engine-flags.md"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="the extra `cpu` or `gpu` is not installed: vLLM is not asked",
    ),
]
KNOWN = sizing.load()


@pytest.mark.timeout(240)
def test_vllm_takes_each_variant_of_each_card(tmp_path: Path) -> None:
    questions = list(Asker(Folders(tmp_path)).questions(cases(KNOWN)))
    asked = list(sample(questions, ("a100-80", "h200-141")))
    verdicts = list(ask(asked, tmp_path / "log"))
    assert {verdict.id: verdict.refused for verdict in verdicts if verdict.refused} == {}
    assert len(verdicts) == len(asked)


@pytest.mark.timeout(240)
def test_a_wrong_flag_is_refused_by_vllm_at_its_stage(tmp_path: Path) -> None:
    first = next(iter(Asker(Folders(tmp_path)).questions(cases(KNOWN))))
    wrong = {
        "arguments": ("--no-such-flag",),
        "parsers": ("--enable-auto-tool-choice", "--tool-call-parser", "no-such-parser"),
        "configuration": ("--max-model-len", "100000000"),
    }

    def with_more(stage: str, words: tuple[str, ...]) -> Question:
        return msgspec.structs.replace(first, id=stage, argv=(*first.argv, *words))

    questions = [first, *(with_more(*pair) for pair in wrong.items())]
    found = {verdict.id: verdict for verdict in ask(questions, tmp_path / "log")}
    assert found[first.id].passed == (*wrong, "model", "cache")
    for index, stage in enumerate(wrong):
        assert found[stage].refused
        assert len(found[stage].passed) == index, found[stage]


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_vllm_configures_all_that_the_catalogue_proposes(tmp_path: Path) -> None:
    judged = judge(tmp_path, "configuration")
    assert {one.id: one.refused for one in judged.verdicts if one.refused} == {}
    assert f"digest is `{judged.digest}`" in PAGE.read_text("utf-8"), (
        "run `python -m benchmarks.flag_check docs/engine-flags.md configuration`, commit the page"
    )


@pytest.mark.full
@pytest.mark.models
@pytest.mark.timeout(3600)
def test_vllm_builds_all_that_the_catalogue_proposes(tmp_path: Path) -> None:
    judged = judge(tmp_path, "cache")
    assert {one.id: one.refused for one in judged.verdicts if one.refused} == {}
