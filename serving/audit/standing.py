"""The policy that stands in settings and files, as the history keeps it: readable, and its digest.
Pure.

Chosen part by part, so that a port or a path is no change of policy. No secret is in it: the
settings hold none, and of a key's HMAC only a mark shows that it became another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec
from pydantic import BaseModel

from serving.records import Offering
from serving.settings import KeySettings, Model, Settings

ACTION = "settings.policy"
SUBJECT = "settings:policy"
BYTES_MAX = 256 << 10
"""Of one record; beyond it the largest parts are told by count and digest."""
CHANGED_MAX = 200
"""Names of what changed; more are counted."""
_encode = msgspec.json.Encoder(order="deterministic").encode
_MARKED = ("hmac", "previous_hmac")


class Standing(NamedTuple):
    """What it is made of; equal as long as nothing was read anew."""

    settings: Settings
    keys: tuple[KeySettings, ...]
    """Of settings and key file."""
    offered: tuple[Offering, ...]
    """With the labels and prices that packaged and laid over rows give."""
    lists: tuple[tuple[str, int, int], ...] = ()
    """Term lists: name, time of change (ns), size."""


def policy(standing: Standing, digests: Mapping[str, str]) -> dict[str, Any]:
    """All that decides who may do what, where data may go and what it may cost. `digests` are the
    term lists' SHA-256 by name."""
    settings = standing.settings
    rows = {
        "tenants": {t.id: _plain(t, "id") for t in settings.tenants},
        "keys": {k.id: _plain(k, "id") for k in standing.keys},
        "administrators": {a.id: _plain(a, "id") for a in settings.administrators},
        "providers": {p.id: _plain(p, "id") for p in settings.providers},
        "models": {m.name: _of_model(m) for m in settings.models},
        "offerings": {o.id: _of_offering(o) for o in standing.offered if not o.system},
        "routing": _plain(settings.routing),
        "oidc": {} if settings.oidc is None else _plain(settings.oidc),
        "pool": _plain(settings.fleet.pool),
        "engines_elsewhere": {e.url: _plain(e.pool) for e in settings.fleet.static if e.pool},
        "classes": {str(k): _plain(v) for k, v in settings.gateway.classes.items()},
        "guard": _plain(settings.guard),
        "term_lists": dict(digests),
        "budgets": _plain(settings.budgets),
        "review": _plain(settings.review),
        "audit": _plain(settings.audit),
        "retention": {name: getattr(settings.ledger, name) for name in ("row_days",
                      "rollup_months")},
    }  # fmt: skip
    told: dict[str, Any] = msgspec.json.decode(_encode(_written(rows)))  # as it is read again
    return told


def digest(told: Mapping[str, Any]) -> str:
    """SHA-256 of a policy, hexadecimal."""
    return hashlib.sha256(_encode(told)).hexdigest()


def details(told: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the event holds: the digest, the policy, and what differs from the one `before`."""
    found: dict[str, Any] = {"digest": digest(told), "policy": bounded(told)}
    if before is not None:
        names = changed(before, found["policy"])
        found["changed"] = names[:CHANGED_MAX]
        if len(names) > CHANGED_MAX:
            found["changed_more"] = len(names) - CHANGED_MAX
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """`part.name` of everything that differs, sorted."""
    found = []
    for part in sorted(before.keys() | after.keys()):
        old, new = before.get(part), after.get(part)
        if old == new:
            continue
        if not isinstance(old, dict) or not isinstance(new, dict):
            found.append(part)
            continue
        names = sorted(old.keys() | new.keys())
        found += [f"{part}.{name}" for name in names if old.get(name) != new.get(name)]
    return found


def bounded(told: Mapping[str, Any]) -> dict[str, Any]:
    """As given, or with its largest parts told by count and digest until it fits."""
    sizes = {name: len(_encode(value)) for name, value in told.items()}
    found, total = dict(told), sum(sizes.values())
    for name in sorted(sizes, key=lambda n: -sizes[n]):
        if total <= BYTES_MAX:
            break
        mark = hashlib.sha256(_encode(told[name])).hexdigest()
        found[name] = {"count": len(told[name]), "sha256": mark}
        total -= sizes[name]
    return found


def _of_model(model: Model) -> dict[str, Any]:
    names = {"aliases", "offerings", "surfaces", "weights", "weights_also", "tiers", "card",
             "variant"}  # fmt: skip
    row = model.model_dump(mode="json", include=names)
    ways = {"elsewhere", "tune", "prompt"}
    adapters = {a.name: a.model_dump(mode="json", include=ways) for a in model.adapters}
    return row | {"adapters": adapters}


def _of_offering(offering: Offering) -> dict[str, Any]:
    names = ("label", "price", "rates", "is_same_weights", "tier")
    row: dict[str, Any] = msgspec.to_builtins({n: getattr(offering, n) for n in names})
    return row


def _plain(row: BaseModel, *without: str) -> dict[str, Any]:
    """A row as JSON shows it, its HMACs as marks."""
    found = row.model_dump(mode="json", exclude=set(without), exclude_none=True)
    for name in _MARKED:
        if name in found:
            found[name.replace("hmac", "value")] = _mark(found.pop(name))
    return found


def _mark(hmac: str) -> str:
    """Another value shows, and nothing of it."""
    return hashlib.sha256(hmac.encode("ascii")).hexdigest()[:12]


def _written(value: Any) -> Any:
    """Addresses without what could be a credential; all else as it is."""
    if isinstance(value, dict):
        return {name: _written(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_written(one) for one in value]
    if isinstance(value, str) and "://" in value:
        return _address(value)
    return value


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"
