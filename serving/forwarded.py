"""Whom a trusted forwarder calls for: its own customers, told apart by header. Pure.

One upstream gateway's thousand customers stay apart in fairness, budgets, residency and the books.
A customer is named below its forwarder (`gateway/acme`), so no header ever speaks for a tenant that
has keys of its own; and a customer's terms are the forwarder's, tightened, never loosened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from serving.errors import CallerError
from serving.records import Caller, Residency, Subject
from serving.rules import tighter
from serving.settings import NAME

TENANT, PROJECT, FEATURE, USER = (
    b"x-ballast-tenant", b"x-ballast-project", b"x-ballast-feature", b"x-ballast-user",
)  # fmt: skip
HEADERS = (TENANT, PROJECT, FEATURE, USER)
USER_BYTES_MAX = 256
_NAME = re.compile(NAME.encode()).fullmatch


class Named(NamedTuple):
    """What the headers of one call say; empty where they say nothing."""

    tenant: str
    project: str
    feature: str
    user: bytes
    """As sent: to be hashed at once, never stored."""


def named(headers: Mapping[bytes, bytes]) -> Named:
    """Read the headers. Raises CallerError for one that is no name, without echoing it."""
    user = headers.get(USER, b"")
    if len(user) > USER_BYTES_MAX:
        message = f"header {USER.decode()} exceeds {USER_BYTES_MAX} bytes"
        raise CallerError("invalid_value", message)
    return Named(_read(headers, TENANT), _read(headers, PROJECT), _read(headers, FEATURE), user)


def _read(headers: Mapping[bytes, bytes], name: bytes) -> str:
    value = headers.get(name)
    if value is None:
        return ""
    if not _NAME(value):
        message = f"header {name.decode()}: 1 to 64 letters, digits, '.', '_' or '-'"
        raise CallerError("invalid_value", message)
    return value.decode("ascii")


def customer_id(caller: Caller, name: str) -> str:
    """The tenant id of a forwarder's customer."""
    return f"{caller.tenant}/{name}" if name else caller.tenant


class CustomerTerms(NamedTuple):
    """What binds one customer beside what binds its forwarder."""

    residency: Residency | None = None
    subjects: tuple[Subject, ...] = ()
    tier_max: int = 0


def on_behalf(caller: Caller, said: Named, user: str, terms: CustomerTerms) -> Caller:
    """The caller of one call: the forwarder's terms, under its customer's name, tightened by the
    customer's own. `user` is the hash of the end user."""
    policy = caller.policy
    if terms.residency is not None:
        residency = tighter(policy.residency, terms.residency)
        policy = msgspec.structs.replace(policy, residency=residency)
    if terms.tier_max and (policy.tier_max or terms.tier_max == 1):
        tier_max = min(policy.tier_max or 1, terms.tier_max)
        policy = msgspec.structs.replace(policy, tier_max=tier_max)
    if terms.subjects:
        subjects = (*terms.subjects, *policy.subjects)
        policy = msgspec.structs.replace(policy, subjects=subjects)
    return Caller(
        caller.key_id, customer_id(caller, said.tenant), said.project or caller.project, policy,
        said.feature or caller.feature, user,
    )  # fmt: skip
