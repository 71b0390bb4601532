"""`ballast models fit --flags`: how vLLM starts a layout, each flag with its reason."""

from __future__ import annotations

import shlex

import msgspec
import typer
from rich.table import Table

from ballast.messages import named, say, tell
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from models.card import Card
from models.flags import Refused, flags
from models.layout import Layout
from models.sizing import Knowledge


def started(known: Knowledge, card: Card, layout: Layout, as_json: bool) -> None:
    """Print flags and variables, or why it cannot start; exits 0 or 1."""
    found = flags(card, known.gpus.gpu(layout.gpu), layout)
    if as_json:
        print_json({"starts": not isinstance(found, Refused), **msgspec.structs.asdict(found)})
    elif isinstance(found, Refused):
        show(*(say("models.cannot_start", reason=reason) for reason in found.reasons))
    else:
        table = Table(
            *(named("admin.column", name, spoken()) for name in ("flag of vLLM", "because")),
            title=say("models.flags_on", name=card.name, gpus=layout.gpus, gpu=layout.gpu),
        )
        for flag in found.arguments:
            table.add_row(" ".join(map(shlex.quote, flag.words)), tell(flag.reason, spoken()))
        for variable in found.environment:
            table.add_row(f"{variable.name}={variable.value}", tell(variable.reason, spoken()))
        show(table, *(say("models.mind_caution", caution=caution) for caution in found.cautions))
    if isinstance(found, Refused):
        raise typer.Exit(1)
