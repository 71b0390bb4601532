"""Reads one text of an input: what of it any target may see, and what one outside may see. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serving.guard import personal
from serving.guard.filtering import TermFilter, masked
from serving.guard.folding import Folding
from serving.guard.memory import NOTHING, Held, Recall
from serving.guard.placeholders import VALUES_MAX, Vault
from serving.guard.terms import Terms
from serving.guard.values import Action, Counts, Finding, Kind, Personal, Policy, Term
from serving.records import Sensitivity

_PIECE = 1024
"""Characters looked at together: only pieces in which a term is found are read one by one."""


_BATCH = 8192
"""Characters of texts glanced at together, for a glance has its price however short; a longer text
is glanced at by itself."""


class TooLong(Exception):  # noqa: N818 - a state of the reading
    """More would have to be read closely than there is time for here."""


class Rules(NamedTuple):
    """What a tenant's calls are screened by."""

    policy: Policy
    terms: Terms | None
    folding: Folding
    recall: Recall | None = None
    """What is known of texts from before."""
    closely_max: int | None = None
    """Characters of one input that may be read closely, where a glance does not clear them."""


class Reader:
    """Reads the texts of one input; counts what it finds."""

    def __init__(self, rules: Rules, vault: Vault, findings: Counts) -> None:
        self._policy = rules.policy
        self._terms = rules.terms if rules.policy.lists else None
        self._folding = rules.folding
        self._recall = rules.recall
        self._left = rules.closely_max
        self._vault = vault
        self._findings = findings
        self._known: dict[str, Held] = {}
        """What is known of texts that stand by themselves."""
        self._keys: dict[str, bytes | None] = {}
        """What other such texts are remembered by."""

    def prepare(self, texts: Iterable[str]) -> None:
        """Look at texts that are to be read: which ones are known from before, and which ones a
        glance at many clears. A glance at all, one behind the other, only finds more than one at
        each."""
        # To look a long text up takes a pass over it, and one by itself is read soon enough.
        short = dict.fromkeys(text for text in texts if 0 < len(text) <= _BATCH)
        if len(short) < 2:
            return
        batch: list[str] = []
        size = 0
        for text in short:
            held = self._recalled(text)
            if held is not None:
                self._known[text] = held
                continue
            batch.append(text)
            size += len(text)
            if size > _BATCH:
                self._clear(batch)
                batch, size = [], 0
        self._clear(batch)

    def _recalled(self, text: str) -> Held | None:
        if self._recall is None:
            return None
        self._keys[text] = key = self._recall.key(text)
        return self._recall.known(key)

    def _clear(self, batch: list[str]) -> None:
        if len(batch) < 2 or not self._is_clear("\n".join(batch)):
            return
        for text in batch:
            self._known[text] = NOTHING
            if self._recall is not None:
                self._recall.keep(self._keys[text], NOTHING)

    def read(self, text: str, where: str, may_rewrite: bool, cue: str = "") -> tuple[str, str]:
        """(what any target may see, what one outside may see). A text that may not be rewritten
        comes back as it is, and what was to be masked in it is flagged. `cue`: words that stand
        before it, as the name of a JSON member does. Raises TooLong."""
        held = self._held(text, cue)
        if held is NOTHING:
            return text, text
        for term in held.terms:
            self._report(term, where, may_rewrite)
        own = masked(text, held.masked, self._policy.mask) if may_rewrite else text
        to_mask = []
        for found in held.personal:
            action = self._policy.personal.get(found.kind)
            if action is None:
                continue
            if action is Action.MASK and may_rewrite:
                to_mask.append(found)
            elif action is Action.MASK:
                action = Action.FLAG
            level = Sensitivity.PERSONAL
            if found.kind is Kind.CREDENTIAL:
                level = Sensitivity.SECRET
            self._findings[Finding(found.kind, action, where, "personal", level)] += 1
        if len(self._vault.values) + len(to_mask) > VALUES_MAX:
            self._findings[Finding("too_many", Action.BLOCK, where, "personal")] += 1
            return own, own
        return own, self._vault.mask(own, to_mask)

    def _report(self, term: Term, where: str, may_rewrite: bool) -> None:
        action = term.action
        if action is Action.MASK and not may_rewrite:
            action = Action.FLAG
        self._findings[Finding(term.category, action, where, term.list, term.sensitivity)] += 1

    def holds_nothing(self, texts: Sequence[str]) -> bool:
        """Whether nothing is found in any of some texts that stand by themselves; if something is,
        they are not searched again. Raises TooLong."""
        if len(texts) > 1:
            self.prepare(texts)
        for text in texts:
            held = self._held(text, "")
            if held is not NOTHING:
                return False
            if len(texts) > 1:
                self._known[text] = held
        return True

    def _held(self, text: str, cue: str) -> Held:
        """What a text holds, from memory where it was met before."""
        held = self._known.get(text) if self._known and not cue else None
        if held is not None:
            return held
        recall = self._recall
        if recall is None:
            held = self._found(text, cue)
        else:
            key = self._keys.get(text) if self._keys and not cue else None
            if key is None:
                key = recall.key(text, cue)
                held = recall.known(key)
            if held is None:
                held = self._found(text, cue)
                recall.keep(key, held)
        if held is not NOTHING and not cue:
            self._known[text] = held
        return held

    def _is_clear(self, text: str) -> bool:
        is_plain = self._has_no_person(text)
        return (is_plain or not self._policy.personal) and self._has_no_term(text, is_plain)

    def _has_no_person(self, text: str) -> bool:
        """Whether a glance tells so; then all characters of the text are plain."""
        return bool(self._policy.personal) and personal.is_clear(text, self._folding)

    def _has_no_term(self, text: str, is_plain: bool) -> bool:
        return self._terms is None or self._terms.clears(text, is_plain)

    def _found(self, text: str, cue: str) -> Held:
        whole = cue + text
        is_plain = self._has_no_person(whole)
        has_personal = bool(self._policy.personal) and not is_plain
        has_terms = not self._has_no_term(text, is_plain)
        if not (has_terms or has_personal):
            return NOTHING
        if self._left is not None:
            self._left -= len(text)
            if self._left < 0:
                raise TooLong
        terms, spans = self._terms_of(text) if has_terms else ((), ())
        shift = len(cue)
        found = personal.find(whole, self._folding) if has_personal else ()
        of_text = tuple(
            Personal(kind, start - shift, end - shift)
            for kind, start, end in found
            if start >= shift
        )
        return Held(of_text, terms, spans) if of_text or terms else NOTHING

    def _terms_of(self, text: str) -> tuple[tuple[Term, ...], tuple[tuple[int, int], ...]]:
        """(terms as reported, what is masked of the text)."""
        assert self._terms is not None
        terms: list[Term] = []
        policy = self._policy
        filtered = TermFilter(
            self._terms, policy.lists, policy.mask, lambda match: terms.append(match.term)
        )
        out = [filtered.feed(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        out.append(filtered.feed("", True))
        spans = () if filtered.is_blocked else _changes(text, "".join(out))
        return tuple(terms), spans


def _changes(text: str, other: str) -> tuple[tuple[int, int], ...]:
    """Where two texts of one length differ, as offsets."""
    if text == other:
        return ()
    spans: list[tuple[int, int]] = []
    for at, (one, two) in enumerate(zip(text, other, strict=True)):
        if one != two:
            if spans and spans[-1][1] == at:
                spans[-1] = spans[-1][0], at + 1
            else:
                spans.append((at, at + 1))
    return tuple(spans)
