"""An account with a third-party API, and how long we wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.provider import Provider
from serving.backends.keyfile import KeyFile
from serving.errors import OwnError
from serving.records import Call, Offering


@dataclass(frozen=True, slots=True)
class Account:
    """One provider switched on."""

    row: Provider
    base_url: str
    api_key: str
    """As it was at the start."""
    key_file: KeyFile | None = None
    """Where it may change."""
    proxy: str | None = None
    paid_by: str = "cash"
    """What it pays with, for the books: `cash`, `credit`, `prepaid`, or `tenant` for a tenant's."""
    tenant: str = ""
    """Whose it is; empty is ours."""

    def __repr__(self) -> str:
        return f"Account({self.row.id})"

    def headers(self, now_s: float) -> dict[str, str]:
        """What shows the key, and what the provider wants beside it."""
        key = self.api_key if self.key_file is None else self.key_file.key(now_s)
        auth = self.row.auth
        shown = f"{auth.scheme} {key}" if auth.scheme else key
        return {**self.row.headers, auth.header: shown}


def chosen(accounts: Mapping[str, Account], target: Offering, call: Call) -> Account:
    """The account that pays for a call there. The last wall: whatever placed it, no call spends
    another tenant's account, nor ours where a tenant's was meant. Raises OwnError."""
    account = accounts[target.account_id]
    if account.tenant != target.owner or account.tenant not in ("", call.tenant):
        raise OwnError("internal_error", "the account of another tenant was to be used")
    return account


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds."""

    connect_s: float = 5.0
    first_content_s: float = 30.0
    """To the first content; thinking models stream reasoning well before this."""
    stall_s: float = 60.0
    """Between two reads after it."""
