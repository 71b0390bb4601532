"""What each child of `up` inherits: the environment it needs, and no other part's secrets. Pure.

A provider's key and the database's password go to the gateway alone. Ray and vLLM are tuned by
variables that nobody can list, so the engine gets all others; gateway and controller are ours and
get what they need. Settings (`BALLAST_*`) go to nobody: the children read the effective file.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.provider import Provider
from serving.account_key import key_variable
from serving.settings import Settings
from serving.tenant_accounts import variables as tenant_keys

PLAIN = frozenset({
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "TZDIR", "USER", "VIRTUAL_ENV",
})  # fmt: skip
PLAIN_PREFIXES = ("GLIBC_", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "SSL_", "XDG_")
"""Locale, loader, allocator, certificates, Python itself."""
OURS = "BALLAST_"
LIBPQ = "PG"
"""PGPASSWORD, PGSSLROOTCERT and so on: read by PostgreSQL's client library."""
FIXED = {"PYTHONUNBUFFERED": "1"}


def by_part(
    environ: Mapping[str, str], settings: Settings, rows: Mapping[str, Provider]
) -> dict[str, dict[str, str]]:
    """The environment of each part, by its name."""
    used = {key_variable(access, rows[access.id]) for access in settings.providers}
    used |= {name for name in environ if name.startswith(LIBPQ)}
    used |= {settings.ledger.password_env or ""}
    named = {access.api_key_env for access in settings.providers} | tenant_keys(settings)
    used |= tenant_keys(settings)
    keys = used | named | {row.api_key_env for row in rows.values()}
    plain = {name: text for name, text in environ.items() if _is_plain(name) and name not in keys}
    return {
        "gateway": plain | {n: text for n, text in environ.items() if n in used} | FIXED,
        "engine": {
            name: text
            for name, text in environ.items()
            if name not in keys and not name.startswith(OURS)
        }
        | FIXED,
        "controller": plain | FIXED,
    }


def _is_plain(name: str) -> bool:
    return name in PLAIN or name.startswith(PLAIN_PREFIXES)
