"""The files of a report or a breach: written, signed, checked."""

from __future__ import annotations

import io
import time
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from serving.audit import report as reporting
from serving.audit import sign
from serving.audit.auditor import Auditor
from serving.audit.sign import Signer
from serving.audit.values import Question, class_of
from serving.rows import EgressIntent

FORM = "ballast-audit-report-1"
FILE_BYTES_MAX = 1 << 30


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
    page, rows, seal = (folder / f"{stem}.{end}" for end in ("html", "csv", "sig.json"))
    found = reporting.Gathered()
    with rows.open("w", encoding="utf-8-sig", newline="") as file:
        file.write(reporting.csv_line(tuple(reporting.WORDS[lang][n] for n in reporting.COLUMNS)))

        def take(row: EgressIntent) -> None:
            found.take(row)
            file.write(reporting.csv_line(reporting.cells(row)))

        auditor.every(question_of(scope), take)
    printed = reporting.Printed(page.name, rows.name, signer.fingerprint, at_ms)
    page.write_text(reporting.page(scope, found, auditor.verify(), printed, lang), encoding="utf-8")
    files = {path.name: reporting.digest(path.read_bytes()) for path in (page, rows)}
    made = Seal(FORM, files, signer.fingerprint)
    signature = signer.sign(_covered(made)).hex()
    seal.write_bytes(_encode(msgspec.structs.replace(made, signature=signature)))
    return [page, rows, seal]


def check(page: Path, public: bytes) -> list[str]:
    """What is not as it was signed. Raises OSError."""
    seal = page.with_suffix(".sig.json")
    try:
        found = msgspec.json.decode(seal.read_bytes(), type=Seal)
        signature = bytes.fromhex(found.signature)
    except (msgspec.DecodeError, ValueError):
        return [f"{seal.name} is no signature of a report"]
    if found.form != FORM or page.name not in found.files:
        return [f"{seal.name} is not about {page.name}"]
    if not sign.holds(public, _covered(found), signature):
        return [f"{seal.name}: not signed by the key {sign.fingerprint(public)}"]
    faults = []
    for name, digest in found.files.items():
        path = page.with_name(Path(name).name)
        if not path.is_file():
            faults.append(f"{name} is not there")
        elif reporting.digest(path.read_bytes()) != digest:
            faults.append(f"{name} was changed")
    return faults


def _covered(seal: Seal) -> bytes:
    return _encode(msgspec.structs.replace(seal, signature=""))


class Bundle(NamedTuple):
    """What a breach's bundle holds."""

    calls: int
    tenants: int
    vendors: int
    keys: list[str]

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, {self.tenants} tenants, {self.vendors} vendors,"
            f" {len(self.keys)} API keys"
        )


def breach(auditor: Auditor, question: Question, file: Path) -> Bundle:
    """Write the bundle. Raises OSError and what the auditor raises."""
    tenants: Counter[str] = Counter()
    vendors: Counter[str] = Counter()
    lines = io.StringIO()
    lines.write(reporting.csv_line(reporting.COLUMNS))

    def take(row: EgressIntent) -> None:
        tenants[row.tenant] += 1
        vendors[f"{row.provider} ({row.jurisdiction})"] += 1
        lines.write(reporting.csv_line(reporting.cells(row)))

    auditor.every(question, take)
    keys = auditor.keys_of(question)
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("calls.csv", "\ufeff" + lines.getvalue())
        for name, counts in (("tenants.csv", tenants), ("vendors.csv", vendors)):
            rows = [reporting.csv_line((who, str(n))) for who, n in counts.most_common()]
            bundle.writestr(name, "\ufeff" + "".join(rows))
        bundle.writestr("keys.txt", "".join(f"{key}\n" for key in keys))
    return Bundle(sum(tenants.values()), len(tenants), len(vendors), keys)


def question_of(scope: reporting.Scope) -> Question:
    """What a report's scope asks the ledger."""
    sensitivity = class_of(scope.sensitivity) if scope.sensitivity else None
    return Question(
        scope.since_ms, scope.until_ms, scope.tenant, sensitivity, scope.jurisdiction,
        scope.provider,
    )  # fmt: skip
