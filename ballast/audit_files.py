"""The files of a report or a breach: written, signed, checked."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from ballast.csv_parts import ROWS_MAX, CsvParts
from ballast.messages import Said, say
from serving.audit import report as reporting
from serving.audit import sign
from serving.audit.auditor import Auditor
from serving.audit.sign import Signer
from serving.audit.values import Question, class_name, class_of
from serving.rows import EgressIntent

FORM = "ballast-audit-report-1"
WHO_MAX = 100_000
"""Tenants or vendors counted one by one; the rest are one line."""


class Seal(msgspec.Struct, frozen=True):
    """What stands beside a report's page."""

    form: str
    files: dict[str, str]
    """SHA-256 by name."""
    key: str
    """Fingerprint."""
    signature: str = ""


_encode = msgspec.json.Encoder(order="deterministic").encode


def report(
    auditor: Auditor, signer: Signer, asked: tuple[reporting.Scope, str], folder: Path
) -> list[Path]:
    """Write page, rows and seal. Raises OSError and what the auditor raises."""
    scope, lang = asked
    folder.mkdir(parents=True, exist_ok=True)
    at_ms = time.time_ns() // 1_000_000
    stem = f"egress-{datetime.fromtimestamp(at_ms / 1e3, UTC):%Y%m%dT%H%M%S}-{lang}"
    page, seal = folder / f"{stem}.html", folder / f"{stem}.sig.json"
    found = reporting.Gathered()
    header = tuple(reporting.WORDS[lang][name] for name in reporting.COLUMNS)
    with CsvParts(stem, header, lambda name: (folder / name).open("wb")) as rows:

        def take(row: EgressIntent) -> None:
            found.take(row)
            rows.write(reporting.cells(row))

        auditor.every(question_of(scope), take)
    printed = reporting.Printed(page.name, ", ".join(rows.names), signer.fingerprint, at_ms)
    page.write_text(reporting.page(scope, found, auditor.verify(), printed, lang), encoding="utf-8")
    made = [page, *(folder / name for name in rows.names)]
    write_seal(signer, made, seal)
    return [*made, seal]


def write_seal(signer: Signer, files: Sequence[Path], seal: Path) -> None:
    """Write the signature over the hashes of files that lie beside it. Raises OSError."""
    named = Seal(FORM, {path.name: _digest(path) for path in files}, signer.fingerprint)
    signature = signer.sign(_covered(named)).hex()
    seal.write_bytes(_encode(msgspec.structs.replace(named, signature=signature)))


def check(page: Path, public: bytes) -> list[str]:
    """What is not as it was signed. Raises OSError."""
    return check_seal(page.with_suffix(".sig.json"), public, page.name)


def check_seal(seal: Path, public: bytes, about: str) -> list[str]:
    """The same of a seal by itself, which must cover the file `about`. Raises OSError."""
    try:
        found = msgspec.json.decode(seal.read_bytes(), type=Seal)
        signature = bytes.fromhex(found.signature)
    except (msgspec.DecodeError, ValueError):
        return [Said("audit.no_signature", name=seal.name)]
    if found.form != FORM or about not in found.files:
        return [Said("audit.not_about", name=seal.name, name_2=about)]
    if not sign.holds(public, _covered(found), signature):
        return [say("audit.not_signed_by", name=seal.name, public=sign.fingerprint(public))]
    faults = []
    for name, digest in found.files.items():
        path = seal.with_name(Path(name).name)
        if not path.is_file():
            faults.append(say("audit.not_there", name=name))
        elif _digest(path) != digest:
            faults.append(say("audit.changed", name=name))
    return faults


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _covered(seal: Seal) -> bytes:
    return _encode(msgspec.structs.replace(seal, signature=""))


class Bundle(NamedTuple):
    """What a breach's bundle holds."""

    calls: int
    tenants: int
    vendors: int
    keys: list[str]

    def __str__(self) -> str:
        return say(
            "audit.counts",
            calls=self.calls,
            tenants=self.tenants,
            vendors=self.vendors,
            count=len(self.keys),
        )


def breach(auditor: Auditor, question: Question, file: Path) -> Bundle:
    """Write the bundle; rows go into it as they come. Raises OSError and what the auditor
    raises."""
    tenants: Counter[str] = Counter()
    vendors: Counter[str] = Counter()

    def count(counts: Counter[str], who: str) -> None:
        counts[who if who in counts or len(counts) < WHO_MAX else "…"] += 1

    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:

        def open_part(name: str) -> IO[bytes]:
            return bundle.open(name, "w", force_zip64=True)

        with CsvParts("calls", reporting.COLUMNS, open_part) as rows:

            def take(row: EgressIntent) -> None:
                count(tenants, row.tenant)
                count(vendors, f"{row.provider} ({row.jurisdiction})")
                rows.write(reporting.cells(row))

            auditor.every(question, take)
        for name, counts in (("tenants", tenants), ("vendors", vendors)):
            with CsvParts(name, ("who", "calls"), open_part) as listed:
                for who, calls in counts.most_common():
                    listed.write((who, str(calls)))
        keys = auditor.keys_of(question)
        bundle.writestr("keys.txt", "".join(f"{key}\n" for key in keys))
        bundle.writestr("about.txt", _about(question, rows))
    return Bundle(rows.count, len(tenants), len(vendors), keys)


def _about(question: Question, rows: CsvParts) -> str:
    """What the bundle covers, so that nobody takes a window for all there is."""
    until = reporting.moment(question.until_ms)
    since = reporting.moment(question.since_ms) if question.since_ms else "the beginning"
    told = {name: getattr(question, name) for name in ("tenant", "jurisdiction", "provider", "key")}
    only = [f"{name} {value}" for name, value in told.items() if value]
    if question.sensitivity is not None:
        only.append(f"class {class_name(question.sensitivity)}")
    return (
        f"calls that left from {since} until {until} (UTC, the end left out)\n"
        f"only: {', '.join(only) or 'all'}\n"
        f"{rows.count} calls in {', '.join(rows.names)}, at most {ROWS_MAX} in each\n"
    )


def question_of(scope: reporting.Scope) -> Question:
    """What a report's scope asks the ledger."""
    sensitivity = class_of(scope.sensitivity) if scope.sensitivity else None
    return Question(
        scope.since_ms, scope.until_ms, scope.tenant, sensitivity, scope.jurisdiction,
        scope.provider,
    )  # fmt: skip
