"""Asks the guard its questions: terms that its lists refuse, and harmless ones that must pass."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ballast.evidence_values import Asked, WordList
from serving.guard import screening, termfile
from serving.guard.lists import Lists
from serving.guard.placeholders import NONCE_LETTERS
from serving.guard.reading import Rules
from serving.guard.settings import GuardSettings
from serving.guard.values import Action, Term

SET = Path(__file__).parent / "evidence_sets" / "questions.yaml"
TERMS_ASKED_MAX = 200
"""Evenly over all lists: what a report needs, within a second."""
QUESTIONS_MAX = 1_000
SENTENCE = "请解释：{term}。 Please explain: {term}."


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question set."""

    allow: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()


def word_lists(folder: Path | None) -> tuple[tuple[WordList, ...], list[Term]]:
    """The lists in force and their blocking terms. Raises ListFault, OSError."""
    if folder is None:
        return (), []
    lists, terms = [], []
    for path in sorted(folder.glob("*.txt")):
        data = path.read_bytes()
        found = termfile.read(path.stem, data.decode("utf-8"))
        day = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        digest = hashlib.sha256(data).hexdigest()
        lists.append(WordList(path.stem, len(found), digest, f"{day:%Y-%m-%d}"))
        terms += [term for term in found if term.action is Action.BLOCK]
    return tuple(lists), terms


def ask(settings: GuardSettings, questions: Questions, terms: list[Term]) -> Asked:
    """Run all of them through the rules of every tenant that are in force: a term counts as refused
    when each policy that names its list refuses it. Raises ListFault, OSError."""
    lists = Lists(settings.terms_dir)
    lists.load()
    each = (settings.default, *settings.tenants.values())
    rules = [Rules(one.policy(settings.producer), lists.terms, lists.folding) for one in each]
    refused, passed, count = 0, set[str](), 0
    for term in terms[:: max(1, -(-len(terms) // TERMS_ASKED_MAX))]:
        owners = [rule for rule in rules if term.list in rule.policy.lists]
        count += 1
        text = SENTENCE.format(term=term.text.rstrip("*"))
        if owners and all(is_refused(text, rule) for rule in owners):
            refused += 1
        else:
            passed.add(term.list)
    for question in questions.refuse[:QUESTIONS_MAX]:
        count += 1
        if any(is_refused(question, rule) for rule in rules):
            refused += 1
        else:
            passed.add("--questions")
    allow = questions.allow[:QUESTIONS_MAX]
    over = tuple(one for one in allow if any(is_refused(one, rule) for rule in rules))
    return Asked(count, refused, len(allow), over, tuple(sorted(passed)))


def is_refused(text: str, rules: Rules) -> bool:
    """Whether a chat with this text is refused."""
    body = msgspec.Raw(msgspec.json.encode([{"role": "user", "content": text}]))
    return screening.screen({"messages": body}, rules, _letters).is_blocked


def _letters(attempt: int) -> str:
    return chr(ord("b") + attempt) * NONCE_LETTERS
