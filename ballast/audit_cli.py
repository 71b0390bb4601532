"""`ballast audit`: what left the premises, and the proof that no record of it was altered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ballast import audit_files, audit_policy, running
from ballast.admin_client import Client, desk, path_of
from ballast.admin_flags import AsJson, Config, KeyFile, Why
from ballast.admin_words import clean, table
from ballast.messages import Said, say
from ballast.messages.chosen import spoken
from ballast.printing import print_json
from ballast.problem import ProblemError, worded
from serving.audit import report as reporting
from serving.audit.anchor import AnchorFault
from serving.audit.auditor import Auditor, signer
from serving.audit.values import Egress, class_of
from serving.errors import OwnError

audit = typer.Typer(
    help="What left the premises, with proof: query, report, verify.", no_args_is_help=True
)
audit.command("policy")(audit_policy.policy)
UNPROVEN = 2
"""Exit code of `verify` when what should hold the record from outside is not there."""
From = Annotated[str, typer.Option("--from", help="Day or moment, UTC: 2026-07-01.")]
To = Annotated[str, typer.Option(help="Day or moment, UTC; the day itself is left out.")]
Tenant = Annotated[str, typer.Option(help="With its customers.")]
Class = Annotated[str, typer.Option("--class", help="public, internal, personal or secret.")]
Where = Annotated[str, typer.Option("--jurisdiction", help="us, sg, cn, ...")]
Provider = Annotated[str, typer.Option(help="As in the settings.")]
PublicKey = Annotated[
    str, typer.Option(help="Hexadecimal, from `ballast audit key`; else this machine's own.")
]


@audit.command()
def verify(
    public_key: PublicKey = "",
    stopped: Annotated[
        bool, typer.Option("--stopped", help="The stack is stopped: nobody has to sign now.")
    ] = False,
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="Do not ask audit.anchor_copy_url.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check every chain against itself, the signed checkpoints and their copies; ends with 1 if
    broken, or if the last checkpoint is older than three turns; with 2 if there are entries and no
    checkpoint, or the address's copy could not be read."""
    settings = running.settings_of(config)
    now_ms = 0 if stopped else time.time_ns() // 1_000_000
    with _said():
        found = Auditor(settings, public_of(public_key), not no_copy).verify(now_ms)
    if as_json:
        print_json(found._asdict() | {"faults": [fault._asdict() for fault in found.faults]})
    elif found.faults:
        table(("whose", "number", "what"), found.faults)
    else:
        typer.echo(say("audit.whole", entries=found.entries, writers=found.writers))
        last = (
            say("audit.last", last_ms=reporting.moment(found.last_ms)) if found.checkpoints else ""
        )
        typer.echo(say("audit.held", checkpoints=found.checkpoints, last=last))
        if settings.audit.anchor_copy_url and not no_copy and not found.copy_fault:
            typer.echo(say("audit.copied", copied=found.copied))
    if found.copy_fault:
        typer.echo(say("audit.copy_fault", copy_fault=clean(found.copy_fault)), err=True)
    is_unproven = (bool(found.entries) and not found.checkpoints) or bool(found.copy_fault)
    raise typer.Exit(1 if found.faults else UNPROVEN if is_unproven else 0)


@audit.command()
def query(
    since: From = "", until: To = "", tenant: Tenant = "", sensitivity: Class = "",
    jurisdiction: Where = "", provider: Provider = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    config: Config = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List what left, in order of time."""
    scope = _scope(since, until, (tenant, sensitivity, jurisdiction, provider))
    with _said():
        rows = Auditor(running.settings_of(config)).egress(
            audit_files.question_of(scope)._replace(limit=limit)
        )
    if as_json:
        print_json([Egress(row).told for row in rows])
        return
    words = reporting.WORDS[spoken()]
    table([words[name] for name in reporting.COLUMNS], [reporting.cells(row) for row in rows])
    if len(rows) == limit:
        typer.echo(say("audit.more", at_ms=_iso(rows[-1].at_ms)))


@audit.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Where the report's files go.", file_okay=False)],
    since: From = "", until: To = "", tenant: Tenant = "", sensitivity: Class = "",
    jurisdiction: Where = "", provider: Provider = "",
    config: Config = None,
) -> None:  # fmt: skip
    """Write a signed report: what of a class left in a time, and whether the record is whole."""
    settings = running.settings_of(config)
    scope = _scope(since, until, (tenant, sensitivity, jurisdiction, provider))
    with _said():
        made = audit_files.report(Auditor(settings), signer(settings), (scope, spoken()), folder)
    for path in made:
        typer.echo(str(path))


@audit.command()
def check(
    page: Annotated[Path, typer.Argument(help="A report's page.", dir_okay=False)],
    public_key: PublicKey = "",
    config: Config = None,
) -> None:
    """Check a report's signature and that its files are as they were signed; ends with 1 if not."""
    public = public_of(public_key)
    if public is None:
        with _said():
            public = signer(running.settings_of(config)).public
    with _said():
        faults = audit_files.check(page, public)
    for fault in faults:
        typer.echo(say("audit.not_as_signed", fault=clean(fault)), err=True)
    if not faults:
        typer.echo(say("audit.as_signed"))
    raise typer.Exit(1 if faults else 0)


@audit.command("key")
def key_(config: Config = None) -> None:
    """Print the public key, for whoever verifies: hand it over by another way than the reports."""
    with _said():
        own = signer(running.settings_of(config))
    typer.echo(say("audit.public_key", hex=own.public.hex(), fingerprint=own.fingerprint))


@audit.command()
def breach(
    file: Annotated[Path, typer.Argument(help="The bundle to write, .zip.", dir_okay=False)],
    since: From = "", until: To = "", tenant: Tenant = "", sensitivity: Class = "",
    jurisdiction: Where = "", provider: Provider = "",
    key: Annotated[str, typer.Option(help="Only calls of this API key.")] = "",
    revoke: Annotated[bool, typer.Option(help="Revoke all API keys concerned.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Revoke without being asked.")] = False,
    why: Why = "breach", config: Config = None, key_file: KeyFile = None,
) -> None:  # fmt: skip
    """Bundle whom a breach concerns: calls, tenants, vendors, API keys; with --revoke, take all
    those keys away."""
    scope = _scope(since, until, (tenant, sensitivity, jurisdiction, provider))
    with _said():
        told = audit_files.breach(
            Auditor(running.settings_of(config)),
            audit_files.question_of(scope)._replace(key=key),
            file,
        )
    typer.echo(f"{file}: {told}")
    if revoke and told.keys:
        if not yes:
            typer.confirm(say("audit.revoke", count=len(told.keys)), abort=True)
        _revoke(desk(config, key_file), told.keys, why)


def _revoke(client: Client, keys: list[str], why: str) -> None:
    """All of them, whatever becomes of one; ends with 1 if any could not be revoked."""
    left = []
    for key in keys:
        try:
            client.post(f"/keys/{path_of(key, 'revoke')}", {}, why=why)
        except ProblemError as error:
            left.append((key, error.what))
    typer.echo(say("audit.revoked", count=len(keys) - len(left), count_2=len(keys)))
    if left:
        table(("not revoked", "why"), left)
        raise typer.Exit(1)


@contextmanager
def _said() -> Iterator[None]:
    """Faults of stores and files, in words."""
    try:
        yield
    except OwnError as error:
        raise ProblemError(error.message, Said("audit.doctor")) from None
    except (AnchorFault, OSError) as error:
        raise ProblemError(worded(error), Said("audit.see_audit")) from None


def public_of(text: str) -> bytes | None:
    """A key as it was handed over; None where none is named. Raises ProblemError."""
    if not text:
        return None
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise ProblemError(Said("audit.hexadecimal"), Said("audit.see_key"))
    return found


def _scope(since: str, until: str, names: tuple[str, str, str, str]) -> reporting.Scope:
    now = datetime.now(UTC)
    first = _moment(since) if since else 0
    last = _moment(until) if until else round(now.timestamp() * 1e3)
    if names[1]:
        try:
            class_of(names[1])
        except ValueError as error:
            raise ProblemError(worded(error)) from None
    return reporting.Scope(first, last, *names)


def _moment(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(
            Said("audit.no_day", text=f"{text!r}"), Said("audit.write_day")
        ) from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return round(found.timestamp() * 1e3)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1e3, UTC).isoformat(timespec="milliseconds")
