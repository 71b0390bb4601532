"""`--help` in Chinese: each text of each command, none too wide, none forgotten."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
import typer.main
from rich.cells import cell_len
from typer.testing import CliRunner

from ballast import helping, messages
from ballast.cli import app
from ballast.wide import folded

ROOT: Any = typer.main.get_command(app)
COMMANDS = list(helping.all_of(ROOT))
THERE = {
    helping.plain(text): command.name
    for command in COMMANDS
    for text in (command.help, *(getattr(flag, "help", "") for flag in command.params))
    if text
}
THE_LIBRARYS = "Show this message and exit."
CHINESE = re.compile("[\u3001-\u9fff\uff08-\uff1f]")
SAME_IN_BOTH = {
    "0.8=smaller_model:NAME, 0.9=local_only, 0.9=queue_longer:30, 1=refuse",
}  # fmt: skip


def test_each_help_text_has_a_chinese_one_and_no_other_has() -> None:
    told = messages.help_texts()
    forgotten = [f"{name}: {text}" for text, name in THERE.items() if text not in told]
    assert not forgotten, "add to ballast/messages/help/texts.yaml:\n" + "\n".join(forgotten)
    left = [text for text in told if text not in {*THERE, THE_LIBRARYS}]
    assert not left, "nothing says any more:\n" + "\n".join(left)
    english = [text for text, zh in told.items() if not CHINESE.search(zh)]
    assert set(english) == SAME_IN_BOTH


def test_each_page_keeps_its_width_and_ends_no_text_early() -> None:
    told = messages.help_texts()
    for command in COMMANDS:
        context = typer.Context(command, info_name="x", help_option_names=["-h", "--help"])
        lines = helping.page(command, context, told, 72)
        wide = [line for line in lines if cell_len(line) > 72 and "用法" not in line]
        assert not wide, f"{command.name}: {wide}"
        shown = "".join(lines).replace(" ", "")
        for flag in command.params:
            text = told.get(helping.plain(getattr(flag, "help", None) or ""), "")
            assert text.replace(" ", "") in shown, f"{command.name}: {text}"


def test_help_is_chinese_where_it_is_asked_and_english_elsewhere() -> None:
    runner = CliRunner(env={"LC_ALL": "C", "BALLAST_LANG": ""})
    chinese = runner.invoke(app, ["keys", "request", "-h", "--lang", "zh"])
    assert chinese.exit_code == 0
    assert "--why <str>          用途。 [必填]" in chinese.stdout
    assert "Options" not in chinese.stdout
    english = runner.invoke(app, ["keys", "request", "-h"])
    assert "What it is for." in english.stdout
    assert "用途" not in english.stdout


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("价格是几倍，另加", ["价格是几", "倍，另加"]),
        ("价格是几，另加", ["价格是", "几，另加"]),
        ("用 --config 指定", ["用", "--config", "指定"]),
        ("a-word-too-long", ["a-word-t", "oo-long"]),
        ("", []),
    ],
)
def test_a_line_breaks_beside_characters_and_never_before_a_mark(
    text: str, lines: list[str]
) -> None:
    assert folded(text, 8) == lines
