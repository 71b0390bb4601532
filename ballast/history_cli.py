"""`ballast history`: every change of the directory, and whether any was altered since."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ballast.admin_client import desk, keep
from ballast.admin_flags import AsJson, Config, KeyFile
from ballast.admin_words import Row, clean, reason, table, when
from ballast.messages import say
from ballast.printing import print_json

SHOWN_MAX = 1000
HEAD_FILE = "history-head"
history = typer.Typer(
    help="Every change, by whom and why; `verify` checks that none was altered.",
    invoke_without_command=True,
)
After = Annotated[int, typer.Option(help="Only those above this number.", min=0)]


class Head(msgspec.Struct, frozen=True):
    """An entry as it was seen."""

    number: int
    hash: str


def read(
    context: typer.Context,
    after: After = 0,
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show changes in order, the first thousand of those that are asked for."""
    if context.invoked_subcommand is not None:
        return
    found = desk(config, key_file).get("/history", after=after, limit=SHOWN_MAX)["entries"]
    if as_json:
        print_json(found)
        return
    rows = [
        (e["number"], say("desk.unreadable"))
        if e.get("is_unreadable")
        else (e["number"], when(e["at_ms"]), e["actor"], e["action"], e["subject"], why(e))
        for e in found
    ]
    table(("number", "at", "by", "did", "what", "why"), rows)
    if len(found) == SHOWN_MAX:
        typer.echo(say("desk.more_after", number=found[-1]["number"]))


def why(entry: Row) -> str:
    """The reason that an entry keeps; the controller's own has its code beside it."""
    return reason({"why": entry["why"], "said": (entry.get("details") or {}).get("said")}, "why")


@history.command()
def verify(
    number: Annotated[int, typer.Option(help="Of an entry you kept; else the last seen.")] = 0,
    head: Annotated[str, typer.Option(help="That entry's hash.")] = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole chain, and that it still holds the end it had when this was last asked here.

    A chain that was cut off or written anew shows only against an end kept elsewhere.
    """
    client = desk(config, key_file)
    file = client.settings.state_dir.expanduser() / HEAD_FILE
    kept = Head(number, head) if number else _kept(file)
    found = client.get("/history/verify", number=kept.number or None, head=kept.hash)
    end = Head(**found["head"])
    if found["is_whole"] and end.number:
        keep(file, msgspec.json.encode(end).decode())
    if as_json:
        print_json(found)
    elif found["is_whole"]:
        against = say("desk.against", number=kept.number) if kept.number else ""
        typer.echo(say("desk.whole", number=end.number, against=against))
        typer.echo(say("desk.elsewhere", number=end.number, hash=end.hash))
    else:
        for one in found["breaks"]:
            typer.echo(say("desk.broken", what=clean(one["what"])), err=True)
    raise typer.Exit(0 if found["is_whole"] else 1)


def _kept(file: Path) -> Head:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Head)
    except (OSError, msgspec.DecodeError):
        return Head(0, "")
