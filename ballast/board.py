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

STYLES = {"ready": "green", "starting": "yellow", "failed": "red", "stopped": "dim"}
WORDS = {
    "started": ("starting", "process {pid}"),
    "listening": ("ready", "{url}"),
    "ray_starting": ("starting", "starting Ray"),
    "ray_up": ("starting", "Ray is up"),
    "fetching": ("starting", "{model}: {gib} GiB of weights fetched"),
    "weights_ready": ("starting", "weights of {model} ready after {seconds} s"),
    "app_submitted": ("starting", "{model}: engine requested"),
    "replica_starting": ("starting", "{model}: replica starting"),
    "loading": ("starting", "{model}: loading into the engine"),
    "ready": ("ready", "{model}"),
    "asleep": ("ready", "{model}: no replica wanted"),
    "start_failed": ("starting", "{model}: start failed, trying again: {reason}"),
    "unready": ("starting", "{model}: not ready {reason}"),
    "ray_lost": ("starting", "Ray died ({reason}); starting it again"),
    "failed": ("failed", "{model} {reason}"),
    "died": ("failed", "ended with code {code}; again in {again_in_s} s"),
    "given_up": ("failed", "keeps ending (code {code}); given up, see its log"),
    "stopping": ("stopping", ""),
    "stopped": ("stopped", ""),
}
"""Event -> (state, words with the event's own fields)."""


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def describe(event: dict[str, Any]) -> tuple[str, str] | None:
    """(state, words) of an event; None for one that nobody needs to see."""
    known = WORDS.get(str(event.get("event")))
    if known is None:
        return None
    state, words = known
    return state, " ".join(words.format_map(_Blank(event)).split())


class Board:
    """The state of each part, shown as it changes."""

    def __init__(self, names: list[str], console: Console | None = None) -> None:
        self._console = console or Console()
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
        seen = describe(event)
        if seen is None:
            return
        state, words = seen
        if self._rows.get(name, ("", "", 0.0))[:2] == (state, words):
            return
        self._rows[name] = (state, words, self._elapsed_s())
        if self._live is None:
            self.say(f"{self._elapsed_s():7.1f} s  {name:<10} {state:<9} {words}".rstrip())

    def is_ready(self) -> bool:
        """Whether every part is ready."""
        return all(state == "ready" for state, _, _ in self._rows.values())

    def finish(self) -> None:
        """End the live table and leave its last state; later changes come as plain lines."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._table())

    def say(self, line: str) -> None:
        """One line, exactly as it is."""
        if self._live is not None:
            self._console.print(Text(line), soft_wrap=True)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for title in ("part", "state", "", "after"):
            table.add_column(title, justify="right" if title == "after" else "left")
        for name, (state, words, at_s) in self._rows.items():
            since_s = at_s if state in ("ready", "stopped", "failed") else self._elapsed_s()
            table.add_row(name, Text(state, STYLES.get(state, "")), words, f"{since_s:.0f} s")
        return table
