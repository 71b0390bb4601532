"""Where monthly compliance reports lie, and whether their signatures still hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ballast import audit_files
from serving.audit.auditor import signer
from serving.settings import Settings

FOLDER = "compliance"
REPORT = "report-{month}.html"
MONTHS_MAX = 240


def folder(settings: Settings) -> Path:
    """Of this deployment's reports."""
    return settings.state_dir.expanduser() / FOLDER


def page(settings: Settings, month: str) -> Path:
    """One month's report."""
    return folder(settings) / month / REPORT.format(month=month)


def seal(settings: Settings, files: Sequence[Path], about: Path) -> Path:
    """Sign the hashes of files; the seal lies beside the page. Raises ProblemError, OSError."""
    written = about.with_suffix(".sig.json")
    audit_files.write_seal(signer(settings), files, written)
    return written


def sealed_months(settings: Settings) -> list[str]:
    """Months whose report is there as this deployment's key signed it, oldest first."""
    months = sorted(path.name for path in folder(settings).glob("????-??") if path.is_dir())
    if not months:
        return []
    public = signer(settings).public
    found = []
    for month in months[-MONTHS_MAX:]:
        try:
            faults = audit_files.check(page(settings, month), public)
        except OSError:
            continue
        if not faults:
            found.append(month)
    return found
