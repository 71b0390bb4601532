"""The texts of one answer, each filtered on its own: what every channel shares, and one channel.
Pure."""

from __future__ import annotations

import msgspec

from serving.guard.filtering import TermFilter
from serving.guard.placeholders import Piece, Restorer, Vault
from serving.guard.terms import Terms
from serving.guard.values import Counts, Finding, Match, Policy

_VALUE, _MANGLED = Piece.VALUE, Piece.MANGLED
_encode = msgspec.json.encode


class Output:
    """What holds for one answer, and what was found in it. Mutable; one per answer."""

    __slots__ = (
        "findings", "is_blocked", "mangled", "policy", "restored", "said", "terms", "vault",
    )  # fmt: skip

    def __init__(self, policy: Policy, terms: Terms | None, vault: Vault | None) -> None:
        self.policy = policy
        self.terms = terms if policy.lists else None
        self.vault = vault if vault is not None and vault.values else None
        self.findings = Counts()
        self.restored = 0
        """Placeholders replaced by what they stand for."""
        self.mangled = 0
        """Texts that look like a placeholder and are none of ours: left masked."""
        self.is_blocked = False
        self.said: list[str] | None = [] if policy.moderation != "off" else None
        """What left and nobody has judged yet, in order; None where nobody will."""

    def taken(self) -> str:
        """What left since this was last asked."""
        if not self.said:
            return ""
        text = "".join(self.said)
        self.said.clear()
        return text

    def found(self, match: Match, where: str) -> None:
        """Count a term."""
        term = match.term
        self.findings[Finding(term.category, term.action, where, term.list)] += 1


class Channel:
    """One text that arrives in pieces: placeholders first, then terms, which a value put back is no
    part of."""

    __slots__ = ("_filter", "_is_json", "_output", "_restorer")

    def __init__(self, output: Output, where: str, is_json: bool = False) -> None:
        self._output = output
        self._is_json = is_json
        policy = output.policy
        self._restorer = Restorer(output.vault) if output.vault is not None else None
        self._filter: TermFilter | None = None
        if output.terms is not None:
            self._filter = TermFilter(
                output.terms, policy.lists, policy.mask, lambda match: output.found(match, where)
            )

    @property
    def held(self) -> int:
        """Characters held back."""
        held = self._filter.held if self._filter is not None else 0
        return held + (self._restorer.held if self._restorer is not None else 0)

    def feed(self, text: str, is_last: bool = False) -> str:
        """What may leave now. A blocking term sets `Output.is_blocked`, and nothing follows."""
        if self._restorer is None:
            out = self._filtered(text, is_last)
        else:
            out = self._restored(text, is_last)
        if self._output.said is not None:
            self._output.said.append(out)
        return out

    def _restored(self, text: str, is_last: bool) -> str:
        assert self._restorer is not None
        output = self._output
        out = []
        for piece, kind in self._restorer.feed(text, is_last):
            if kind is _VALUE:
                out.append(self._filtered("", True))
                if not output.is_blocked:
                    output.restored += 1
                    out.append(_escaped(piece) if self._is_json else piece)
            else:
                out.append(self._filtered(piece, False))
                output.mangled += kind is _MANGLED
            if output.is_blocked:
                return "".join(out)
        if is_last:
            out.append(self._filtered("", True))
        return "".join(out)

    def _filtered(self, text: str, is_last: bool) -> str:
        if self._filter is None:
            return text
        out = self._filter.feed(text, is_last)
        if self._filter.is_blocked:
            self._output.is_blocked = True
        return out


def _escaped(value: str) -> str:
    """A value as it stands inside a JSON string."""
    return _encode(value).decode()[1:-1]
