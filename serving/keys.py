"""Reads keys, tenants and the pepper from settings and files; re-reads keys on a change."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime

import yaml
from pydantic import TypeAdapter, ValidationError

from models.worded import Worded
from serving import forwarded
from serving.auth import (
    Callers,
    KeyConflict,
    callers,
    digest,
    identify,
    is_same,
    pepper_mark,
    residency,
    subject,
)
from serving.directory.beside import beside
from serving.directory.values import Directory
from serving.errors import CallerError
from serving.forwarded import CustomerTerms
from serving.records import Caller, Overflow, Policy
from serving.settings import KeySettings, Settings, SettingsError, TenantSettings, reason
from serving.settings_words import cannot_read

CHECK_S = 1.0
KNOWN_MAX = 10_000
CUSTOMER_S = 86_400.0
"""A customer not named for so long no longer counts against its forwarder's bound."""
_log = logging.getLogger(__name__)
_KEYS = TypeAdapter(tuple[KeySettings, ...])


def pepper(settings: Settings) -> bytes:
    """The secret that key digests are made under. Raises SettingsError."""
    path = settings.pepper_file or settings.state_dir / "pepper"
    try:
        value = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(cannot_read("pepper_file", path, error.strerror)) from None
    if len(value) < 32:
        template = "pepper_file: {path} holds fewer than 32 bytes"
        raise SettingsError(Worded("settings.pepper_short", template, path=path))
    return value


class Keys:
    """The callers known now, and who sent which header lately.

    An HMAC-SHA-256 costs 5 us here, a tenth of a whole request, so headers seen before are known
    again by a keyed BLAKE2b under a secret of this process; no key is kept. Raises SettingsError or
    KeyConflict at the start; later a wrong file keeps the last good keys and says so.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stamp = -1.0
        self._checked_s = 0.0
        self._callers = Callers({}, datetime.min.replace(tzinfo=UTC))
        self._directory = Directory()
        self._conflict = ""
        self._is_alien = False
        self._rows: tuple[KeySettings, ...] = ()
        self._pepper = pepper(settings)
        self._mark = os.urandom(32)
        self._known: dict[bytes, Caller] = {}
        self._tenants: dict[str, TenantSettings] = {}
        self._customers: dict[str, OrderedDict[str, float]] = {}
        """Named lately and when, oldest first, by forwarder's key."""
        self._read()

    @property
    def callers(self) -> tuple[Caller, ...]:
        """All that are known and not revoked."""
        return tuple(caller for caller in self._callers.by_digest.values() if caller)

    def identify(self, authorization: bytes | None) -> Caller:
        """See `auth.identify`; looks at the key file at most once a second."""
        now_s = time.monotonic()
        if now_s - self._checked_s > CHECK_S:
            self._checked_s = now_s
            self._make_if_due()  # whatever the file says: an expired key ends on time
            try:
                self._read()
            except (SettingsError, KeyConflict) as error:
                _log.error("keys_unreadable", extra={"reason": str(error)})
        # A secret prefix does what a key does, for BLAKE2, and is hashed in the same block.
        mark = hashlib.blake2b(self._mark + (authorization or b""), digest_size=16).digest()
        caller = self._known.get(mark)
        if caller is None:
            caller = identify(self._callers.by_digest, self._pepper, authorization)
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[mark] = caller
        return caller

    def holder(self, key_id: str) -> Caller | None:
        """The caller that a key's id names; None where no such key is known, which may only mean
        that the directory has not been read. Raises CallerError for one that is good no more."""
        self._make_if_due()
        for caller in self._callers.by_digest.values():
            if caller is not None and caller.key_id == key_id:
                return caller
        rows = (*self._settings.keys, *self._rows, *self._directory.keys.values())
        if any(row.id == key_id for row in rows):
            message = "the API key has been revoked, has expired or belongs to a suspended tenant"
            raise CallerError("invalid_api_key", message)
        return None

    def on_behalf(
        self, caller: Caller, headers: Mapping[bytes, bytes], *, is_counted: bool = True
    ) -> Caller:
        """For whom a forwarder calls. Raises CallerError for a wrong header, or, where that is
        counted, one customer too many."""
        said = forwarded.named(headers)
        if not any(said):
            return caller
        tenant = forwarded.customer_id(caller, said.tenant)
        known = self._tenants.get(tenant)
        if known is None and is_counted:
            self._count(caller.key_id, tenant)
        elif known is not None and known.is_suspended:
            raise CallerError("invalid_api_key", f"customer {said.tenant!r} is suspended")
        user = ""
        if said.user:
            user = digest(self._pepper, tenant.encode() + b"\0" + said.user).hex()[:32]
        return forwarded.on_behalf(caller, said, user, self._terms(caller, tenant))

    def _count(self, key_id: str, tenant: str) -> None:
        """Bound the customers that nobody configured, over a day: a header must not grow the books
        without end, and one day's typos must not lock a forwarder out for good."""
        limit = self._settings.gateway.forwarded_tenants_max
        now_s = time.monotonic()
        customers = self._customers.setdefault(key_id, OrderedDict())
        while customers and next(iter(customers.values())) < now_s - CUSTOMER_S:
            customers.popitem(last=False)
        if tenant not in customers and len(customers) >= limit:
            message = f"this key has named {limit} customers within a day, and may name no more"
            raise CallerError("header_not_allowed", message)
        customers[tenant] = now_s
        customers.move_to_end(tenant)

    def _terms(self, caller: Caller, customer: str) -> CustomerTerms:
        if customer == caller.tenant:
            return CustomerTerms()
        own, forwarder = self._tenants.get(customer), self._tenants.get(caller.tenant)
        given = None if own is None else own.allowance
        if given is None and forwarder is not None:
            given = forwarder.customer_allowance
        rule = None if own is None else residency(own)
        tier_max = 0 if own is None else own.substitutes_max_tier or 0
        return CustomerTerms(rule, subject(f"tenant:{customer}", given), tier_max)

    def policy_of(self, tenant: str) -> Policy | None:
        """What a tenant's own plain key may do; None where there is no such tenant."""
        own = self._tenants.get(tenant)
        if own is None:
            return None
        return Policy(residency(own), Overflow.ALLOWED, tier_max=own.substitutes_max_tier or 0)

    def take(self, directory: Directory) -> None:
        """Know what the directory says beside the settings. Raises KeyConflict when a row
        contradicts them: all others are known all the same."""
        self._directory = directory
        self._make()
        own = pepper_mark(self._pepper)
        is_alien = any(not is_same(mark.hmac, own) for mark in directory.pepper.values())
        if is_alien and not self._is_alien:
            reason = "no key of the directory is known here: give all gateways one pepper_file"
            _log.error("pepper_differs", extra={"reason": reason})
        self._is_alien = is_alien
        if self._conflict:
            raise KeyConflict(self._conflict)

    @property
    def standing(self) -> Directory:
        """What stands in settings and key file: not the admin API's to change."""
        settings = self._settings
        return Directory(
            tenants={t.id: t for t in settings.tenants},
            keys={k.id: k for k in (*settings.keys, *self._rows)},
            administrators={a.id: a for a in settings.administrators},
        )

    def _read(self) -> None:
        """Read the key file again if it has changed, and make all anew if time has."""
        path = self._settings.keys_file
        if path is None:
            self._make_if_due()
            return
        try:
            stamp = path.stat().st_mtime
            if stamp == self._stamp:
                self._make_if_due()
                return
            found = _KEYS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or ())
        except ValidationError as error:
            faults = "; ".join(f"{e['loc']}: {e['msg']}" for e in error.errors(include_input=False))
            told = Worded("settings.key", "{key}: {said}", key=f"keys_file: {path}", said=faults)
            raise SettingsError(told) from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise SettingsError(cannot_read("keys_file", path, reason(error))) from None
        before, self._rows = self._rows, found
        try:
            self._make()
        except KeyConflict:
            self._rows = before
            raise
        self._stamp = stamp

    def _make_if_due(self) -> None:
        if datetime.now(UTC) >= self._callers.changes_at:
            self._make()

    def _make(self) -> None:
        settings = self._settings
        stored, conflict = beside(self.standing, self._directory)
        if conflict and conflict != self._conflict:
            _log.error("keys_conflict", extra={"reason": conflict})
        self._conflict = conflict
        tenants = tuple(
            _on_the_premises(t) if t.id in stored.confined else t
            for t in (*settings.tenants, *stored.tenants.values())
        )
        rows = (*settings.keys, *self._rows, *stored.keys.values())
        limited = {p.id: p.allowance for p in stored.projects.values() if p.allowance is not None}
        self._callers = callers(rows, tenants, datetime.now(UTC), limited)
        self._tenants = {t.id: t for t in tenants}
        self._known.clear()


def _on_the_premises(tenant: TenantSettings) -> TenantSettings:
    """As it is, but confined: see `directory.newer`."""
    return tenant.model_copy(update={"residency": "premises", "jurisdictions": ()})
