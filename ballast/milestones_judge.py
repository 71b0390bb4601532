"""Which of the design report's milestones and triggers are met, by evidence. Pure.

The report (June 2025) names them: three-way comparison in months 9-10, gateway 11, automation
12-13, own share of 50 % and then 70 % in 14-15, cost 50-60 % below pure API in 16, compliance
reports in 17-18; the company's brief (January 2026) adds the gate of 30 %. What cannot be judged
is `unknown` and says what is missing and how to get it: never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ballast.digits import rounded
from ballast.messages import Said
from ballast.milestones_values import Evidence, Lack, State, Verdict
from ballast.traffic import Side

TRIES_MIN: Final = 100
"""Of a side, before it is compared: below it a median says little and one failure is a per cent."""
DAYS_MIN: Final = 7
"""A week has seen each hour of it; shorter traffic is not a month's."""
MONTH_DAYS: Final = 365 / 12
OK_SHARE_MIN: Final = 0.99
SAVING_GATE: Final = 0.30
SAVING_GOAL: Final = 0.50
SHARES: Final = (0.5, 0.7)
REPORTS_MIN: Final = 3
"""Full months in a row: a quarter, as the report's last two months and one before."""


def judge(evidence: Evidence, now_s: float) -> list[Verdict]:
    """Triggers first, then milestones in the report's order."""
    if not evidence.calls.requests:
        nothing = Lack(Said("milestone.lacks.traffic"), Said("milestone.get.traffic"))
        return [Verdict(name, "unknown", "", (), (nothing,)) for name in IDS]
    simulated = [side for side in evidence.sides if side.kind == "simulated"]
    found = [
        *_triggers(evidence, now_s), _three_ways(evidence), _gateway(evidence),
        _automation(evidence), *(_share(evidence, wanted, now_s) for wanted in SHARES),
        _saving(evidence, "saving_30", SAVING_GATE), _saving(evidence, "saving_50", SAVING_GOAL),
        _compliance(evidence, now_s),
    ]  # fmt: skip
    return [_honest(one, simulated) for one in found]


IDS: Final = (
    "to_beta", "to_scale", "three_ways", "gateway", "automation", "share_50", "share_70",
    "saving_30", "saving_50", "compliance",
)  # fmt: skip
OF_TRAFFIC: Final = frozenset(IDS) - {"compliance"}


def _honest(verdict: Verdict, simulated: Sequence[Side]) -> Verdict:
    """Nothing is proved by calls that a simulated provider answered."""
    if not simulated or verdict.id not in OF_TRAFFIC or verdict.state == "not_met":
        return verdict
    tries = sum(side.tries for side in simulated)
    lack = Lack(Said("milestone.lacks.real", tries=tries), Said("milestone.get.real"))
    return msgspec.structs.replace(
        verdict, state="unknown", since="", missing=(*verdict.missing, lack)
    )


def monthly(evidence: Evidence) -> float | None:
    """Requests a month at the pace seen; None for less than a week of it."""
    days = (evidence.calls.last_ms - evidence.calls.first_ms) / 86_400_000
    return evidence.calls.requests / days * MONTH_DAYS if days >= DAYS_MIN else None


def _triggers(evidence: Evidence, now_s: float) -> Iterator[Verdict]:
    pace, even = monthly(evidence), evidence.even
    for name in ("to_beta", "to_scale"):
        missing: list[Lack] = []
        if pace is None:
            missing.append(Lack(Said("milestone.lacks.week"), Said("milestone.get.week")))
        if even is None:
            lack = Said("milestone.lacks.even", why=evidence.even_fault)
            missing.append(Lack(lack, Said("milestone.get.even")))
        if pace is None or even is None:
            yield Verdict(name, "unknown", "", (), tuple(missing))
            continue
        wanted = even.first_gpu if name == "to_beta" else even.hybrid_saves
        told = [Said("milestone.pace", requests=f"{pace:,.0f}"),
                _wanted(name, wanted, even.model)]  # fmt: skip
        is_met = wanted is not None and pace >= wanted
        if not is_met and wanted is not None and (when := _reached(evidence, wanted / pace, now_s)):
            told.append(Said("milestone.reached", month=when))
        person = Lack(Said(f"milestone.person.{name}"), Said("milestone.get.person"))
        since = _day(evidence.calls.last_ms) if is_met else ""
        yield Verdict(name, "met" if is_met else "not_met", since, tuple(told), (person,))


def _wanted(name: str, wanted: float | None, model: str) -> Said:
    if wanted is None:
        return Said(f"milestone.never.{name}", model=model)
    return Said(f"milestone.wanted.{name}", requests=f"{wanted:,.0f}", model=model)


def _reached(evidence: Evidence, factor: float, now_s: float) -> str:
    """The month in which this growth reaches so many times today's pace; empty if it does not."""
    before, after, weeks = evidence.growth
    if not before or after <= before or weeks <= 0:
        return ""
    needed = math.log(factor) / math.log(after / before) * weeks
    if needed > 520:
        return ""
    return f"{datetime.fromtimestamp(now_s, UTC) + timedelta(weeks=needed):%Y-%m}"


def _three_ways(evidence: Evidence) -> Verdict:
    told, missing = [], []
    for kind in ("own", "api", "hosted"):
        sides = [side for side in evidence.sides if side.kind == kind]
        tries = sum(side.tries for side in sides)
        if tries >= TRIES_MIN:
            best = max(sides, key=lambda side: side.tries)
            told.append(Said("milestone.side", side=Said(f"milestone.kind.{kind}"),
                             tries=f"{tries:,}", ms=_ms(best.first_token.p50_ms)))  # fmt: skip
        else:
            what = Said("milestone.lacks.side", side=Said(f"milestone.kind.{kind}"), tries=tries,
                        least=TRIES_MIN)  # fmt: skip
            missing.append(Lack(what, Said(f"milestone.get.{kind}")))
    if not evidence.has_rent:
        missing.append(Lack(Said("milestone.lacks.rent"), Said("milestone.get.rent")))
    since = _day(max((side.first_ms for side in evidence.sides), default=0))
    state: State = "unknown" if missing else "met"
    return Verdict("three_ways", state, "" if missing else since, tuple(told), tuple(missing))


def _ms(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _gateway(evidence: Evidence) -> Verdict:
    """It chooses among targets and nearly all calls end well."""
    used = [side for side in evidence.sides if side.tries >= TRIES_MIN]
    share = evidence.calls.ok_share
    told = (Said("milestone.ok", share=_percent(share), requests=f"{evidence.calls.requests:,}"),
            Said("milestone.targets", count=len(used), least=TRIES_MIN))  # fmt: skip
    is_met = len(used) >= 2 and share is not None and share >= OK_SHARE_MIN
    since = _day(sorted(side.first_ms for side in used)[1]) if is_met else ""
    return Verdict("gateway", "met" if is_met else "not_met", since, told)


def _automation(evidence: Evidence) -> Verdict:
    """Calls find another target without a person, and the controller acts."""
    calls = evidence.calls
    told = [Said("milestone.again", ok=calls.again_ok, all=calls.again),
            Said("milestone.overflowed", ok=calls.overflowed_ok, all=calls.overflowed),
            Said("milestone.dry" if evidence.is_dry_run else "milestone.acts")]  # fmt: skip
    handled, well = calls.again + calls.overflowed, calls.again_ok + calls.overflowed_ok
    missing = []
    if not handled:
        missing.append(Lack(Said("milestone.lacks.handled"), Said("milestone.get.handled")))
    if evidence.is_dry_run:
        missing.append(Lack(Said("milestone.lacks.acting"), Said("milestone.get.acting")))
    is_met = not missing and well >= OK_SHARE_MIN * handled
    state: State = "met" if is_met else "unknown" if not handled else "not_met"
    since = _day(calls.last_ms) if is_met else ""
    return Verdict("automation", state, since, tuple(told), tuple(missing))


def _share(evidence: Evidence, wanted: float, now_s: float) -> Verdict:
    """Met from the month on since which it has held in every month; the month under way counts
    only when it is the only one."""
    name = f"share_{wanted:.0%}".rstrip("%")
    running = f"{_today(evidence, now_s):%Y-%m}"
    whole = [one for one in evidence.months if one.month < running] or list(evidence.months)
    told = tuple(
        Said("milestone.month", month=one.month, share=_percent(one.share)) for one in whole[-3:]
    )
    since = ""
    for one in reversed(whole):
        if one.share < wanted:
            break
        since = one.month
    return Verdict(name, "met" if since else "not_met", since, told)


def _saving(evidence: Evidence, name: str, wanted: float) -> Verdict:
    spending = evidence.spending
    if spending is None:
        lack = Lack(Said("milestone.lacks.money", why=evidence.spending_fault),
                    Said("milestone.get.money"))  # fmt: skip
        return Verdict(name, "unknown", "", (), (lack,))
    missing = []
    if not evidence.has_rent:
        missing.append(Lack(Said("milestone.lacks.rent"), Said("milestone.get.rent")))
    if spending.unpriced:
        what = Said("milestone.lacks.price", models=spending.unpriced)
        missing.append(Lack(what, Said("milestone.get.price")))
    if not any(side.kind == "own" for side in evidence.sides):
        missing.append(Lack(Said("milestone.lacks.own"), Said("milestone.get.own")))
    saving = spending.saving
    if missing or saving is None:
        return Verdict(name, "unknown", "", (), tuple(missing))
    told = (
        Said("milestone.paid", currency=spending.currency,
             paid=_units(spending.api_micro + spending.own_micro + spending.shared_micro),
             instead=_units(spending.api_micro + spending.instead_micro),
             saving=f"{saving:+.1%}", rate=spending.rate),
    )  # fmt: skip
    is_met = saving >= wanted
    since = _day(evidence.calls.last_ms) if is_met else ""
    return Verdict(name, "met" if is_met else "not_met", since, told)


def _compliance(evidence: Evidence, now_s: float) -> Verdict:
    """A signed report of each of the last full months."""
    wanted, month = [], _today(evidence, now_s).replace(day=1)
    for _ in range(REPORTS_MIN):
        month = (month - timedelta(days=1)).replace(day=1)
        wanted.append(f"{month:%Y-%m}")
    there = [name for name in wanted if name in evidence.reports]
    told = (Said("milestone.reports", months=tuple(sorted(there)) or ("-",)),)
    absent = tuple(sorted(set(wanted) - set(there)))
    used = {one.month for one in evidence.months}
    # A report of a month in which nothing was served shows no practice of reporting.
    if idle := tuple(name for name in sorted(there) if name not in used):
        lack = Lack(Said("milestone.lacks.idle", months=idle), Said("milestone.get.idle"))
        return Verdict("compliance", "not_met", "", told, (lack,))
    if absent:
        lack = Lack(Said("milestone.lacks.reports", months=absent),
                    Said("milestone.get.reports", month=absent[-1]))  # fmt: skip
        return Verdict("compliance", "not_met", "", told, (lack,))
    return Verdict("compliance", "met", min(wanted), told)


def _today(evidence: Evidence, now_s: float) -> datetime:
    """Where the books' days and months begin."""
    return datetime.fromtimestamp(now_s, UTC) + timedelta(hours=evidence.utc_offset_hours)


def _units(micro: int) -> str:
    return rounded(micro / 1e6)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1e3, UTC):%Y-%m-%d}"
