"""All that can be bought from third parties: our accounts and tenants' own, read once at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from serving.backends.account import Account
from serving.offerings import accounts, offerings
from serving.records import Offering
from serving.settings import Settings
from serving.tenant_accounts import Theirs, registered, theirs


class Market(NamedTuple):
    """Accounts, and the offerings they buy."""

    accounts: Mapping[str, Account]
    """Ours by provider, tenants' by `provider@id`."""
    sold: Mapping[str, tuple[Offering, ...]]
    """With our accounts: by model, or adapter."""
    by_tenant: Theirs

    @property
    def theirs(self) -> tuple[Offering, ...]:
        """What tenants' own accounts buy."""
        return tuple(
            row for own in self.by_tenant.values() for rows in own.values() for row in rows
        )

    @property
    def rows(self) -> list[Offering]:
        """Every offering."""
        return [*(row for rows in self.sold.values() for row in rows), *self.theirs]

    @property
    def named(self) -> dict[str, tuple[Offering, ...]]:
        """Every offering by what it stands behind, for the record of policies."""
        return {**self.sold, "tenants' own": self.theirs}


def read(settings: Settings) -> Market:
    """Raises SettingsError."""
    bought = accounts(settings)
    tenants = registered(settings, bought)
    return Market(bought | tenants, offerings(settings, bought), theirs(settings, tenants))
