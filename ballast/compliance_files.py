"""Where monthly compliance reports lie, and whether their signatures still hold.

A month that was signed is never written over: who signs again writes a revision beside it, whose
seal covers the seal before, so each holds the whole chain. How far the chain goes is signed beside
it, or nobody would miss its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ballast import audit_files
from ballast.messages import Said
from serving.audit.auditor import signer
from serving.settings import Settings

FOLDER = "compliance"
HEAD = "revisions.sig.json"
"""Of a month: the signature over all its seals."""
MONTHS_MAX = 240
REVISIONS_MAX = 99


def folder(settings: Settings) -> Path:
    """Of this deployment's reports."""
    return settings.state_dir.expanduser() / FOLDER


def page(settings: Settings, month: str, revision: int = 1) -> Path:
    """One month's report; the first revision bears no number."""
    return folder(settings) / month / f"report-{month}{_mark(revision)}.html"


def data(settings: Settings, month: str, revision: int = 1) -> Path:
    """The same for programs."""
    return folder(settings) / month / f"evidence{_mark(revision)}.json"


def seal_of(page: Path) -> Path:
    """The signature over a report."""
    return page.with_suffix(".sig.json")


def _mark(revision: int) -> str:
    return "" if revision == 1 else f".r{revision}"


def latest(settings: Settings, month: str) -> int:
    """The highest revision that is signed; 0 for a month without a seal."""
    numbers = range(REVISIONS_MAX, 0, -1)
    return next((n for n in numbers if seal_of(page(settings, month, n)).exists()), 0)


def seal(settings: Settings, files: Sequence[Path], about: Path) -> Path:
    """Sign the hashes of files; the seal lies beside the page. Raises ProblemError, OSError."""
    written = seal_of(about)
    audit_files.write_seal(signer(settings), files, written)
    return written


def seal_all(settings: Settings, month: str) -> None:
    """Sign how many revisions a month has. A crash before leaves the last one unnamed, which is no
    fault: it names the one before. Raises ProblemError, OSError."""
    seals = [seal_of(page(settings, month, n)) for n in range(1, latest(settings, month) + 1)]
    head = seals[0].with_name(HEAD)
    made = head.with_suffix(".new")
    audit_files.write_seal(signer(settings), seals, made)
    made.replace(head)


def faults(settings: Settings, month: str, public: bytes) -> list[str]:
    """What is not as it was signed, in any revision of a signed month. Raises OSError."""
    found: list[str] = []
    for number in range(1, latest(settings, month) + 1):
        about = page(settings, month, number)
        if not seal_of(about).exists():
            found.append(Said("evidence.gap", number=number, name=seal_of(about).name))
            continue
        found += audit_files.check(about, public)
        if number > 1 and not _covers(about, seal_of(page(settings, month, number - 1))):
            found.append(Said("evidence.unchained", name=seal_of(about).name, number=number - 1))
    return [*found, *(one for one in _of_head(settings, month, public) if one not in found)]


def _of_head(settings: Settings, month: str, public: bytes) -> list[str]:
    """What the signature over all seals misses. Reports of before it have none."""
    first = page(settings, month)
    head = first.with_name(HEAD)
    if head.exists():
        return audit_files.check_seal(head, public, seal_of(first).name)
    try:
        told = msgspec.json.decode(data(settings, month).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return []  # told as a fault of the first revision
    return [Said("evidence.no_head", name=HEAD)] if told.get("head") else []


def _covers(about: Path, before: Path) -> bool:
    """Whether a seal names another among what it signs; `audit_files.check` compares its hash."""
    try:
        signed = msgspec.json.decode(seal_of(about).read_bytes(), type=audit_files.Seal)
    except msgspec.DecodeError:
        return False
    return before.name in signed.files


def sealed_months(settings: Settings) -> list[str]:
    """Months whose reports are all there as this deployment's key signed them, oldest first."""
    months = sorted(path.name for path in folder(settings).glob("????-??") if path.is_dir())
    if not months:
        return []
    public = signer(settings).public
    found = []
    for month in months[-MONTHS_MAX:]:
        try:
            is_whole = bool(latest(settings, month)) and not faults(settings, month, public)
        except OSError:
            continue
        if is_whole:
            found.append(month)
    return found
