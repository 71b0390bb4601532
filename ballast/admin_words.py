"""What the admin commands print: tables for people, JSON for programs, a new key once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from ballast import plan, running
from ballast.admin_client import Client
from ballast.messages import Said, named, tell, text
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from models.worded import unpacked

Row = Mapping[str, Any]


def clean(value: Any) -> str:
    """A value as text that can do nothing to a terminal, whoever wrote it into the store."""
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, Mapping):
        value = " ".join(f"{name}={one}" for name, one in value.items() if one not in (None, ""))
    elif isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "".join(c if c.isprintable() or c == "\u3000" else "\ufffd" for c in str(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, or a dash where there is nothing."""
    language = spoken()
    heads = (named("admin.column", column, language) for column in columns)
    found = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        found.add_row(*(Text(clean(cell)) for cell in row))
    show(found if found.row_count else Text(text("admin.none", language)))


def reason(row: Row, name: str) -> str:
    """What a row says in the field `name`, by the code and values beside it where there are any."""
    return tell(unpacked(row.get("said"), str(row.get(name) or "")), spoken())


def when(at_ms: int) -> str:
    """A moment, UTC."""
    return datetime.fromtimestamp(at_ms / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def done(answer: Row, what: str, *, as_json: bool) -> None:
    """Tell what was done."""
    if as_json:
        print_json(answer)
    else:
        say_done("admin.did", what, answer)


def say_done(key: str, what: str, answer: Row) -> None:
    """One line of what was done to which row."""
    language = spoken()
    told = named("admin.done", what, language)
    typer.echo(text(key, language, what=told, id=clean(answer["id"])))


def echo(message: Said) -> None:
    """One line, in the language of this run."""
    typer.echo(message.told(spoken()))


def new_key(client: Client, answer: Row, what: str, *, as_json: bool) -> None:
    """Show a new API key, this once, and how to use it."""
    if as_json:
        print_json(answer)
        return
    settings = client.settings
    url, key = running.base_url(settings), str(answer["key"])
    model = settings.models[0].name if settings.models else plan.DEMO_MODEL
    say_done("admin.shown_once", what, answer)
    echo(Said("up.base_url", url=url))
    echo(Said("up.key", key=key))
    typer.echo(plan.curl(url, key, model))


def new_administrator(client: Client, answer: Row, *, as_json: bool) -> None:
    """Show a new administrator's key, this once, and how to use it."""
    if as_json:
        print_json(answer)
        return
    own = client.settings.gateway
    echo(Said("admin.new_admin", id=clean(answer["id"])))
    echo(Said("up.key", key=answer["key"]))
    echo(Said("admin.in_a_file"))
    url = f"http://{own.ops_host}:{own.ops_port}/admin/v1/directory"
    typer.echo(f"curl {url} -H 'Authorization: Bearer {answer['key']}'")
