"""Durations and token counts as people type them: `50ms`, `2s`, `32k`."""

from __future__ import annotations

import re

import typer

from ballast.messages import say

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0}
_TOKENS = {"": 1, "k": 1024, "m": 1024 * 1024}


def seconds(text: str | float) -> float:
    """`50ms`, `2s`, `1.5` (seconds); a default comes as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min)?", str(text).strip().lower())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(say("problem.no_duration", text=repr(text)))
    return float(found[1]) * _SECONDS[found[2] or ""]


def tokens(text: str | int) -> int:
    """`4000`, `32k` (x 1024), `1m`; a default comes as a number."""
    found = re.fullmatch(r"(\d+)\s*([km])?", str(text).strip().lower())
    if found is None or int(found[1]) < 1:
        raise typer.BadParameter(say("problem.no_tokens", text=repr(text)))
    return int(found[1]) * _TOKENS[found[2] or ""]
