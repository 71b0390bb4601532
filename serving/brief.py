"""What a failure's text says in one line: Ray sends whole tracebacks, coloured. Pure."""

from __future__ import annotations

import re

REASON_CHARS_MAX = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CLASS = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception)): ")


def brief(message: str) -> str:
    """The last line that says something, without the module of its exception. All of it stands in
    the replica's log."""
    plain = _COLOUR.sub("", message)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return _CLASS.sub(r"\1: ", lines[-1])[:REASON_CHARS_MAX] if lines else ""
