"""What a card's known trouble changes about a layout, before anything is counted or started. Pure.

A feature that goes wrong is dropped, and its reason kept; a flag that mends it is added. A rule
about one feature goes before a rule about a pair: what cannot be had at all must not cost its
partner.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from models.card import Card, KnownBad
from models.gpu import Gpu
from models.layout import Layout
from models.rules import matches, trouble
from models.worded import Worded


class Settled(msgspec.Struct, frozen=True):
    """A layout with the features that may stay."""

    layout: Layout
    dropped: tuple[str, ...] = ()
    """One sentence for each feature that went."""


def settled(card: Card, gpu: Gpu, layout: Layout) -> Settled:
    """Drop the features that are known to go wrong there. Raises KeyError for an unknown
    variant."""
    variant = card.variants[layout.variant]
    dropped: list[str] = []
    for bad in sorted(card.known_bad, key=lambda bad: len(bad.when.features)):
        if bad.drop in layout.features and matches(bad.when, variant, gpu, layout):
            layout = msgspec.structs.replace(layout, features=layout.features - {bad.drop})
            template, why = "without {feature}: {why}", _told(bad)
            dropped.append(Worded("rules.without", template, feature=bad.drop, why=why))
    return Settled(layout, tuple(dropped))


def added(card: Card, gpu: Gpu, layout: Layout) -> Iterator[tuple[tuple[str, ...], str]]:
    """Flags that mend known trouble of a settled layout, with the reason."""
    variant = card.variants[layout.variant]
    for bad in card.known_bad:
        if bad.action == "add_args" and matches(bad.when, variant, gpu, layout):
            yield bad.args, _told(bad)


def _told(bad: KnownBad) -> str:
    return Worded("rules.known", "{what} ({issue})", what=trouble(bad), issue=bad.issue)
