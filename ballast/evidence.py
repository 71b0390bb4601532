"""Gathers compliance evidence of a month from settings, ledger, audit, reviews and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ballast import books, compliance_files, evidence_guard
from ballast.evidence_values import Asked, Facts, Own, WordList
from ballast.messages import Said
from ballast.problem import ProblemError
from models import provider
from serving.audit import report as reporting
from serving.audit.anchor import AnchorFault
from serving.audit.auditor import Auditor
from serving.audit.values import Question
from serving.directory.base import ENTRIES_MAX, decode_event
from serving.directory.store import opener as directory_opener
from serving.directory.values import DirectoryFault, build
from serving.errors import OwnError
from serving.finance import months, rolling
from serving.finance.values import FinanceError
from serving.guard.termfile import ListFault
from serving.review import store as review_store
from serving.review.base import ReviewsAway, Wanted
from serving.review.values import Kind
from serving.settings import Settings, SettingsError

CASES_MAX = 100_000
_CALLS = """
    SELECT count(*), count(*) FILTER (WHERE r.code = 'content_filter') FROM requests r
    WHERE r.ended_ms >= :since_ms AND r.ended_ms < :until_ms"""


class Asking(NamedTuple):
    """What the flags ask for."""

    month: str
    own: Path | None = None
    questions: Path | None = None


class Kept(msgspec.Struct, frozen=True):
    """What a report keeps for the next to compare with."""

    month: str
    lists: tuple[WordList, ...] = ()


def gather(settings: Settings, asking: Asking) -> Facts:
    """All facts of a month. Raises ProblemError for what makes no report; a part that cannot be
    read is told in it."""
    since_ms, until_ms = bounds_of(asking.month, settings)
    with books.finance(settings, is_to_read=True) as database:
        ((requests, blocked),) = database.rows(_CALLS, {"since_ms": since_ms, "until_ms": until_ms})
        is_kept = rolling.trimmed_ms(database) <= since_ms
    left = reporting.Gathered()
    auditor = Auditor(settings)
    auditor.every(Question(since_ms, until_ms), left.take)
    lists, asked, fault = _guarded(settings, asking.questions)
    return Facts(
        month=asking.month, settings=settings, rows=_rows(settings),
        own=_read(asking.own, Own) if asking.own else Own(), lists=lists,
        lists_before=_before(settings, asking.month), asked=asked, asked_fault=fault,
        cases=_cases(settings, since_ms, until_ms), left=left.count, abroad=left.abroad,
        requests=int(requests) if is_kept else None, blocked=int(blocked), audit=_audit(auditor),
        changes=_changes(settings, since_ms, until_ms), tenants=_tenants(settings),
    )  # fmt: skip


def bounds_of(month: str, settings: Settings) -> tuple[int, int]:
    """A month in the books' time zone, as milliseconds. Raises ProblemError."""
    try:
        return months.bounds(month, settings.ledger.utc_offset_hours * 3_600_000)
    except (FinanceError, ValueError):
        raise ProblemError(
            Said("evidence.no_month", month=month), Said("evidence.write_month")
        ) from None


def _rows(settings: Settings) -> Mapping[str, provider.Provider]:
    folders = [provider.FOLDER, *([settings.providers_dir] if settings.providers_dir else [])]
    try:
        return provider.load(*folders)
    except provider.ProviderFileError as error:
        raise ProblemError(str(error), Said("cli.mend_settings")) from None


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.yaml.decode(path.read_bytes() or b"{}", type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        what = Said("evidence.bad_facts", path=path, why=error)
        raise ProblemError(what, Said("evidence.facts_form")) from None


def _guarded(
    settings: Settings, questions: Path | None
) -> tuple[tuple[WordList, ...], Asked | None, str]:
    asked = _read(evidence_guard.SET, evidence_guard.Questions)
    if questions is not None:
        more = _read(questions, evidence_guard.Questions)
        asked = evidence_guard.Questions(asked.allow + more.allow, asked.refuse + more.refuse)
    try:
        lists, terms = evidence_guard.word_lists(settings.guard.terms_dir)
        return lists, evidence_guard.ask(settings.guard, asked, terms), ""
    except (ListFault, OSError, UnicodeDecodeError) as error:
        return (), None, str(error)


def _before(settings: Settings, month: str) -> tuple[WordList, ...] | None:
    """The lists of the latest report before this month."""
    folders = sorted(compliance_files.folder(settings).glob("????-??"), reverse=True)
    for earlier in (folder.name for folder in folders if folder.name < month):
        number = max(1, compliance_files.latest(settings, earlier))
        try:
            read = compliance_files.data(settings, earlier, number).read_bytes()
            return msgspec.json.decode(read, type=Kept).lists
        except (OSError, msgspec.MsgspecError):
            continue
    return None


def _cases(settings: Settings, since_ms: int, until_ms: int) -> dict[str, int] | None:
    counts: Counter[str] = Counter()
    try:
        with closing(review_store.opener(settings)()) as store:
            for kind in Kind:
                wanted = Wanted(kind, before=(until_ms, ""), limit=1_000)
                while cases := store.listed(wanted):
                    counts.update(f"{c.kind}.{c.state}" for c in cases if c.at_ms >= since_ms)
                    last = cases[-1]
                    if last.at_ms < since_ms or sum(counts.values()) >= CASES_MAX:
                        break
                    wanted = wanted._replace(before=(last.at_ms, last.id))
    except (ReviewsAway, OwnError):
        return None
    return dict(counts)


def _audit(auditor: Auditor) -> dict[str, Any]:
    try:
        found = auditor.verify()
    except (OwnError, AnchorFault, OSError, SettingsError) as error:
        return {"fault": str(error)}
    return {"entries": found.entries, "checkpoints": found.checkpoints,
            "faults": len(found.faults)}  # fmt: skip


def _tenants(settings: Settings) -> tuple[tuple[str, str], ...] | None:
    """Those of the settings and those that administrators made."""
    try:
        with closing(directory_opener(settings)()) as store:
            head, documents = store.read()
            made = build(head.number, documents)
    except (OwnError, DirectoryFault):
        return None
    standing = {one.id: one.residency for one in settings.tenants}
    stored = {id_: one.residency for id_, one in made.tenants.items()}
    return tuple(sorted((stored | standing).items()))


def _changes(settings: Settings, since_ms: int, until_ms: int) -> dict[str, int] | None:
    """What administrators did in the month, by subject's kind and action."""
    counts: Counter[str] = Counter()
    try:
        with closing(directory_opener(settings)()) as store:
            after = 0
            while entries := store.history(after, ENTRIES_MAX):
                for entry in entries:
                    event = decode_event(entry.data)
                    if since_ms <= event.at_ms < until_ms:
                        counts[f"{event.subject.partition(':')[0]}.{event.action}"] += 1
                after = entries[-1].number
    except OwnError:
        return None
    return dict(counts)
