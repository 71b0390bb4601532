"""Compliance evidence from facts: each line with its source, and where a person must add something.

A control map and an impact assessment are templates: the figures are filled in from what is in
force, the judgement is left to people and says so. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ballast.evidence_values import Facts, Line, Section, WordList
from ballast.messages import Said

NEEDS_FACTS: Final = "--facts FILE"


def sections(facts: Facts) -> list[Section]:
    """All of them, in the order of the page."""
    made: tuple[tuple[str, Callable[[Facts], Iterator[Line]]], ...] = (
        ("models", _models), ("words", _words), ("refusal", _refusal), ("complaints", _complaints),
        ("record", _record), ("retention", _retention), ("controls", _controls),
        ("impact", _impact),
    )  # fmt: skip
    return [Section(name, tuple(make(facts))) for name, make in made]


def open_points(found: list[Section]) -> int:
    """How many lines wait for a person."""
    return sum(line.needs is not None for section in found for line in section.lines)


def _filing(facts: Facts, name: str, known: str = "") -> Line:
    number = facts.own.filing.get(name, known)
    what = Said("evidence.line.filing", name=name)
    if number:
        source = NEEDS_FACTS if name in facts.own.filing else f"models/providers: {name}"
        return Line(what, number, source)
    return Line(what, Said("evidence.value.unknown"), NEEDS_FACTS,
                Said("evidence.needs.filing", name=name))  # fmt: skip


def _models(facts: Facts) -> Iterator[Line]:
    for model in facts.settings.models:
        weights = model.weights or model.card or (model.engine.source if model.engine else "")
        value = Said("evidence.value.model", weights=weights or "-",
                     offerings=model.offerings or ("-",))  # fmt: skip
        yield Line(Said("evidence.line.model", name=model.name), value, "settings: models")
        if model.engine is not None:
            yield _filing(facts, model.name)
    for access in facts.settings.providers:
        row = facts.rows.get(access.id)
        if row is None:
            continue
        where = access.jurisdiction or row.jurisdiction
        trains = row.facts.trains_on_data
        told = (
            "-" if isinstance(trains, str) else f"{trains.value} ({trains.source}, {trains.as_of})"
        )
        needs = Said("evidence.needs.trains", name=access.id) if told == "-" else None
        yield Line(Said("evidence.line.provider", name=access.id),
                   Said("evidence.value.provider", where=where, trains=told),
                   f"settings: providers; models/providers: {access.id}", needs)  # fmt: skip
        number = row.facts.filing_no
        yield _filing(facts, access.id, "" if isinstance(number, str) else number.value)
    algorithm = facts.own.algorithm_filing
    yield Line(Said("evidence.line.algorithm"), algorithm or Said("evidence.value.unknown"),
               NEEDS_FACTS, None if algorithm else Said("evidence.needs.algorithm"))  # fmt: skip


def _words(facts: Facts) -> Iterator[Line]:
    source = f"settings: guard.terms_dir = {facts.settings.guard.terms_dir or '-'}"
    if not facts.lists:
        yield Line(Said("evidence.line.lists"), Said("evidence.value.none"), source,
                   Said("evidence.needs.lists"))  # fmt: skip
        return
    terms = sum(one.terms for one in facts.lists)
    value = Said("evidence.value.lists", lists=len(facts.lists), terms=f"{terms:,}")
    yield Line(Said("evidence.line.lists"), value, source)
    for one in facts.lists:
        value = Said("evidence.value.list", terms=f"{one.terms:,}", day=one.changed,
                     digest=one.sha256[:16])  # fmt: skip
        yield Line(Said("evidence.line.list", name=one.name), value, source)
    if facts.lists_before is None:
        yield Line(Said("evidence.line.changes"), Said("evidence.value.first"), "compliance/")
        return
    yield from _changes(facts.lists_before, facts.lists)


def _changes(before: tuple[WordList, ...], now: tuple[WordList, ...]) -> Iterator[Line]:
    """The change log since the report before."""
    old, new = ({one.name: one for one in lists} for lists in (before, now))
    changed = [n for n in sorted(old | new)
               if n not in old or n not in new or old[n].sha256 != new[n].sha256]  # fmt: skip
    for name in changed:
        was, now_is = (lists[name].terms if name in lists else 0 for lists in (old, new))
        value = Said("evidence.value.change", before=was, after=now_is)
        yield Line(Said("evidence.line.change", name=name), value, "compliance/")
    if not changed:
        yield Line(Said("evidence.line.changes"), Said("evidence.value.same"), "compliance/")


def _refusal(facts: Facts) -> Iterator[Line]:
    source, asked = "ballast/evidence_sets/questions.yaml; guard", facts.asked
    if asked is None:
        yield Line(Said("evidence.line.refused"), facts.asked_fault, source,
                   Said("evidence.needs.guard"))  # fmt: skip
        return
    refused = Said("evidence.value.of", count=asked.refused, all=asked.refuse)
    needs = None if asked.refuse and not asked.passed else Said("evidence.needs.refused")
    yield Line(Said("evidence.line.refused"), refused, source, needs)
    over = Said("evidence.value.of", count=len(asked.over_refused), all=asked.allow)
    yield Line(Said("evidence.line.over"), over, source,
               Said("evidence.needs.over", texts="; ".join(asked.over_refused))
               if asked.over_refused else None)  # fmt: skip
    yield Line(Said("evidence.line.models_asked"), Said("evidence.value.guard_only"), source,
               Said("evidence.needs.models_asked"))  # fmt: skip


def _complaints(facts: Facts) -> Iterator[Line]:
    source = "ballast review list"
    if facts.cases is None:
        yield Line(Said("evidence.line.complaints"), Said("evidence.value.unread"), source,
                   Said("evidence.needs.reviews"))  # fmt: skip
    else:
        for kind in ("complaint", "sample"):
            states = {name.partition(".")[2]: count for name, count in facts.cases.items()
                      if name.startswith(f"{kind}.")}  # fmt: skip
            told = ", ".join(f"{name} {count}" for name, count in sorted(states.items())) or "0"
            waits = states.get("open", 0) + states.get("appealed", 0)
            needs = Said("evidence.needs.judge", count=waits) if waits else None
            yield Line(Said(f"evidence.line.{kind}s"), told, source, needs)
    contact = facts.own.complaints_contact
    yield Line(Said("evidence.line.contact"), contact or Said("evidence.value.unknown"),
               NEEDS_FACTS, None if contact else Said("evidence.needs.contact"))  # fmt: skip


def _record(facts: Facts) -> Iterator[Line]:
    if facts.requests is None:
        yield Line(Said("evidence.line.calls"), Said("evidence.value.trimmed"), "ledger: requests",
                   Said("evidence.needs.trimmed"))  # fmt: skip
    else:
        calls = Said("evidence.value.calls", requests=f"{facts.requests:,}", blocked=facts.blocked)
        yield Line(Said("evidence.line.calls"), calls, "ledger: requests")
    left = Said("evidence.value.left", left=f"{facts.left:,}", abroad=facts.abroad)
    yield Line(Said("evidence.line.left"), left, "ballast audit query")
    audit, source = facts.audit, "ballast audit verify"
    if "fault" in audit:
        yield Line(Said("evidence.line.audit"), str(audit["fault"]), source,
                   Said("evidence.needs.audit"))  # fmt: skip
    else:
        value = Said("evidence.value.audit", **audit)
        is_whole = not audit["faults"] and audit["checkpoints"]
        yield Line(Said("evidence.line.audit"), value, source,
                   None if is_whole else Said("evidence.needs.audit"))  # fmt: skip
    if facts.changes is None:
        yield Line(Said("evidence.line.history"), Said("evidence.value.unread"), "ballast history",
                   Said("evidence.needs.directory"))  # fmt: skip
        return
    told = ", ".join(f"{name} {count}" for name, count in sorted(facts.changes.items())) or "0"
    yield Line(Said("evidence.line.history"), told, "ballast history")


def _retention(facts: Facts) -> Iterator[Line]:
    settings = facts.settings
    for key, count, unit in (
        ("ledger.row_days", settings.ledger.row_days, "days"),
        ("ledger.rollup_months", settings.ledger.rollup_months, "months"),
        ("review.keep_days", settings.review.keep_days, "days"),
        ("batches.keep_days", settings.batches.keep_days, "days"),
        ("canaries.keep_days", settings.canaries.keep_days, "days"),
    ):
        yield Line(Said(f"evidence.kept.{key.replace('.', '_')}"),
                   Said(f"evidence.value.{unit}", count=count), f"settings: {key}")  # fmt: skip


def _controls(facts: Facts) -> Iterator[Line]:
    """The control map: what the rules ask, for how many tenants it is in force, where that
    stands."""
    settings, guard, review = facts.settings, facts.settings.guard, facts.settings.review
    tenants = facts.tenants or ()
    policies = [guard.tenants.get(name, guard.default) for name, _ in tenants] or [guard.default]
    sampled = [review.tenants.get(name, review.default) for name, _ in tenants] or [review.default]
    controls: tuple[tuple[str, list[bool], str], ...] = (
        ("words", [bool(facts.lists and p.lists) for p in policies], "guard.*.lists"),
        ("personal", [p.personal != "off" or bool(p.kinds) for p in policies], "guard.*.personal"),
        ("label", [bool(p.ai_text or p.ai_metadata) for p in policies], "guard.*.ai_text"),
        ("moderation", [p.moderation != "off" for p in policies], "guard.*.moderation"),
        ("sampling", [p.rate > 0 or p.flagged_rate > 0 for p in sampled], "review.*.rate"),
        ("residency", [_stays(facts, where) for _, where in tenants], "ballast tenants list"),
        ("audit", [bool(facts.audit.get("checkpoints"))], "ballast audit verify"),
        ("copy", [bool(settings.audit.anchor_copy_url)], "audit.anchor_copy_url"),
        ("roles", [settings.oidc is not None], "oidc"),
        ("database", [bool(settings.ledger.url)], "ledger.url"),
    )
    for name, found, source in controls:
        is_on = bool(found) and all(found)
        value = Said("evidence.value.on" if is_on else "evidence.value.off")
        if any(found) and not is_on:
            value = Said("evidence.value.some", count=sum(found), all=len(found))
        needs = None if is_on else Said("evidence.needs.control")
        source = source if source.startswith("ballast") else f"settings: {source}"
        yield Line(Said(f"evidence.control.{name}"), value, source, needs)
    officer = facts.own.officer
    yield Line(Said("evidence.control.officer"), officer or Said("evidence.value.unknown"),
               NEEDS_FACTS, None if officer else Said("evidence.needs.officer"))  # fmt: skip


def _stays(facts: Facts, residency: str) -> bool:
    """A rule that something got past in the month is not in force."""
    return residency in ("premises", "mainland") and not facts.abroad


def _impact(facts: Facts) -> Iterator[Line]:
    """The impact assessment: facts filled in, judgements left to people."""
    if facts.tenants is None:
        yield Line(Said("evidence.impact.where"), Said("evidence.value.unread"),
                   "ballast tenants list", Said("evidence.needs.directory"))  # fmt: skip
    else:
        told = tuple(f"{name}: {where}" for name, where in facts.tenants) or ("-",)
        yield Line(Said("evidence.impact.where"), Said("evidence.value.plain", text=told),
                   "ballast tenants list")  # fmt: skip
    yield Line(Said("evidence.impact.who"), tuple_of(facts), "settings: providers")
    left = Said("evidence.value.left", left=f"{facts.left:,}", abroad=facts.abroad)
    yield Line(Said("evidence.impact.abroad"), left, "ballast audit query",
               Said("evidence.needs.abroad") if facts.abroad else None)  # fmt: skip
    for name in ("purpose", "necessity", "rights", "risk"):
        yield Line(Said(f"evidence.impact.{name}"), Said("evidence.value.person"), NEEDS_PERSON,
                   Said("evidence.needs.person"))  # fmt: skip
    reviewed = facts.own.reviewed
    yield Line(Said("evidence.impact.reviewed"), reviewed or Said("evidence.value.unknown"),
               NEEDS_FACTS, None if reviewed else Said("evidence.needs.reviewed"))  # fmt: skip


NEEDS_PERSON: Final = "-"


def tuple_of(facts: Facts) -> Said:
    """Who else sees data."""
    return Said(
        "evidence.value.plain", text=tuple(a.id for a in facts.settings.providers) or ("-",)
    )
