"""Reads one text of an input: what of it any target may see, and what one outside may see. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from serving.guard import personal
from serving.guard.filtering import TermFilter
from serving.guard.folding import Folding
from serving.guard.placeholders import VALUES_MAX, Vault
from serving.guard.terms import Terms
from serving.guard.values import Action, Finding, Kind, Match, Personal, Policy
from serving.records import Sensitivity

_PIECE = 1024
"""Characters looked at together: only pieces in which a term is found are read one by one."""


class Rules(NamedTuple):
    """What a tenant's calls are screened by."""

    policy: Policy
    terms: Terms | None
    folding: Folding


class Reader:
    """Reads the texts of one input; counts what it finds."""

    def __init__(self, rules: Rules, vault: Vault, findings: Counter[Finding]) -> None:
        self._policy = rules.policy
        self._terms = rules.terms if rules.policy.lists else None
        self._folding = rules.folding
        self._vault = vault
        self._findings = findings

    def read(self, text: str, where: str, may_rewrite: bool, cue: str = "") -> tuple[str, str]:
        """(what any target may see, what one outside may see). A text that may not be rewritten
        comes back as it is, and what was to be masked in it is flagged. `cue`: words that stand
        before it, as the name of a JSON member does."""
        own = self._without_terms(text, where, may_rewrite)
        actions = self._policy.personal
        if not actions:
            return own, own
        masked = []
        shift = len(cue)
        for kind, start, end in personal.find(cue + text, self._folding):
            if start < shift:
                continue
            found = Personal(kind, start - shift, end - shift)
            action = actions.get(found.kind)
            if action is None:
                continue
            if action is Action.MASK and may_rewrite:
                masked.append(found)
            elif action is Action.MASK:
                action = Action.FLAG
            level = Sensitivity.PERSONAL
            if found.kind is Kind.CREDENTIAL:
                level = Sensitivity.SECRET
            self._findings[Finding(found.kind, action, where, "personal", level)] += 1
        if len(self._vault.values) + len(masked) > VALUES_MAX:
            self._findings[Finding("too_many", Action.BLOCK, where, "personal")] += 1
            return own, own
        return own, self._vault.mask(own, masked)

    def _without_terms(self, text: str, where: str, may_rewrite: bool) -> str:
        """`text` with the terms masked that are to be masked; of the same length."""
        if self._terms is None or self._terms.clears(text):
            return text
        policy = self._policy

        def report(match: Match) -> None:
            term = match.term
            action = term.action
            if action is Action.MASK and not may_rewrite:
                action = Action.FLAG
            finding = Finding(term.category, action, where, term.list, term.sensitivity)
            self._findings[finding] += 1

        filtered = TermFilter(self._terms, policy.lists, policy.mask, report)
        out = [filtered.feed(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        out.append(filtered.feed("", True))
        return "".join(out) if may_rewrite and not filtered.is_blocked else text
