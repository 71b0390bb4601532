"""The known trouble of all cards as one table: what goes wrong, when, and what we do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from models.card import Card, KnownBad, When
from models.markdown import code, table, tokens

SHOWN_MAX = 3
"""Models that are named in a row; the others are counted."""


def traps(cards: Iterable[Card]) -> Iterator[str]:
    """One row for each trap, however many cards share it."""
    found: dict[KnownBad, list[str]] = {}
    for card in cards:
        for bad in card.known_bad:
            found.setdefault(bad, []).append(card.id)
    rows = (
        [bad.issue, _models(ids), _when(bad.when), bad.what, _action(bad)]
        for bad, ids in sorted(found.items(), key=lambda item: (item[0].action, item[0].issue))
    )
    return table(("issue", "models", "when", "what happens", "what we do"), rows)


def _models(ids: list[str]) -> str:
    shown = ", ".join(map(code, ids[:SHOWN_MAX]))
    return shown if len(ids) <= SHOWN_MAX else f"{shown} and {len(ids) - SHOWN_MAX} more"


def _when(when: When) -> str:
    words = [
        f"compute capability from {when.sm_from}" if when.sm_from else "",
        f"below {when.sm_below}" if when.sm_below else "",
        ", ".join(when.gpus),
        ", ".join(when.formats),
        " with ".join(feature.replace("_", " ") for feature in when.features),
        f"beyond {tokens(when.context_above)} tokens" if when.context_above else "",
    ]
    return "; ".join(word for word in words if word) or "always"


def _action(bad: KnownBad) -> str:
    match bad.action:
        case "add_args":
            return f"add {code(' '.join(bad.args))}"
        case "drop_feature":
            return f"switch {str(bad.drop).replace('_', ' ')} off"
        case "refuse":
            return "refuse"
        case _:
            return "say so"
