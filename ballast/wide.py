"""Tables for people: a wide one leaves columns out, the least important first, where the terminal
is too narrow for all, and says which; none is cut to an ellipsis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ballast.messages import named, say
from ballast.messages.chosen import spoken

_PIECE = re.compile(
    r"\s+|[（「“《]*(?:[\u2e80-\u9fff]|[^\s\u2e80-\u9fff\uff00-\uffef]+|.)[，。、；：）」”》！？…]*"
)
"""A blank, a Chinese character or a word, with the marks that may not stand apart from it."""


def table(*columns: str, title: str = "") -> Table:
    """An empty table; a column that begins with `>` is aligned to the right."""
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        name = column.removeprefix(">")
        side: Literal["right", "left"] = "right" if column.startswith(">") else "left"
        made.add_column(named("admin.column", name, spoken()), justify=side, overflow="fold")
    return made


def pad(text: str, cells: int) -> str:
    """Blanks after a text up to a width; a Chinese character is two cells wide."""
    return set_cell_size(text, max(cells, cell_len(text)))


def folded(text: str, cells: int) -> list[str]:
    """The lines of a text, at most so wide: broken at blanks and beside Chinese characters, never
    inside a word (but one wider than a line), nor before a mark that ends something."""
    lines, line = [], ""
    for piece in _PIECE.findall(text):
        if line and cell_len(line) + cell_len(piece.rstrip()) > cells:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
        while cell_len(line.rstrip()) > cells:
            head = set_cell_size(line, cells).rstrip()
            lines.append(head)
            line = line[len(head) :].lstrip()
    return [*lines, line.rstrip()] if line.strip() else lines


class Wide:
    """A table that fits, as far as leaving out the columns of `less` makes it."""

    def __init__(
        self,
        columns: Sequence[str],
        lines: Sequence[Sequence[str]],
        less: Sequence[str],
        title: str = "",
    ) -> None:
        self._columns = columns
        self._lines = lines
        self._less = less
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Called by rich with the width there is."""
        gone: list[str] = []
        made = self._without(gone)
        for name in self._less:
            if Measurement.get(console, options.update(max_width=10_000), made).maximum <= (
                options.max_width
            ):
                break
            gone.append(name)
            made = self._without(gone)
        yield made
        if gone:
            yield Text(
                say("cli.left_out", names=[named("admin.column", one, spoken()) for one in gone])
            )

    def _without(self, gone: Sequence[str]) -> Table:
        kept = [i for i, name in enumerate(self._columns) if name.removeprefix(">") not in gone]
        made = table(*(self._columns[i] for i in kept), title=self._title)
        for line in self._lines:
            made.add_row(*(line[i] for i in kept))
        return made
