"""Which public name meant what from when to when, out of the directory's history. Pure.

Two kinds of entries tell: the settings in force, which each gateway writes down when they change,
and rollouts. As the history is a hash chain, so is what is read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SETTINGS = "settings:policy"


class Span(NamedTuple):
    """One meaning of a name."""

    name: str
    meaning: str
    """A model, or shares of two; empty: the name was not there."""
    from_ms: int
    until_ms: int | None
    """None: until now."""
    number: int
    """Of the entry that began it."""
    actor: str
    why: str
    said: Mapping[str, Any] | None = None
    """Why, by code and values, where a rule said it (`models.worded`)."""


def spans(entries: Iterable[Mapping[str, Any]], name: str) -> list[Span]:
    """The meanings of a name in order, from entries in order. A policy too large to be kept whole
    tells nothing of names and is passed over."""
    meant, moved = "", ""
    found: list[Span] = []
    for entry in entries:
        subject, details = entry.get("subject"), entry.get("details", {})
        if subject == SETTINGS:
            models = details.get("policy", {}).get("models", {})
            if "sha256" not in models:
                meant = _model(models, name)
        elif subject == f"rollout:{name}":
            moved = _moved(details)
        else:
            continue
        meaning = moved or meant
        if found and found[-1].meaning == meaning:
            continue
        if found:
            found[-1] = found[-1]._replace(until_ms=entry["at_ms"])
        if found or meaning:
            found.append(Span(name, meaning, entry["at_ms"], None, entry["number"],
                              entry["actor"], entry["why"], details.get("said")))  # fmt: skip
    return found


def _model(models: Mapping[str, Any], name: str) -> str:
    for model, row in models.items():
        if name == model or name in row.get("aliases", ()) or name in row.get("adapters", ()):
            return str(model)
    return ""


def _moved(details: Mapping[str, Any]) -> str:
    """What a rollout makes of a name; empty: what the settings say."""
    percent = details.get("percent", 0)
    if percent == 100:
        return str(details["new"])
    if percent:
        return f"{100 - percent} % {details['old']}, {percent} % {details['new']}"
    return ""
