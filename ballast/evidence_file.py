"""Writes a month's report: pages, data and seal; what was signed stays, a revision goes beside."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ballast import compliance_files, evidence, evidence_page, evidence_rules
from ballast.evidence_values import Facts, Stamp
from ballast.messages import Said
from ballast.problem import ProblemError
from serving.audit.auditor import signer
from serving.settings import Settings

WHY_MAX = 500
LOCK = ".lock"


def revise(settings: Settings, month: str, again: str | None) -> Stamp:
    """Which revision would be written. Raises ProblemError where the month is signed and nobody
    said why again, where there is nothing to write again, or where what is there is damaged."""
    before = compliance_files.latest(settings, month)
    if not before:
        _must_be_whole(settings, month)
    if again is None and before:
        seal = compliance_files.seal_of(compliance_files.page(settings, month, before))
        what = Said("evidence.signed", month=month, name=seal.name)
        raise ProblemError(what, Said("evidence.again", month=month, number=before + 1))
    if again is None:
        return Stamp()
    if not before:
        what = Said("evidence.nothing_signed", month=month)
        raise ProblemError(what, Said("evidence.without_again", month=month))
    if not again.strip() or len(again) > WHY_MAX:
        raise ProblemError(
            Said("evidence.no_why"), Said("evidence.say_why", month=month, most=WHY_MAX)
        )
    if before >= compliance_files.REVISIONS_MAX:
        what = Said("evidence.too_many", month=month, most=compliance_files.REVISIONS_MAX)
        raise ProblemError(what, Said("evidence.restore", month=month))
    _must_be_whole(settings, month)
    seal = compliance_files.seal_of(compliance_files.page(settings, month, before))
    digest = hashlib.sha256(seal.read_bytes()).hexdigest()
    return Stamp(revision=before + 1, replaces=seal.name, digest=digest, why=again.strip())


def _must_be_whole(settings: Settings, month: str) -> None:
    """Raises ProblemError."""
    try:
        found = compliance_files.faults(settings, month, signer(settings).public)
    except OSError as error:
        found = [error.strerror or str(error)]
    if found:
        what = Said("evidence.damaged", month=month, faults=tuple(found))
        raise ProblemError(what, Said("evidence.restore", month=month))


def write(
    settings: Settings, facts: Facts, now_s: float, again: str | None = None
) -> list[Path]:  # fmt: skip
    """Write pages, data and, for a month that is over, the seal. Raises ProblemError, also while
    another does."""
    try:
        with _alone(settings):
            return _write(settings, facts, now_s, again)
    except OSError as error:
        why = error.strerror or str(error)
        raise ProblemError(Said("evidence.cannot", why=why), Said("evidence.make_room")) from None


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two runs would each make the same revision, of parts of both."""
    folder = compliance_files.folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProblemError(Said("evidence.busy"), Said("evidence.wait")) from None
        yield


def _write(settings: Settings, facts: Facts, now_s: float, again: str | None) -> list[Path]:
    stamp = revise(settings, facts.month, again)
    page = compliance_files.page(settings, facts.month, stamp.revision)
    _, until_ms = evidence.bounds_of(facts.month, settings)
    is_over = now_s * 1e3 >= until_ms
    stamp = stamp._replace(
        at=f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M} UTC",
        seal=compliance_files.seal_of(page).name if is_over else "",
    )
    found = evidence_rules.sections(facts)
    page.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = [page, page.with_name(f"{page.stem}.en.html"),
            compliance_files.data(settings, facts.month, stamp.revision)]  # fmt: skip
    for path, language in ((made[0], "zh"), (made[1], "en")):
        told = evidence_page.made(facts, found, stamp, language)  # type: ignore[arg-type]
        path.write_text(told, encoding="utf-8")
    body = {"month": facts.month, "lists": facts.lists, "at": stamp.at,
            "revision": stamp.revision, "replaces": stamp.replaces,
            "replaces_sha256": stamp.digest, "why": stamp.why,
            "head": compliance_files.HEAD if is_over else "",
            "sections": evidence_page.as_objects(found)}  # fmt: skip
    made[2].write_bytes(msgspec.json.format(msgspec.json.encode(body)))
    if is_over:
        before = [page.with_name(stamp.replaces)] if stamp.replaces else []
        made.append(compliance_files.seal(settings, [*made, *before], page))
        compliance_files.seal_all(settings, facts.month)
    return made
