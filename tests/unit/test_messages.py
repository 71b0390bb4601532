"""One catalogue of what people read: complete in both languages, and used."""

from __future__ import annotations

import ast
import json
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ballast import messages, speaking
from ballast.cli import app
from ballast.messages import Said, chosen
from models import catalog, gpu, wordbook
from models.rules import NOTE_WORDS, code_of, noted, trouble
from models.worded import Worded, lines, of, packed, unpacked
from serving.fakes.scenarios import SCENARIOS
from serving.placement import candidates

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in messages.FOLDER.glob("*.yaml"))
BOOKS = {name: messages.entries(name) for name in (*FILES, "reasons")}
"""`reasons` holds what is made below the command line, by its code."""
KEYS = {key for book in BOOKS.values() for key in book}
KEY = re.compile(r"([a-z_]+)\.[\w.:/-]*")
"""What may be a key, if its first part is a file of ours."""
LIBRARIES = ("reasons.pydantic.", "reasons.known_bad.", "reasons.gpu_refused.",
             "reasons.note.")  # fmt: skip
"""Groups by the names that a library gives its errors, and by the words of cards."""
CHINESE = re.compile("[\u4e00-\u9fff]")
SAME_IN_BOTH = re.compile(
    r"[\W\d_]*|(\{\w+\}|\b(API|KV|GPU|URL|JSON|HTTP|TTFT|TPOT|vLLM|KiB|MiB|GiB|BF16)\b|\W)*"
)
"""Texts that need no Chinese: values, marks and names that are the same in both languages."""


def used() -> Iterator[tuple[str, str, bool]]:
    """(place, key or its beginning, whether it is whole) of every key the code names."""
    for path in sorted((ROOT / "ballast").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        parts = {id(p) for j in ast.walk(tree) if isinstance(j, ast.JoinedStr) for p in j.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in parts:
                found, is_whole = node.value, True
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                found, is_whole = node.values[0].value, False
            else:
                continue
            matched = KEY.fullmatch(found) if isinstance(found, str) else None
            if matched and matched[1] in FILES:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", found, is_whole


def called() -> Iterator[tuple[str, str]]:
    """(place, key) of every call that takes a key."""
    takers = {"text", "Said", "say"}
    for path in sorted((ROOT / "ballast").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                first = node.args[0]
                is_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
                if name in takers and is_text and KEY.fullmatch(first.value):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", first.value


def worded(
    layers: tuple[str, ...] = ("models", "serving", "autoscale", "ballast"),
) -> Iterator[tuple[str, str, str | None]]:
    """(place, code, English template) of every sentence that is made below the command line."""
    for layer in layers:
        for path in sorted((ROOT / layer).rglob("*.py")):
            source = path.read_text("utf-8")
            if "Worded(" not in source:
                continue
            nodes = list(ast.walk(ast.parse(source)))
            named = sorted(
                (node.lineno, target.id, value.value)
                for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign)
                for target, value in zip(parts(of_assign(node)), parts(node.value), strict=False)
                if isinstance(target, ast.Name) and isinstance(value, ast.Constant)
                and isinstance(value.value, str)
            )  # fmt: skip
            for node in nodes:
                is_made = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Worded"
                if not is_made or not isinstance(node.args[0], ast.Constant):
                    continue
                template = node.args[1]
                found = getattr(template, "value", None)
                if isinstance(template, ast.Name):
                    before = [text for line, name, text in named
                              if name == template.id and line < node.lineno]  # fmt: skip
                    found = before[-1] if before else None
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args[0].value, found


def of_assign(node: ast.Assign | ast.AnnAssign) -> ast.expr:
    """What is given a value."""
    return node.target if isinstance(node, ast.AnnAssign) else node.targets[0]


def parts(node: ast.expr) -> list[ast.expr]:
    """Of `a, b = x, y`, or the one there is."""
    return node.elts if isinstance(node, ast.Tuple) else [node]


def placeholders(text: str) -> set[str]:
    """Names in braces; a number or nothing in them is refused."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("name", BOOKS)
def test_each_message_has_both_languages_with_the_same_values(name: str) -> None:
    found = []
    for key, entry in BOOKS[name].items():
        if set(entry) != set(messages.LANGUAGES) or not all(entry.values()):
            found.append(f"{key}: has {', '.join(entry) or 'nothing'}; needs zh and en")
            continue
        if not all(isinstance(text, str) for text in entry.values()):
            found.append(f"{key}: not text; put it in quotes")
            continue
        if placeholders(entry["zh"]) != placeholders(entry["en"]):
            found.append(f"{key}: the two languages have different values in braces")
        if not all(name.isidentifier() for name in placeholders(entry["en"])):
            found.append(f"{key}: a value in braces has no plain name")
        if not (CHINESE.search(entry["zh"]) or SAME_IN_BOTH.fullmatch(entry["en"])):
            found.append(f"{key}: its zh holds no Chinese")
        if CHINESE.search(entry["en"]):
            found.append(f"{key}: its en holds Chinese")
    assert not found, "\n".join(found)


def test_each_message_is_used_and_each_used_one_is_there() -> None:
    whole = {key for _, key, is_whole in used() if is_whole}
    begun = tuple({key for _, key, is_whole in used() if not is_whole})
    # `named("explain.outcome", ...)` takes one of a group.
    groups = tuple(f"{key}." for key in whole)
    below = {f"reasons.{code}" for _, code, _ in worded()}
    unused = [
        k for k in KEYS
        if k not in whole | below and not k.startswith((*begun, *groups, *LIBRARIES))
    ]  # fmt: skip
    assert not unused, f"nothing uses {sorted(unused)}: take them out of the catalogue"
    unknown = [f"{place}: {key}" for place, key in called() if key not in KEYS]
    assert not unknown, "not in the catalogue:\n" + "\n".join(unknown)


def test_a_sentence_made_below_stands_in_the_catalogue_as_it_is_made() -> None:
    entries, found = BOOKS["reasons"], []
    for place, code, template in worded():
        entry = entries.get(f"reasons.{code}")
        if template is None:
            found.append(f"{place}: {code}: name the English template here, as one text")
        elif entry is None:
            found.append(f"{place}: reasons.{code} is not in the catalogue")
        elif entry["en"] != template:
            found.append(f"{place}: {code}: the catalogue's en is {entry['en']!r}")
    assert not found, "\n".join(found)


def test_each_trouble_that_a_card_tells_of_is_in_the_catalogue_and_none_besides() -> None:
    told = {trouble(bad) for card in catalog.load().cards.values() for bad in card.known_bad}
    group = "reasons.known_bad."
    found = {k: e["en"] for k, e in messages.entries("reasons").items() if k.startswith(group)}
    assert found == {f"reasons.{said.code}": str(said) for said in told}
    assert len(found) == len(told), "two sentences begin with the same words: raise CODE_WORDS"


def test_each_note_of_a_card_is_in_the_catalogue_and_none_besides() -> None:
    notes = {note for card in catalog.load().cards.values() for note in card.notes}
    found = {k: e["en"] for k, e in messages.entries("reasons").items() if ".note." in k}
    assert found == {f"reasons.note.{code_of(note, NOTE_WORDS)}": note for note in notes}
    assert len(found) == len(notes), "two notes begin with the same words: raise NOTE_WORDS"
    for note in notes:
        assert CHINESE.search(messages.tell(noted(note), "zh")), note
        assert messages.tell(noted(note), "en") == note
    assert messages.tell(noted("vLLM 0.32 registers no parser, says the owner."), "zh")[:9] == (
        "vLLM 0.32"
    ), "another sentence is shown as written"


def test_each_scenario_of_the_simulated_provider_is_told_in_both_languages() -> None:
    found = {k.rpartition(".")[2]: e["en"] for k, e in messages.entries("fake").items()}
    assert found == {name: one.meaning for name, one in SCENARIOS.items()}


def test_why_a_gpu_is_not_supported_is_in_the_catalogue() -> None:
    group = "reasons.gpu_refused."
    found = {k: e["en"] for k, e in messages.entries("reasons").items() if k.startswith(group)}
    assert found == {f"{group}{key}": row.reason for key, row in gpu.load().unsupported.items()}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: {zh: 甲, en: a}\nb: {zh: 乙, en: b}\na: {zh: 丙, en: c}", "line 3: 'a' .* in line 1"),
        ("a:\n  b: {zh: 甲, en: a}\n  b: {zh: 乙, en: b}", "line 3: 'b' .* in line 2"),
        ("a: {zh: 甲, zh: 乙, en: a}", "line 1: 'zh'"),
        ("a: [", "x.yaml"),
        ("a: text", "x.yaml: a: neither a message nor a group"),
        ("- a", "x.yaml: messages are a mapping"),
    ],
)
def test_a_book_with_a_key_twice_or_none_that_can_be_read_is_refused_by_its_line(
    text: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(wordbook.BookError, match=why):
        list(wordbook.entries(file))


def test_a_sentence_made_below_is_told_by_its_code_and_english_as_a_string() -> None:
    said = Worded("trace.gap", "a gap of {seconds} s, taken for no demand", seconds="900")
    assert str(said) == "a gap of 900 s, taken for no demand"
    assert messages.tell(said, "zh") == "有 900 秒的空档，按没有需求处理"
    assert messages.tell(said, "en") == str(said)
    assert messages.tell(Worded("not.known", "{a} odd", a=1), "zh") == "1 odd"


def test_an_error_keeps_code_and_values_of_what_it_says() -> None:
    said = Worded("trace.none", "{path}: no requests", path="x.csv")
    assert of(ValueError(said)) is said
    assert of(ValueError("plain")) == "plain"
    assert of(ValueError()) == ""
    assert messages.tell(lines("head", [said, "plain"]), "zh") == "head\n  x.csv：没有请求\n  plain"
    assert pickle.loads(pickle.dumps(said)) == str(said)


@pytest.mark.parametrize(
    ("flag", "environ", "language"),
    [
        ("", {}, "en"),
        ("", {"LANG": "C.UTF-8"}, "en"),
        ("", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("", {"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ("", {"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_TW"}, "zh"),
        ("", {"LANG": "zh_CN.UTF-8", "BALLAST_LANG": "en"}, "en"),
        ("zh-CN", {"BALLAST_LANG": "en"}, "zh"),
        ("ZH", {}, "zh"),
    ],
)
def test_flag_then_variable_then_locale_choose_the_language(
    flag: str, environ: dict[str, str], language: str
) -> None:
    assert chosen.chosen(flag, environ) == language


@pytest.mark.parametrize(
    ("flag", "environ", "source"),
    [("fr", {}, "--lang"), ("", {"BALLAST_LANG": "klingon"}, "BALLAST_LANG")],
)
def test_a_language_that_is_not_there_is_named_with_its_source(
    flag: str, environ: dict[str, str], source: str
) -> None:
    with pytest.raises(chosen.UnknownLanguageError, match=rf"^{source}: no language .*zh or en"):
        chosen.chosen(flag, environ)


def test_a_message_told_later_is_english_until_then() -> None:
    said = Said("cli.what_to_do")
    assert str(said) == "what to do:"
    assert said.told("zh") == "处理："


def test_values_that_are_messages_or_lists_speak_the_language_too() -> None:
    value = (Said("cli.mend_settings"), "vllm")
    assert messages.told(value, "zh") == "按它所指改正配置、vllm"
    assert messages.told(value, "en") == "mend the settings it names, vllm"


def test_an_unknown_name_of_a_group_is_shown_as_it_is() -> None:
    assert messages.named("cli", "what_to_do", "zh") == "处理："
    assert messages.named("cli", "of_a_newer_gateway", "zh") == "of_a_newer_gateway"


def test_an_unknown_key_or_a_missing_value_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        messages.text("cli.not_there", "en")
    with pytest.raises(KeyError):
        messages.text("no_such_file.key", "en")


@pytest.mark.parametrize(
    ("said", "asked", "rest"),
    [
        (["--lang", "zh", "status"], "zh", ["status"]),
        (["status", "--json", "--lang=zh"], "zh", ["status", "--json"]),
        (["chat", "--", "--lang", "zh"], "", ["chat", "--", "--lang", "zh"]),
        (["status", "--lang"], "?", ["status"]),
    ],
)
def test_the_flag_is_taken_wherever_it_stands(said: list[str], asked: str, rest: list[str]) -> None:
    assert speaking.taken(said) == (asked, rest)


def test_a_run_speaks_its_language_and_the_next_its_own(tmp_path: Path) -> None:
    runner = CliRunner(env={"XDG_STATE_HOME": str(tmp_path), "BALLAST_LANG": "", "LC_ALL": "C"})
    wrong = ["status", "--config", str(tmp_path / "not-there.yaml")]
    chinese = runner.invoke(app, [*wrong, "--lang", "zh"])
    assert (chinese.exit_code, "处理：" in chinese.stderr) == (3, True)
    english = runner.invoke(app, wrong)
    assert (english.exit_code, "what to do:" in english.stderr) == (3, True)


def test_a_language_that_is_not_there_is_refused_before_any_command() -> None:
    found = CliRunner().invoke(app, ["status", "--lang", "xx"])
    assert found.exit_code == 2
    assert "--lang: no language 'xx': zh or en" in found.stderr


def test_each_rule_that_keeps_a_target_out_is_told_in_both_languages() -> None:
    group = "explain.dropped."
    told = {k.removeprefix(group): e["en"] for k, e in messages.entries("explain").items()
            if k.startswith(group)}  # fmt: skip
    assert told == candidates.WORDS


def test_a_reason_crosses_to_another_process_with_its_code_and_values() -> None:
    why = Worded("scale.calls", "queue {queued}{note}", queued=3, note="")
    said = Worded("scale.few", "{ready} ready are too few: {why}", ready=1, why=why)
    sent = json.loads(json.dumps(packed(said)))
    there = unpacked(sent, str(said))
    assert str(there) == str(said)
    assert isinstance(there, Worded)
    assert (there.code, str(there.values["why"])) == ("scale.few", str(why))
    assert packed("plain") is None
    assert type(unpacked(None, "plain")) is str


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["status", "--jsn"], ["没有 --jsn 这个选项；是不是 --json", "用法见：", "status -h"]),
        (["chat"], ["还要给出", "TEXT", "用法见："]),
        (["chat", "x", "--max-tokens", "0"], ["--max-tokens", "的值不对", "用法见："]),
        (["tenants", "lst"], ["命令行有误：", "可用的命令：", "create、list"]),
    ],
)
def test_what_the_parser_refuses_is_told_in_chinese(said: list[str], words: list[str]) -> None:
    found = CliRunner().invoke(app, [*said, "--lang", "zh"])
    assert found.exit_code == 2
    for word in words:
        assert word in found.stderr
    assert "Traceback" not in found.stderr


def test_a_command_without_words_shows_its_help_once_in_chinese() -> None:
    found = CliRunner().invoke(app, ["--lang", "zh"])
    assert found.exit_code == 2
    assert (found.output.count("用法："), "命令行有误" in found.output) == (1, False)
