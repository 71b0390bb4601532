"""What of the stored rows can be obeyed beside those that stand in settings and files. Pure."""

from __future__ import annotations

import msgspec

from serving.directory.values import Directory
from serving.settings import KeySettings


def beside(standing: Directory, stored: Directory) -> tuple[Directory, str]:
    """The stored rows that can be obeyed beside those that stand, and what contradicts them, in
    words: a row that is there twice, or a key whose tenant is nowhere. Such a row counts as absent,
    and all others hold: a revoked key is refused whatever is wrong with another."""
    faults = [f"tenant {id_!r} is given twice" for id_ in stored.tenants if id_ in standing.tenants]
    tenants = {id_: t for id_, t in stored.tenants.items() if id_ not in standing.tenants}
    values = {mark for key in standing.keys.values() for mark in _marks(key)}
    keys: dict[str, KeySettings] = {}
    for id_, key in stored.keys.items():
        if id_ in standing.keys:
            faults.append(f"the key id {id_!r} is given twice")
        elif key.tenant not in standing.tenants and key.tenant not in tenants:
            faults.append(f"key {id_!r} names tenant {key.tenant!r}, which is nowhere")
        elif values & _marks(key):
            faults.append(f"key {id_!r} has the same value as another key")
        else:
            keys[id_] = key
            values |= _marks(key)
    good = msgspec.structs.replace(stored, tenants=tenants, keys=keys)
    return good, "; ".join(faults[:5])


def _marks(key: KeySettings) -> set[str]:
    return {mark for mark in (key.hmac, key.previous_hmac) if mark is not None}
