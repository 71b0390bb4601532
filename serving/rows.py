"""The durable rows: what the journal frames, the ledger stores and the books are made from.

Field order is the wire format (`array_like`): append new fields with a default, never reorder.
Units as in `records`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from serving.records import Charge, Usage


class EgressIntent(msgspec.Struct, frozen=True, tag="intent", array_like=True, gc=False):
    """Durable before the first byte to a target outside the premises. No record, no egress."""

    request_id: str
    attempt: int
    at_ms: int
    tenant: str
    sensitivity: int
    rule: str
    jurisdiction: str
    provider: str
    upstream_model: str


class AttemptBegin(msgspec.Struct, frozen=True, tag="begin", array_like=True, gc=False):
    """Written before the first byte to a target; what replay needs to settle a lost attempt."""

    request_id: str
    attempt: int
    at_ms: int
    received_ms: int
    tenant: str
    project: str
    key_id: str
    surface: str
    model: str
    latency_class: str
    target: str
    is_egress: bool
    reason: str
    prompt_tokens: int
    completion_tokens: int
    """Expected, for the estimate should the gateway die."""
    currency: str
    input_micro_per_mtok: int
    output_micro_per_mtok: int
    feature: str = ""
    user: str = ""
    cached_micro_per_mtok: int | None = None
    """None in rows of before it was kept; settled as fresh input."""
    price_source: str = ""
    price_as_of: str = ""
    """The price of the day of the attempt, and where and when it was read."""
    paid_by: str = "cash"
    """`cash`, `credit` or `prepaid`, as the account says."""
    batch: str = ""
    """The batch it is a line of; empty is none."""
    route: str = ""
    """The rule or side of a split that chose its model or target: `rule:long`, `split:b`."""
    is_stream: bool = False
    """Only then is the time to first content not that of the whole answer."""


class AttemptEnd(msgspec.Struct, frozen=True, tag="end", array_like=True, gc=False):
    """One attempt row."""

    request_id: str
    attempt: int
    ended_ms: int
    outcome: str
    error: str
    usage: Usage
    charge: Charge
    first_token_ms: int
    """Ticket to first content; -1 when none came."""
    money_kind: str = "cash"
    """`cash`, `credit` or `prepaid`, as the account says; grants are burnt by the books."""


class RequestEnd(msgspec.Struct, frozen=True, tag="request", array_like=True, gc=False):
    """One request row."""

    request_id: str
    received_ms: int
    ended_ms: int
    tenant: str
    project: str
    key_id: str
    surface: str
    model: str
    latency_class: str
    outcome: str
    status: int
    code: str
    reason: str
    target: str
    attempts: int
    queue_ms: int
    first_token_ms: int
    """Arrival to first content sent; -1 when none was."""
    usage: Usage
    idempotency: str = ""
    """Key id and idempotency key with the body's hash; empty when none was given."""
    feature: str = ""
    user: str = ""
    """End user, as an HMAC."""
    batch: str = ""
    """The batch it is a line of; empty is none."""
    saved: Charge = Charge()
    """What the cache answered cost this when it was computed."""
    name: str = ""
    """The public name that was asked for."""
    route: str = ""
    """As of its attempts; of a split it stays also where the wish could not be followed."""
    part: int = -1
    """The ten-thousandth that a split gave it to, by session, end user or conversation; -1: no
    split."""
    finish: str = ""
    """Finish reason of the answer; empty where none was seen."""
    json: str = ""
    """Where JSON was asked for, whether it came: `valid`, `invalid`, `unread`."""
    is_stream: bool = False


Record: TypeAlias = EgressIntent | AttemptBegin | AttemptEnd | RequestEnd
