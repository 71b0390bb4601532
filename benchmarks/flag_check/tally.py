"""What the catalogue says of all cases, counted. Pure; vLLM is not asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.flag_check.cases import Case
from models.card import KnownBad
from models.flags import Flags
from models.rules import matches

NUMBER = re.compile(r"\d[\d.,]*")
GPU = re.compile(r"NVIDIA .*? SXM")


@dataclass(slots=True)
class Tally:
    """Counts of cases."""

    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By card and kind of GPU."""
    accepted: Counter[tuple[str, str]] = field(default_factory=Counter)
    variants: dict[str, dict[str, None]] = field(default_factory=dict)
    """Of each card."""
    refused: Counter[str] = field(default_factory=Counter)
    """By the first reason, its numbers left out."""
    example: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each: a case and its reason in full."""
    gated: Counter[KnownBad] = field(default_factory=Counter)
    """Cases that known trouble would have met; what we only warn of is not among them."""

    def of(self, counts: Counter[tuple[str, str]], *, card: str = "", kind: str = "") -> int:
        """A sum over cards, kinds or both."""
        return sum(n for (c, k), n in counts.items() if card in ("", c) and kind in ("", k))


def tally(cases: Iterable[Case]) -> Tally:
    """Count them."""
    found = Tally()
    for case in cases:
        _count(found, case)
    return found


def _count(found: Tally, case: Case) -> None:
    key = case.card.id, case.gpu.id
    found.asked[key] += 1
    found.variants.setdefault(case.card.id, {})[case.asked.variant] = None
    variant = case.card.variants[case.asked.variant]
    for bad in case.card.known_bad:
        if bad.action != "warn" and matches(bad.when, variant, case.gpu, case.asked):
            found.gated[bad] += 1
    flags = case.flags()
    if isinstance(flags, Flags):
        found.accepted[key] += 1
        return
    kind = plain(flags.reasons[0])
    found.refused[kind] += 1
    found.example.setdefault(kind, (case.name, flags.reasons[0]))


def plain(reason: str) -> str:
    """A reason without its numbers and its GPU, by which alike ones are counted."""
    return NUMBER.sub("N", GPU.sub("this GPU", reason))
