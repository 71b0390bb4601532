"""To the terminal: tables for people, JSON for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType

from ballast.messages import Said, say
from ballast.problem import ProblemError

WIDTH = 170
"""Where the output is no terminal, so that tables do not break."""


def show(*parts: RenderableType) -> None:
    """Print tables and lines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    for part in parts:
        console.print(part)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    encoded = msgspec.json.encode(value, enc_hook=_plain, order="deterministic")
    typer.echo(msgspec.json.format(encoded))


def write_page(path: Path, text: str) -> None:
    """Write a page and say where. Raises ProblemError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProblemError(f"{path}: {error.strerror}", Said("cli.name_file")) from None
    typer.echo(say("cli.page", path=path), err=True)


def _plain(value: Any) -> Any:
    if isinstance(value, str):  # a message, or a sentence that remembers its code
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"no JSON for {type(value).__name__}")
