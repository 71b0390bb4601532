"""`ballast explain`: one request that was, or one that nobody has sent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ballast import explain as explaining
from ballast import hypothetical as supposing
from ballast.messages.chosen import spoken
from ballast.running import settings_of
from ballast.sentences import Told

group = typer.Typer()
Guard: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]
_Tokens = Annotated[int | None, typer.Option(min=1, help="Of that call.")]


def guarded(guard: Guard) -> typer.Typer:
    """The command, wrapped so that a problem is told in words."""
    for info in group.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    return group


@group.command("explain")
def explain(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="From x-request-id; else the latest.")
    ] = "",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (YAML).", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="All its targets, as things stand now.")
    ] = False,
    model: Annotated[str, typer.Option(help="Of a call nobody has sent: where would it go?")] = "",
    prompt_tokens: _Tokens = None,
    max_tokens: _Tokens = None,
    latency_class: Annotated[
        str, typer.Option("--class", help="live, interactive, patient or batch.")
    ] = "",
    tenant: Annotated[
        str,
        typer.Option(
            help="Whose residency and substitutes count; else those of the one in the settings."
        ),
    ] = "",
    residency: Annotated[
        str, typer.Option(help="premises, mainland, anywhere or countries: tighter only.")
    ] = "",
    overflow: Annotated[str, typer.Option(help="never or allowed.")] = "",
    header: Annotated[str, typer.Option(help="`name: value`, for rules that read one.")] = "",
    tools: Annotated[bool, typer.Option("--tools", help="It brings tools.")] = False,
) -> None:
    """Tell one request: who asked, where it went and why, each try, what it waited and cost. With
    --model, of a call that nobody has sent: every target, its score, and what keeps it out."""
    settings = settings_of(config)
    if model:
        whose = tenant or supposing.only_tenant(settings)
        asked = supposing.Asked(
            model, prompt_tokens, max_tokens, latency_class, residency, whose, overflow, header,
            tools,
        )  # fmt: skip
        _show(supposing.ask(settings, asked), as_json, "" if tenant else whose)
        return
    found = explaining.find(settings, request_id)
    if candidates and found.line is not None:
        _show(supposing.ask(settings, supposing.again(found.line)), as_json)
    elif as_json:
        typer.echo(explaining.as_json(found))
    else:
        _print(story(explaining.tell(found, spoken())), 100)


def story(told: Told) -> Table:
    """Headings and sentences; what is too long for a line goes on, for Chinese has no blanks at
    which to break, and an ellipsis would hide a name."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, text in told:
        table.add_row(heading, Text(text, overflow="fold"))
    return table


def _show(found: dict[str, Any], as_json: bool, taken: str = "") -> None:
    """`taken`: the tenant for whom it was asked without being told."""
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        _print(supposing.tell(found, taken), 200)


def _print(what: Any, width: int) -> None:
    Console(highlight=False, width=None if sys.stdout.isatty() else width).print(what)
