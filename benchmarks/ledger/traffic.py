"""Rows as a gateway journals them: nine calls of ten to an engine of ours, one to an API."""

from __future__ import annotations

import uuid_utils

from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

AT_MS = 1_764_000_000_000
OWN, API = "qwen3-32b@10.20.30.40:8000", "dashscope/qwen3-32b"


def call(number: int, each: int = 10) -> list[Record]:
    """The records of one finished call; one of `each` went to an API."""
    request_id, at_ms = uuid_utils.uuid7().hex, AT_MS + number
    is_api = number % each == 0
    target, currency = (API, "CNY") if is_api else (OWN, "")
    prices = (2_000_000, 8_000_000) if is_api else (0, 0)
    usage = Usage(512 + number % 100, 180, 128)
    who = (f"tenant-{number % 50}", "default", "key-main", "chat", "qwen3-32b", "interactive")
    records: list[Record] = [
        AttemptBegin(
            request_id, 1, at_ms, at_ms, *who, target, is_api, "least_loaded", 700, 200, currency,
            *prices,
        ),
        AttemptEnd(
            request_id, 1, at_ms + 900, "ok", "", usage,
            Charge(currency, 2464) if is_api else Charge(), 210,
        ),
        RequestEnd(
            request_id, at_ms, at_ms + 900, *who, "ok", 200, "", "least_loaded", target, 1, 0, 215,
            usage,
        ),
    ]  # fmt: skip
    if is_api:
        records.insert(
            0,
            EgressIntent(
                request_id, 1, at_ms, who[0], 1, "mainland", "cn", "dashscope", "qwen3-32b"
            ),
        )
    return records


def batches(calls: int, calls_per_batch: int, each: int = 10) -> list[list[Record]]:
    """So many calls, cut into transactions."""
    return [
        [
            record
            for number in range(at, min(at + calls_per_batch, calls))
            for record in call(number, each)
        ]
        for at in range(0, calls, calls_per_batch)
    ]
