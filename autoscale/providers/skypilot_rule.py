"""What SkyPilot's rows, requests and errors mean to us. Pure.

Shapes as read in SkyPilot 0.14.1 and met in `tests/e2e/test_skypilot_full.py`: rows of `status` are
dict-like pydantic objects, prices are floats or NaN, errors carry colours and tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from autoscale.machines import Kind, Machine, Offer, State, Tags, formerly, ours

MICRO = 1_000_000
WORDS_MAX = 300
UNPRICED = frozenset({"kubernetes", "ssh", "slurm"})
"""Infrastructure of one's own: nothing is rented there, and its catalogue asks the cluster."""
UNDER_WAY = frozenset({"PENDING", "WAITING", "RUNNING"})
LAUNCHES = frozenset({"sky.launch", "sky.start"})
ENDS = frozenset({"sky.down"})
_REFUSED = (
    "NoCloudAccessError", "InvalidClusterNameError", "ResourcesMismatchError",
    "NotSupportedError", "ClusterOwnerIdentityMismatchError", "PermissionDeniedError",
    "ApiServerAuthenticationError", "APIVersionMismatchError", "APINotSupportedError",
    "UserRequestRejectedByPolicy", "InvalidSkyPilotConfigError",
)  # fmt: skip
KINDS: dict[str, Kind] = {
    **dict.fromkeys(_REFUSED, "refused"),
    "ResourcesUnavailableError": "short",
    "ServerTemporarilyUnavailableError": "busy",
    "ConcurrentWorkerExhaustedError": "busy",
}
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SERIAL = re.compile(r"\d+-\d+\Z")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]")


class Asked(NamedTuple):
    """A request to SkyPilot's API server that has not ended."""

    cluster: str
    name: str
    id: str = ""


class Seen(NamedTuple):
    """All that is known of the clusters at one time."""

    rows: Sequence[Any]
    asked: Sequence[Asked]
    failed: Mapping[str, str]
    """Clusters whose launch failed, and why."""
    unwell: frozenset[str]
    """Clusters that have long been neither up nor coming up."""


def named(token: str) -> str:
    """A cluster's name: small letters, digits, dashes, and a letter to begin with."""
    name = _NOT_IN_NAMES.sub("-", token.lower())
    return name if name[:1].isalpha() else f"b{name}"


def machines(seen: Seen, tags: Tags) -> tuple[Machine, ...]:
    """Those that bear these tags: clusters, and launches that have no cluster yet. Those of before
    names held a digest are listed too; whose they are, the books know."""
    begins = {named(begin): begin for begin in (ours(tags), formerly(tags))}
    rows = {str(field(row, "name")): row for row in seen.rows}
    coming = [one.cluster for one in seen.asked if one.name in LAUNCHES]
    found = []
    for name in dict.fromkeys((*rows, *coming, *seen.failed)):
        serial = _SERIAL.search(name)
        if serial is None or (begin := begins.get(name[: serial.start()])) is None:
            continue
        token = begin + serial.group()
        row, why = rows.get(name), seen.failed.get(name, "")
        if row is not None:
            since_ms = int(field(row, "launched_at") or 0) * 1000
            state = _state(row, seen)
            found.append(Machine(name, token, state, None, since_ms, _address(row), why))
        elif name in coming:
            found.append(Machine(name, token, "creating"))
        else:
            found.append(Machine(name, token, "ended", why=why))
    return tuple(found)


def is_pending(row: Any, asked: Sequence[Asked]) -> bool:
    """Whether a cluster is neither up nor being brought up: it may recover, or never will."""
    name = str(field(row, "name"))
    return _status(row) == "INIT" and not any(
        one.cluster == name and one.name in LAUNCHES for one in asked
    )


def _state(row: Any, seen: Seen) -> State:
    name, status = str(field(row, "name")), _status(row)
    if any(one.cluster == name and one.name in ENDS for one in seen.asked):
        return "ending"
    if status == "STOPPED" or name in seen.unwell:
        return "failed"  # nobody starts it again, and its disk is paid
    if status == "AUTOSTOPPING":
        return "ending"
    is_up = status == "UP" or (is_pending(row, seen.asked) and field(row, "cluster_ever_up"))
    return "running" if is_up else "creating"


def _status(row: Any) -> str:
    status = field(row, "status")
    return str(getattr(status, "name", status))


def _address(row: Any) -> str:
    """Of its head inside its network, which is the one that Ray knows."""
    pairs = getattr(field(row, "handle"), "stable_internal_external_ips", None)
    address = str(pairs[0][0]) if pairs and pairs[0] else ""
    return "" if address.startswith("127.") else address


def field(row: Any, name: str) -> Any:
    """Rows are dicts in older versions and dict-like objects now."""
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)


def offers(
    listed: Mapping[str, Iterable[Any]], count: float, places: Sequence[tuple[str, str]],
    *, is_spot: bool,
) -> tuple[Offer, ...]:  # fmt: skip
    """What is on the price list with so many accelerators, within the places that a task names:
    (cloud, region), either of them empty for any."""
    found = []
    for row in (row for rows in listed.values() for row in rows):
        price = row.spot_price if is_spot else row.price
        if row.accelerator_count != count or not price or not price > 0:  # NaN: not for sale
            continue
        cloud, region = str(row.cloud).lower(), str(row.region).lower()
        if any(c in ("", cloud) and r in ("", region) for c, r in places):
            found.append(Offer(f"{row.cloud}/{row.region}/{row.instance_type}",
                               round(price * MICRO)))  # fmt: skip
    return tuple(found)


def kind_of(error: BaseException) -> Kind:
    """By the names of its classes: most of SkyPilot's errors share no parent but Exception."""
    names = (one.__name__ for one in type(error).__mro__)
    return next((KINDS[name] for name in names if name in KINDS), "away")


def words(error: BaseException) -> str:
    """On one line, without colours, and not longer than a line should be."""
    plain = " ".join(_COLOURS.sub("", str(error)).split())
    return f"SkyPilot: {type(error).__name__}: {plain}"[:WORDS_MAX]
