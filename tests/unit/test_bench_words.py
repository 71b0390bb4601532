"""The load tester's own catalogue: complete in both languages, used, and told."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from ballast import messages
from benchmarks import telling
from benchmarks.acceptance import __main__ as acceptance
from benchmarks.acceptance import page, values
from benchmarks.drills import __main__ as drills
from benchmarks.drills import books, criteria, ray_head, runner, soak
from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.values import Finding, Outcome
from benchmarks.load import __main__ as load
from benchmarks.load import against, capacity, compare, flags, parser, probing, run, search
from benchmarks.load.invalid import Why
from benchmarks.load.values import ScenarioError, checked
from benchmarks.load.values import load as scenario
from models.worded import Worded, of, packed
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


def test_a_sentence_within_another_is_told_too_and_one_from_below_from_its_own_book() -> None:
    inner = Worded("target.away", "cannot connect: {why}", why="refused")
    said = Worded("target.at", "{url}: {why}; {remedy}", url="u", why=inner, remedy=probing.LOOK)
    assert telling.tell(said, "zh") == "u：连不上：refused；处理：看目标的日志"
    assert telling.tell(said, "en") == "u: cannot connect: refused; look at the target's log"
    of_below = Worded("trace.none", "{path}: no requests", path="p")
    assert telling.tell(of_below, "zh") == "p：没有请求"
    assert telling.tell(Worded("no.code", "{path}: no requests", path="p"), "zh") == (
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


REFUSED_FLAGS = {
    "{x}": (["--rate", "fast"], "参数 --rate：'fast' 不是有效的 float 值"),
    "required": ([], "缺少必需的参数：--url"),
    "unknown": (["--url", "u", "--nope"], "不认识的参数：--nope"),
    "choice": (["--url", "u", "--kind", "c"], "参数 --kind：没有 'c' 这个选项，可选：'a', 'b'"),
    "one": (["--url"], "参数 --url：需要一个值"),
    "some": (["--url", "u", "--some"], "参数 --some：至少需要一个值"),
    "two": (["--url", "u", "--two", "1"], "参数 --two：需要 2 个值"),
    "ambiguous": (["--url", "u", "--so"], "--so 可能指：--some, --sort"),
    "explicit": (["--url", "u", "--sort=1"], "参数 --sort：不带值，却给了 '1'"),
    "both": (["--url", "u", "--left", "--right"], "参数 --right：不能与 --left 同用"),
    "neither": (["--url", "u"], "这些参数中必须给一个：--left --right"),
}


@pytest.mark.parametrize("name", REFUSED_FLAGS)
def test_each_refusal_of_the_librarys_parser_is_told_in_chinese(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BALLAST_LANG", "zh")
    made = parser.Parser("x", "")
    made.add_argument("--url", required=True)
    made.add_argument("--rate", type=float)
    made.add_argument("--kind", choices=["a", "b"])
    made.add_argument("--some", nargs="+")
    made.add_argument("--two", nargs=2)
    made.add_argument("--sort", action="store_true")
    sides = made.add_mutually_exclusive_group(required=True)
    sides.add_argument("--left", action="store_true")
    sides.add_argument("--right", action="store_true")
    words, told = REFUSED_FLAGS[name]
    side = [] if name == "neither" or "--left" in words else ["--left"]
    with pytest.raises(SystemExit):
        made.parse_args([*words[:1], *words[1:2], *side, *words[2:]] if name == "unknown" else
                        [*side, *words])  # fmt: skip
    said = capsys.readouterr().err
    assert f"x：命令行有误：{told}\n" in said
    assert said.startswith("用法：x ")


def asks() -> Iterator[str]:
    """What every criterion of a drill asks, as the catalogues have it."""
    for path in sorted((ROOT / "benchmarks/drills").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(
                node.func, ast.Name) else ""  # fmt: skip
            if isinstance(node, ast.Call) and name in ASKS:
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                yield str(node.args[0].value)


ASKS = {
    name for name, made in vars(criteria).items()
    if getattr(made, "__annotations__", {}).get("return") == "Criterion" and name[0] != "_"
}  # fmt: skip


def test_each_criterion_of_a_drill_is_told_in_chinese_and_none_besides() -> None:
    told = telling.criteria()
    assert set(told) == {*asks(), *books.ALWAYS}
    assert all(CHINESE.search(text) for text in told.values())


def test_what_two_runs_were_not_asked_alike_is_told_in_chinese() -> None:
    one = scenario(str(ROOT / "benchmarks/scenarios/small.yaml"))
    other = msgspec.structs.replace(one, warmup_s=one.warmup_s + 1)
    (line,) = compare.differences(one, other)
    assert telling.tell(line, "zh") == f"warmup_s：{one.warmup_s} 与 {other.warmup_s}"


def test_a_senders_limit_is_told_within_the_sentence_also_from_the_file_of_the_search() -> None:
    limit = Why("not_sent", {"count": "7"}).worded()
    searched = capacity.Search(0.95, 1.0, 0.01, 10.0, tried=[
        capacity.Tried(1.0, 0.5, 0.0, 0.0, 0.0, limit)])  # fmt: skip
    answer = capacity.found(searched)
    kept = msgspec.json.decode(msgspec.json.encode(answer, enc_hook=str), type=capacity.Found)
    for found in (answer, kept):
        told = capacity.sentence_zh(found, "m", "g")
        assert "压测端先到极限（在 1/秒时：计划中有 7 个请求没有发出）" in told
        assert "at 1/s: 7 requests of the schedule were not sent" in capacity.sentence(
            found, "m", "g")  # fmt: skip


def test_the_report_of_an_acceptance_is_told_from_its_file_in_chinese() -> None:
    asked = values.Asked(url="u", model="m", scenario="small", card="c/v@1xg")
    words = Worded("acceptance.accepted", "accepted: {why}",
                   why=Worded("acceptance.no_card", "no card given"))  # fmt: skip
    step = values.Step(name="verdict", status="done", words=words, said=packed(words))
    state = values.State(asked=asked, began_s=0.0, steps=(step,))
    kept = msgspec.json.decode(msgspec.json.encode(state, enc_hook=str), type=values.State)
    told = page.report(kept, "zh")
    assert "| verdict | 完成 | 0.0 | 通过验收：没有给出卡片 |" in told
    assert "# m 的验收（u）" in told
    assert "accepted: no card given" in page.report(kept)


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
    assert told[2] == "  时刻 1.0 s: kill engine:0"
    assert told[3] == "  正常 all is well：1 of 1"
    good = Worded("found.good", "{good} of {count}{others}", good=1, count=2, others="")
    outcome.findings.append(Finding(books.TEXT, good, is_met=False))
    assert runner.lines(outcome)[4] == "  不符 没有应答被改动、重复或跳过：2 个中 1 个"
