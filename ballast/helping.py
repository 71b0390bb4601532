"""`--help` in Chinese. In English it is the library's own; its pages break lines at blanks alone,
which Chinese has none of, so it would cut most of a text off.

The English text of a flag stands in the code beside it, and is the key of the Chinese one: ninety
commands share one text for `--json`. `tests/unit/test_help.py` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console

from ballast import messages
from ballast.messages import Language, text
from ballast.wide import folded, pad

NAMES_MAX = 34
"""Cells for the names of flags; where one is wider its text begins in the next line."""
COMMANDS_MAX = 14
WIDTH = 100
"""Cells where the output is no terminal."""


def spoken_in(command: Any, language: Language) -> None:
    """Let a command and all below it show their help in the language; they are made for one run."""
    if language == "en":
        return
    told = messages.help_texts()
    for one in all_of(command):
        one.format_help = partial(_show, one, told)


def all_of(command: Any) -> Iterator[Any]:
    """It, and every command below it."""
    yield command
    for one in getattr(command, "commands", {}).values():
        yield from all_of(one)


def plain(text: str) -> str:
    """As it is a key: line ends and indents are the code's."""
    return " ".join(text.split())


def page(command: Any, context: typer.Context, told: Mapping[str, str], width: int) -> list[str]:
    """The lines of a command's help in Chinese."""
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for flag in command.get_params(context):
        if (record := flag.get_help_record(context)) is not None:
            english = flag.help or ""
            more = _more(record[1].removeprefix(english).strip())
            said = told.get(plain(english), english)
            rows[flag.param_type_name].append((record[0], f"{said} {more}".strip()))
    usage = text("help.usage", "zh")
    lines = [f"{usage}{command.get_usage(context).partition(': ')[2]}", ""]
    for part in told.get(plain(command.help or ""), command.help or "").split("\n\n"):
        lines += [*folded(part, width), ""]
    lines += _listed("help.arguments", rows["argument"], NAMES_MAX, width)
    lines += _listed("help.options", rows["option"], NAMES_MAX, width)
    below = [(n, c.help or "") for n, c in getattr(command, "commands", {}).items() if not c.hidden]
    shown = [(name, told.get(plain(english), english)) for name, english in below]
    first = [(name, said.partition("\n\n")[0]) for name, said in shown]
    return [*lines, *_listed("help.commands", first, COMMANDS_MAX, width)]


def _show(command: Any, told: Mapping[str, str], context: typer.Context, _: Any) -> None:
    width = min(Console().width, WIDTH) if Console().is_terminal else WIDTH
    typer.echo("\n".join(page(command, context, told, width)).rstrip())


def _more(english: str) -> str:
    """What the library adds to a text: default, range, whether it must be given."""
    inside = english.removeprefix("[").removesuffix("]")
    for name in ("default", "required"):
        inside = inside.replace(text(f"help.{name}", "en"), text(f"help.{name}", "zh"))
    return f"[{inside}]" if inside else ""


def _listed(key: str, rows: Sequence[tuple[str, str]], most: int, width: int) -> list[str]:
    """A heading and two columns; a name too wide for its column has a line of its own."""
    if not rows:
        return []
    fits = [cell_len(name) for name, _ in rows if cell_len(name) <= most]
    column = max(fits, default=0)
    lines = [text(key, "zh")]
    for name, said in rows:
        told = folded(said, width - column - 4) or [""]
        if cell_len(name) > column:
            lines.append(f"  {name}")
            name = ""
        names = [name, *[""] * len(told)]
        lines += [f"  {pad(n, column)}  {t}".rstrip() for n, t in zip(names, told, strict=False)]
    return [*lines, ""]
