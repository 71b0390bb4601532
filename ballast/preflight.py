"""Asks the gateway's own code whether it would start with these settings, and who could answer.

The checks are the gateway's functions, called as it calls them; nothing is judged twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from ballast import limits_check, sources
from ballast import room as rooms
from ballast.doctor import Finding, Level
from ballast.messages import Said
from ballast.outlook import Terms, outlook
from ballast.prepare import Prepared
from ballast.probe import Facts
from ballast.problem import worded
from models import sizing
from serving.auth import KeyConflict
from serving.errors import CallerError
from serving.keys import Keys
from serving.ledger.base import LedgerNewer, LedgerUnavailable
from serving.ledger.store import open_to_read, place, sqlite_file
from serving.offerings import accounts, offerings
from serving.settings import Settings, SettingsError


def terms_of(prepared: Prepared) -> Terms:
    """Keys, providers and offerings as the gateway reads them. Raises SettingsError."""
    settings = prepared.settings
    try:
        sold = offerings(settings, accounts(settings))
        return Terms(sold, Keys(settings).callers)
    except KeyConflict as error:
        raise SettingsError(worded(error)) from None


def knows(settings: Settings, key: str) -> bool:
    """Whether a key is valid with these settings."""
    try:
        Keys(settings).identify(f"Bearer {key}".encode())
    except CallerError:
        return False
    return True


def room(prepared: Prepared, facts: Facts) -> Iterator[Finding]:
    """What this machine's memory does not hold of the cards on its CPU."""
    if not prepared.has_engine or not any(model.card for model in prepared.settings.models):
        return
    free_bytes = facts.ram_bytes if facts.up_pid else facts.ram_free_bytes
    known = sizing.load(prepared.settings.cards_dir)
    yield from rooms.examine(prepared.settings, known, free_bytes)


def warnings(prepared: Prepared, terms: Terms) -> list[Finding]:
    """Whose calls nothing could answer."""
    found = outlook(prepared.settings, terms, _unused_keys(prepared, os.environ))
    return [finding for finding in found if finding.level is Level.WARN]


def _unused_keys(prepared: Prepared, environ: Mapping[str, str]) -> dict[str, str]:
    """Providers whose key is here but which are not switched on, by the key's variable."""
    used = {access.id for access in prepared.settings.providers}
    return {
        row.api_key_env: row.id
        for row in prepared.rows.values()
        if row.id not in used and environ.get(row.api_key_env)
    }


def examine(prepared: Prepared) -> Iterator[Finding]:
    """All that the settings would do to a start; for the doctor."""
    from serving.app import Gateway  # half a second of imports that `up` leaves to the gateway

    settings = prepared.settings
    try:
        terms = terms_of(prepared)
        Gateway(settings)
    except (SettingsError, KeyConflict) as error:
        yield Finding("settings", Level.STOP, worded(error), Said("cli.mend_settings"))
    else:
        providers = [access.id for access in settings.providers] or Said("doctor.nobody")
        text = Said("doctor.valid", keys=len(terms.callers), providers=providers)
        yield Finding("settings", Level.OK, text)
        yield from outlook(settings, terms, _unused_keys(prepared, os.environ))
    yield from _ledger(prepared)
    yield from limits_check.examine(settings)
    yield from sources.examine(prepared)


def _ledger(prepared: Prepared) -> Iterator[Finding]:
    settings = prepared.settings
    is_embedded = not settings.ledger.url
    if is_embedded and not sqlite_file(settings).exists():
        return
    where = place(settings)
    try:
        with contextlib.closing(open_to_read(settings)) as ledger:
            ledger.requests(1)
    except LedgerNewer as error:
        yield Finding(
            "ledger",
            Level.STOP,
            Said("books.unavailable", where=where, error=error),
            Said("doctor.other_ledger"),
        )
    except LedgerUnavailable as error:
        text = Said("doctor.ledger_waits", where=where, error=error)
        remedy = Said("doctor.restore") if is_embedded else Said("doctor.look")
        yield Finding("ledger", Level.WARN, text, remedy)
