"""Remembers what texts of inputs were found to hold: a talk sends its whole past with each turn,
and a task its instructions with each request. Pure.

A text is known by a digest that nobody outside can compute and that belongs to one tenant: no
tenant's timing tells what another one sent, and no text is kept. What was found is kept as places
in it. All of it holds for one state of the term lists; whoever changes them begins a new memory.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from serving.guard.terms import Terms
from serving.guard.values import Personal, Term

UNITS_MAX = 65_536
"""Texts, and places found in them: 256 bytes each at most, so 16 MiB in all."""
PLACES_MAX = 256
"""A text in which more was found is read each time."""


class Held(NamedTuple):
    """What one text holds, for the policy of its tenant."""

    personal: tuple[Personal, ...] = ()
    terms: tuple[Term, ...] = ()
    """As reported, one for each place."""
    masked: tuple[tuple[int, int], ...] = ()
    """What is masked of it, as offsets."""

    @property
    def places(self) -> int:
        """How much there is to keep."""
        return len(self.personal) + len(self.terms) + len(self.masked)


NOTHING = Held()


class Memory:
    """Of all tenants, for one state of the lists. In two generations: when the young one is full it
    takes the place of the old one, so what was not met for long is forgotten. Threads may share it:
    each step is one operation on a dictionary, and what two find of one text is the same."""

    def __init__(self, secret: bytes, terms: Terms | None, units_max: int = UNITS_MAX) -> None:
        self.terms = terms
        """Those that hold for it."""
        self._secret = secret
        self._half = units_max // 2
        self._units = 0
        self._young: dict[bytes, Held] = {}
        self._old: dict[bytes, Held] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def of(self, tenant: str) -> Recall:
        """That of one tenant."""
        return Recall(self, hashlib.sha256(self._secret + tenant.encode() + b"\0"))

    def get(self, key: bytes) -> Held | None:
        """What is known under a key."""
        held = self._young.get(key)
        if held is None:
            held = self._old.get(key)
            if held is not None:
                self.put(key, held)
        return held

    def put(self, key: bytes, held: Held) -> None:
        """Keep it, for as long as there is room."""
        if held.places > PLACES_MAX:
            return
        if self._units >= self._half:
            self._old, self._young, self._units = self._young, {}, 0
        self._young[key] = held
        self._units += 1 + held.places


class Recall:
    """A tenant's part of a memory."""

    __slots__ = ("_begun", "_memory")

    def __init__(self, memory: Memory, begun: hashlib._Hash) -> None:
        self._memory = memory
        self._begun = begun

    def get(self, text: str, cue: str = "") -> Held | None:
        """What is known of a text behind a cue."""
        return self.known(self.key(text, cue))

    def put(self, text: str, held: Held, cue: str = "") -> None:
        """Keep what it holds; nothing of one that is no UTF-8."""
        self.keep(self.key(text, cue), held)

    def key(self, text: str, cue: str = "") -> bytes | None:
        """What stands for a text behind a cue; None for one that is no UTF-8."""
        made = self._begun.copy()
        try:
            made.update(f"{len(cue)}:{cue}{text}".encode())
        except UnicodeEncodeError:
            return None
        return made.digest()

    def known(self, key: bytes | None) -> Held | None:
        """What is known of the text of a key."""
        return self._memory.get(key) if key is not None else None

    def keep(self, key: bytes | None, held: Held) -> None:
        """Keep what the text of a key holds."""
        if key is not None:
            self._memory.put(key, held)
