"""The load tester's own catalogue: complete in both languages, used, and told."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ballast import messages
from benchmarks import telling
from benchmarks.acceptance import __main__ as acceptance
from benchmarks.drills import __main__ as drills
from benchmarks.drills import ray_head, runner, soak
from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.values import Finding, Outcome
from benchmarks.load import __main__ as load
from benchmarks.load import against, flags, parser, probing, run, search
from benchmarks.load.values import ScenarioError, checked
from benchmarks.load.values import load as scenario
from models.worded import Worded, of
from tests.unit.test_messages import worded

ROOT = Path(__file__).resolve().parents[2]
CHINESE = re.compile("[\u4e00-\u9fff]")
PARSERS = (load, run, search, against, flags, acceptance, drills, soak, parser)
"""Modules whose flags people are told of."""
ALL_DRILLS = [*DRILLS.values(), ray_head.DRILL, soak.drill(1.0, 1.0, 1.0)]
MADE = {code: template for _, code, template in worded(("benchmarks",))}
MEANT = {f"means.{one.name}": one.meaning for one in ALL_DRILLS}


def fields(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def helped() -> Iterator[str]:
    """Every help text and description of the flags, as the code has it."""
    for module in PARSERS:
        path = Path(str(module.__file__))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_help = isinstance(node, ast.keyword) and node.arg == "help"
            if is_help and isinstance(node.value, ast.Constant):
                yield str(node.value.value)
        if module not in (flags, parser):
            yield (module.__doc__ or "").strip()


def test_each_sentence_stands_in_the_book_as_it_is_made_and_none_besides() -> None:
    assert {code: row["en"] for code, row in telling.said_by_code().items()} == MADE | MEANT


def test_each_sentence_has_both_languages_with_the_same_values() -> None:
    for code, row in telling.said_by_code().items():
        assert set(row) == {"zh", "en"}, code
        assert fields(row["zh"]) == fields(row["en"]), code
        assert CHINESE.search(row["zh"]), code
        assert not CHINESE.search(row["en"]), code


def test_each_help_text_is_told_in_chinese_and_none_besides() -> None:
    told = telling.help_texts()
    assert set(told) == set(helped())
    assert all(CHINESE.search(text) for text in told.values())


def test_no_code_of_the_book_is_one_of_the_command_lines() -> None:
    theirs = {key.removeprefix("reasons.") for key in messages.entries("reasons")}
    assert not theirs & set(telling.said_by_code()), "a sentence from below would be told by ours"


def test_a_sentence_within_another_is_told_too_and_one_from_below_as_it_is() -> None:
    inner = Worded("target.away", "cannot connect: {why}", why="refused")
    said = Worded("target.at", "{url}: {why}; {remedy}", url="u", why=inner, remedy=probing.LOOK)
    assert telling.tell(said, "zh") == "u：连不上：refused；处理：看目标的日志"
    assert telling.tell(said, "en") == "u: cannot connect: refused; look at the target's log"
    assert telling.tell(Worded("trace.none", "{path}: no requests", path="p"), "zh") == (
        "p: no requests"
    )
    assert telling.tell("plain", "zh") == "plain"


def test_a_scenario_at_fault_is_told_with_its_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    tree = yaml.safe_load((ROOT / "benchmarks/scenarios/small.yaml").read_text("utf-8"))
    file.write_text(yaml.safe_dump(tree | {"kinds": []}), "utf-8")
    with pytest.raises(ScenarioError) as caught:
        scenario(str(file))
    assert telling.tell(of(caught.value), "zh") == f"{file} 有误：kinds：至少写一类"
    assert str(caught.value) == f"{file}: kinds: name at least one"
    assert checked(scenario("small")).kinds


@pytest.mark.parametrize("name", ["run", "capacity", "compare", "acceptance", "drill", "soak"])
def test_help_of_every_command_is_chinese_to_whoever_reads_chinese(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BALLAST_LANG", "zh")
    with pytest.raises(SystemExit) as ended:
        load.main([name, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert shown.startswith("用法：")
    assert "显示本帮助并退出" in shown
    prose = re.sub("`[^`]*`", "", shown)  # commands stay
    assert not re.search(r"[a-z]{4,} [a-z]{3,} [a-z]{3,}", prose), shown


def test_flags_at_fault_are_told_in_chinese_around_the_librarys_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BALLAST_LANG", "zh")
    with pytest.raises(SystemExit) as ended:
        load.main(["drill", "nope"])
    assert ended.value.code == 2
    assert "命令行有误：没有演练 'nope'；--list 列出全部" in capsys.readouterr().err
    assert load.main([]) == 2
    assert "满足目标的最高速率" in capsys.readouterr().err


def test_a_drills_outcome_is_told_in_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(
        name="engine-kill", meaning=DRILLS["engine-kill"].meaning, seconds=2.0, requests=3,
        ends={}, findings=[Finding("all is well", "1 of 1", True)], faults=["1.0 s: kill engine:0"],
        skipped="",
    )  # fmt: skip
    assert runner.lines(outcome)[0] == "engine-kill: passed (3 requests, 2 s)"
    monkeypatch.setenv("BALLAST_LANG", "zh")
    told = runner.lines(outcome)
    assert told[0] == "engine-kill：通过（3 个请求，2 秒）"
    assert told[1].startswith("  引擎在流式输出中被杀")
    assert told[3] == "  正常 all is well: 1 of 1"
