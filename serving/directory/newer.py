"""Rows that a newer Ballast wrote, as this one reads them while gateways are replaced one by one.
Pure.

A writer names in `_optional` the fields that an older gateway may do without: those are ignored.
Any other unknown field may bind in a way nobody here knows, so the row still counts, without it,
but its tenant is confined to the premises. What cannot be read even so is a fault.

A row of a kind that is unknown here says in `_older` what passing it over would do: nothing, or
that its tenant must stay on the premises meanwhile. One that says neither is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import BaseModel, ValidationError

OPTIONAL_FIELD = "_optional"
OPTIONAL = frozenset({
    f"{where}.{kind}_per_{length}"
    for where in ("allowance", "customer_allowance")
    for kind in ("requests", "tokens")
    for length in ("5h", "week", "month")
} | {"said"})  # fmt: skip
"""Fields that this version writes and the one before may ignore: a plan that some gateways do not
count yet; a reason by its code. A rule about where data may go never stands here."""

OLDER_FIELD = "_older"
OLDER: Mapping[str, Literal["ignore", "confine"]] = {"rollout": "ignore"}
"""What a gateway does that does not know a kind: `ignore` where the row widens or narrows nothing
(without a rollout's row all calls stay with the old model), `confine` where it binds a tenant,
which its `tenant` then names. A kind that may stop or forbid more than that never stands here:
older gateways must fail closed. Not here either: kinds from before this rule."""


class Reading(NamedTuple):
    """A row, and what of it was not understood."""

    row: BaseModel
    ignored: Mapping[str, Any] = {}
    """Unknown fields by their paths, and which of them are optional."""
    binding: tuple[str, ...] = ()
    """Those among them that may not be ignored."""


def read(model: type[BaseModel], data: bytes) -> Reading:
    """A stored row. Raises ValidationError for one that cannot be read even without the fields that
    are unknown here."""
    try:
        return Reading(model.model_validate_json(data))
    except ValidationError as error:
        try:
            tree = msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise error from None
        if not isinstance(tree, dict):
            raise
        tree.pop(OLDER_FIELD, None)
        said = tree.pop(OPTIONAL_FIELD, ())
        optional = {str(name) for name in said} if isinstance(said, list) else set()
        unknown = _unknown(model, tree)
        row = model.model_validate_json(msgspec.json.encode(tree))
        binding = tuple(path for path in unknown if path not in optional)
        kept = {**unknown, OPTIONAL_FIELD: sorted(optional)} if unknown and optional else unknown
        return Reading(row, kept, binding)


def kept(data: bytes, unknown: Mapping[str, Any]) -> bytes:
    """A row as it is to be stored again: with what of it was not understood when it was read. A
    field whose group is gone goes with it."""
    tree = msgspec.json.decode(data)
    for path, value in unknown.items():
        *groups, name = path.split(".")
        node: Any = tree
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if isinstance(node, dict):
            both = {*node.get(name, ()), *value} if path == OPTIONAL_FIELD else None
            node[name] = value if both is None else sorted(both)
    return msgspec.json.encode(tree)


def passed_over(data: bytes) -> str | None:
    """A row of a kind that is unknown here: the tenant to confine, empty for none; None where it
    may not be passed over."""
    try:
        tree = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    said = tree.get(OLDER_FIELD) if isinstance(tree, dict) else None
    if said == "ignore":
        return ""
    tenant = tree.get("tenant") if said == "confine" else None
    return tenant if isinstance(tenant, str) and tenant else None


def _unknown(model: type[BaseModel], tree: dict[str, Any]) -> dict[str, Any]:
    """Take the fields that `model` does not know out of `tree`; by their paths."""
    try:
        model.model_validate_json(msgspec.json.encode(tree))
    except ValidationError as error:
        found = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
    else:
        return {}
    taken = {}
    for path in found:
        node: Any = tree
        for step in path[:-1]:
            node = node[step]
        taken[".".join(map(str, path))] = node.pop(path[-1])
    return taken


def optional_in(tree: dict[str, Any], known: Iterable[str] = OPTIONAL) -> list[str]:
    """Which of a row's fields an older gateway may do without."""
    found = []
    for path in known:
        parent, _, name = path.rpartition(".")
        group = tree.get(parent) if parent else tree
        if isinstance(group, dict) and name in group:
            found.append(path)
    return sorted(found)
