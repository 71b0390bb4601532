"""Shows how the parts come up: a live table on a terminal, one plain line per change elsewhere.

What is meant to be copied is written plainly at column 0, so that no width or markup breaks it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ballast.messages import Language, Said, named, text
from ballast.wide import pad

STYLES = {"ready": "green", "starting": "yellow", "failed": "red", "stopped": "dim"}
STATES = {
    "listening": "ready", "ready": "ready", "asleep": "ready", "failed": "failed",
    "died": "failed", "given_up": "failed", "stopping": "stopping", "stopped": "stopped",
    **dict.fromkeys(
        ("started", "ray_starting", "ray_up", "fetching", "weights_ready", "app_submitted",
         "replica_starting", "loading", "start_failed", "unready", "ray_lost"), "starting"),
}  # fmt: skip
"""Event -> state; its words, with the event's own fields, are in the catalogue."""
_SILENT = ("stopping", "stopped")


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def describe(event: dict[str, Any], language: Language = "en") -> tuple[str, str] | None:
    """(state, words) of an event; None for one that nobody needs to see."""
    name = str(event.get("event"))
    state = STATES.get(name)
    if state is None:
        return None
    if name in _SILENT:
        return state, ""
    words = named("up.event", name, language).format_map(_Blank(event))
    return state, " ".join(words.split())


class Board:
    """The state of each part, shown as it changes."""

    def __init__(
        self, names: list[str], console: Console | None = None, language: Language = "en"
    ) -> None:
        self._console = console or Console()
        self._language = language
        self._started_s = time.monotonic()
        self._rows: dict[str, tuple[str, str, float]] = dict.fromkeys(names, ("waiting", "", 0.0))
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    def update(self, name: str, event: dict[str, Any]) -> None:
        """Show one event of one part."""
        seen = describe(event, self._language)
        if seen is None:
            return
        state, words = seen
        if self._rows.get(name, ("", "", 0.0))[:2] == (state, words):
            return
        self._rows[name] = (state, words, self._elapsed_s())
        if self._live is None:
            part, shown = pad(self._part(name), 10), pad(self._state(state), 9)
            self.say(f"{self._elapsed_s():7.1f} s  {part} {shown} {words}".rstrip())

    def is_ready(self) -> bool:
        """Whether every part is ready."""
        return all(state == "ready" for state, _, _ in self._rows.values())

    def finish(self) -> None:
        """End the live table and leave its last state; later changes come as plain lines."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._table())

    def tell(self, message: Said) -> None:
        """One message, in the board's language."""
        self.say(message.told(self._language))

    def say(self, line: str) -> None:
        """One line, exactly as it is."""
        if self._live is not None:
            self._console.print(Text(line), soft_wrap=True)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def _part(self, name: str) -> str:
        return named("up.part", name, self._language)

    def _state(self, state: str) -> str:
        return named("up.state", state, self._language)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for key in ("up.column", "up.state_column"):
            table.add_column(text(key, self._language))
        table.add_column("")
        table.add_column(text("up.after", self._language), justify="right")
        for name, (state, words, at_s) in self._rows.items():
            since_s = at_s if state in ("ready", "stopped", "failed") else self._elapsed_s()
            shown = Text(self._state(state), STYLES.get(state, ""))
            table.add_row(self._part(name), shown, words, f"{since_s:.0f} s")
        return table
