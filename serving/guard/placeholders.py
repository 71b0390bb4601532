"""Stands placeholders in for personal data, and puts the data back into an answer in pieces. Pure.

A placeholder reads `MASKED_PHONE_1_kqzbtwhdpnrc`: a word a model can carry along, its kind, a
number, and twelve letters that belong to one request and that nobody outside can guess. Only the
exact spelling is replaced; what a model has mangled stays as it is and is counted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ahocorasick  # type: ignore[import-not-found]
import msgspec

from serving.guard.values import Kind, Personal
from serving.records import Label

WORD = "MASKED"
LETTERS = "bcdfghjknpqrstvwxyz"
"""No vowels, so that no word comes out; no m, so that no placeholder begins within another."""
NONCE_LETTERS = 12
"""19 letters, twelve times: 50 bits."""
NONCES_MAX = 8
VALUES_MAX = 9999
"""Different values in one request; what is beyond cannot be masked."""
_GAP = r"[ _\\-]{1,3}"
_NONCE = f"[{LETTERS}]"


def _begun(atoms: Sequence[str]) -> str:
    """A pattern for any beginning of a row of one-character patterns."""
    out = ""
    for atom in reversed(atoms):
        out = f"{atom}(?:{out})?" if out else atom
    return out


_TAIL_BEGUN = _begun([_GAP, r"\d{1,4}", _GAP, f"{_NONCE}{{1,{NONCE_LETTERS - 1}}}"])
_KINDS = "|".join(kind.value for kind in Kind)
_KINDS_BEGUN = "|".join(_begun([*kind.value[:-1], f"{kind.value[-1]}(?:{_TAIL_BEGUN})?"])
                        for kind in Kind)  # fmt: skip
_BEGUN = re.compile(_begun([*WORD[:-1], f"{WORD[-1]}(?:{_GAP}(?:{_KINDS_BEGUN})?)?"]) + r"\Z",
                    re.IGNORECASE | re.ASCII)  # fmt: skip
_MAY_BEGIN = re.compile(f"[{WORD[0]}{WORD[0].lower()}]").search
_LIKE = re.compile(
    rf"{WORD}{_GAP}(?:{_KINDS}){_GAP}\d{{1,4}}(?:{_GAP}{_NONCE}{{1,{NONCE_LETTERS}}})?",
    re.IGNORECASE | re.ASCII,
)
HOLD_CHARS_MAX = (
    len(WORD) + 3 + max(len(kind.value) for kind in Kind) + 3 + 4 + 3 + NONCE_LETTERS
)  # fmt: skip


def nonce(secret: bytes, request_id: str, attempt: int = 0) -> str:
    """The letters of one request. The same request gets the same ones: a rescue masks as the first
    try did. `attempt` goes up when the text happens to hold them."""
    data = f"{request_id}\0{attempt}".encode()
    number = int.from_bytes(hashlib.blake2b(data, key=secret[:64], digest_size=16).digest())
    out = []
    for _ in range(NONCE_LETTERS):
        number, at = divmod(number, len(LETTERS))
        out.append(LETTERS[at])
    return "".join(out)


def unused(fields: Mapping[str, msgspec.Raw], letters: Callable[[int], str]) -> str:
    """A nonce that no member holds. That the first is not new is chance, that eight are not is
    none: then the last one is taken, and at worst a text of the caller's is restored to the
    caller."""
    for attempt in range(NONCES_MAX):
        nonce = letters(attempt)
        mark = nonce.encode()
        if not any(bytes(raw).find(mark) >= 0 for raw in fields.values()):
            break
    return nonce


class Vault:
    """The placeholders of one request. Mutable while its input is masked, then only read. Holds
    personal data: never logged, gone with the request."""

    __slots__ = ("_by_value", "_known", "_nonce", "_size", "values")

    def __init__(self, letters: str | Callable[[], str]) -> None:
        """`letters`: the request's nonce, or what makes it once it is needed."""
        self._nonce = letters
        self._known: Any = None
        self._size = 0
        self._by_value: dict[tuple[Kind, str], str] = {}
        self.values: dict[str, str] = {}
        """By placeholder."""

    def __repr__(self) -> str:
        return f"Vault({len(self.values)} values)"

    def placeholder(self, kind: Kind, value: str) -> str | None:
        """That of a value, the same each time; None when there are too many."""
        known = self._by_value.get((kind, value))
        if known is None and len(self.values) < VALUES_MAX:
            if not isinstance(self._nonce, str):
                self._nonce = self._nonce()
            assert len(self._nonce) == NONCE_LETTERS, "a nonce has its full length"
            known = f"{WORD}_{kind.value}_{len(self.values) + 1}_{self._nonce}"
            self._by_value[kind, value] = known
            self.values[known] = value
        return known

    def mask(self, text: str, found: Iterable[Personal]) -> str:
        """`text` with placeholders for what was found; spans are in order and apart."""
        out, at = [], 0
        for kind, start, end in found:
            known = self.placeholder(kind, text[start:end])
            if known is not None:
                out += [text[at:start], known]
                at = end
        return "".join([*out, text[at:]])

    def again(self, text: str) -> str:
        """`text` with placeholders for all values known by now, wherever they stand: a name is
        found once by the word before it, and then masked everywhere; and what was restored in an
        answer is masked again when a rescue sends it on."""
        if not self.values:
            return text
        if self._size != len(self.values):
            self._known, self._size = _automaton(self.values), len(self.values)
        out, at = [], 0
        for last, (size, known) in self._known.iter_long(text):
            start, end = last + 1 - size, last + 1
            if known and _is_apart(text, start, end):
                out += [text[at:start], known]
                at = end
        return "".join([*out, text[at:]])


def _automaton(values: Mapping[str, str]) -> Any:
    """Finds values, and placeholders so that nothing is found inside them."""
    automaton = ahocorasick.Automaton()
    for known, value in values.items():
        automaton.add_word(known, (len(known), ""))
        if _is_telling(value) and not automaton.exists(value):
            automaton.add_word(value, (len(value), known))
    automaton.make_automaton()
    return automaton


def _is_telling(value: str) -> bool:
    """Whether a value is no everyday word as well: `Will` is, `Will Smith` is not."""
    if value.isascii():
        return not value.isalpha()
    return len(value) > 1


def _is_apart(text: str, start: int, end: int) -> bool:
    """Whether a value is no part of a longer word or number."""
    for edge, beside in (
        (text[start], text[start - 1 : start]),
        (text[end - 1], text[end : end + 1]),
    ):
        if edge.isascii() and edge.isalnum() and beside.isascii() and beside.isalnum():
            return False
    return True


class Piece(Label):
    """What a piece of an answer is."""

    TEXT = "text"
    VALUE = "value"
    """Put back in place of a placeholder."""
    MANGLED = "mangled"
    """Looks like a placeholder and is none of ours: left as it is."""


_TEXT, _VALUE, _MANGLED = Piece.TEXT, Piece.VALUE, Piece.MANGLED


class Restorer:
    """Puts values back into one text that arrives in pieces. However it is cut, the same leaves,
    and a placeholder leaves whole or not at all."""

    __slots__ = ("_held", "_values")

    def __init__(self, vault: Vault) -> None:
        self._values = vault.values
        self._held = ""

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._held)

    def feed(self, text: str, is_last: bool = False) -> list[tuple[str, Piece]]:
        """Pieces in order, each with what it is."""
        if self._held:
            text, self._held = self._held + text, ""
        elif _MAY_BEGIN(text) is None:
            return [(text, _TEXT)]
        if not is_last:
            begun = _BEGUN.search(text, max(0, len(text) - HOLD_CHARS_MAX))
            if begun is not None:
                text, self._held = text[: begun.start()], text[begun.start() :]
        out: list[tuple[str, Piece]] = []
        at = 0
        for like in _LIKE.finditer(text):
            value = self._values.get(like[0])
            kind = _MANGLED if value is None else _VALUE
            out += [(text[at : like.start()], _TEXT), (value or like[0], kind)]
            at = like.end()
        return [*out, (text[at:], _TEXT)]
