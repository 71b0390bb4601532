"""Why settings are refused, as sentences with code and values, where they need more than a line."""

from __future__ import annotations

from collections.abc import Sequence

from models.worded import Worded

ONE_LINE = Worded("settings.one_line", "keep to one line, without control characters")
ONE_BODY = Worded(
    "settings.one_body", "bodies_bytes_of_key_max: one body of body_bytes_max must fit"
)
JWKS = Worded("settings.jwks", "name jwks_url or jwks_file, one of them")
POSTGRES = Worded("settings.postgres", "a PostgreSQL address begins with postgresql://")
PASSWORD = Worded(
    "settings.password", "a password does not belong here: see password_file, password_env"
)
HOSTS = Worded("settings.hosts", "each of its hosts is a name or an address and perhaps `:port`")


def adapter_needs(name: str, elsewhere: str, wanted: str) -> str:
    """An adapter that goes elsewhere and does not say how."""
    template = "adapter {name}: elsewhere: {elsewhere} needs `{wanted}`"
    return Worded(
        "settings.adapter_needs", template, name=repr(name), elsewhere=elsewhere, wanted=wanted
    )


def name_profile(source: str, known: Sequence[str]) -> str:
    """Weights that the default profile is not of."""
    template = "name a profile for {source}: {known}"
    return Worded("settings.name_profile", template, source=source, known=list(known))


def cannot_read(key: str, path: object, why: object) -> str:
    """A file that settings name; `why` is the system's word."""
    template = "{key}: cannot read {path}: {why}"
    return Worded("settings.file_read", template, key=key, path=path, why=why)
