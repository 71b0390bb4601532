"""The table of `ballast models check`: how far predictions are off, in the reader's language."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.text import Text

from ballast.messages import say, tell
from ballast.messages.chosen import spoken
from ballast.wide import Wide
from models.report_lines import Line


def table(lines: Iterable[Line]) -> Group:
    """One row a line, with whether it keeps our target."""
    rows = [
        (tell(one.what, spoken()), f"{one.points}", f"{one.error:.1%}", _met(one)) for one in lines
    ]
    columns = ("what", ">points", ">mean error", "within")
    return Group(Text(say("models.check")), Wide(columns, rows, less=("points",)))


def _met(one: Line) -> str:
    key = "models.met" if one.error <= one.target else "models.missed"
    return say(key, target=f"{one.target:.0%}")
