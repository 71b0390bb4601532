"""Arrivals that were: a trace file, or our own ledger. Reads only."""

from __future__ import annotations

from pathlib import Path

from autoscale.arrivals import TraceError, asked, rows
from benchmarks.load.schedule import CONVERSATIONS_MAX, Row
from benchmarks.load.values import Arrivals, ScenarioError
from models.worded import Worded, of
from serving.ledger.base import LedgerUnavailable
from serving.ledger.store import open_to_read
from serving.settings import SettingsError, load

BATCH_TOKENS_MAX = 4_000_000
"""Of one request: rows of bins hold many requests, and would be sent as one huge one."""


def read(arrivals: Arrivals) -> list[Row]:
    """The rows that the arrivals name; none where they name none. Raises ScenarioError."""
    match arrivals.kind:
        case "trace":
            return of_file(arrivals.source)
        case "ledger":
            return of_ledger(Path(arrivals.source))
        case _:
            return []


def of_file(source: str) -> list[Row]:
    """`FILE[@FROM-UNTIL]`, CSV or Parquet; without a window from its first request on, so that
    times of a calendar do as well. Raises ScenarioError naming the row."""
    try:
        wish = asked(source)
        found = rows(wish)
    except TraceError as error:
        raise ScenarioError(Worded("trace.bad", "trace {why}", why=of(error))) from None
    for number, (_, prompt, output) in enumerate(found):
        if max(prompt, output) > BATCH_TOKENS_MAX:
            template = (
                "trace {source}: row {row} has {tokens} tokens: that is no single request; "
                "bins cannot be sent, take a trace with one row per request"
            )
            tokens = max(prompt, output)
            raise ScenarioError(
                Worded("trace.bins", template, source=source, row=number, tokens=tokens)
            )
    start_s = found[0][0] if wish.until_s == float("inf") else 0.0
    return [Row(at_s - start_s, prompt, output) for at_s, prompt, output in found]


def of_ledger(settings: Path) -> list[Row]:
    """What the deployment with these settings was asked, oldest first. Raises ScenarioError."""
    try:
        ledger = open_to_read(load(settings))
        try:
            ended = ledger.requests(CONVERSATIONS_MAX)
        finally:
            ledger.close()
    except (SettingsError, LedgerUnavailable) as error:
        template, why = "ledger of {settings}: {why}", of(error)
        raise ScenarioError(Worded("trace.ledger", template, settings=settings, why=why)) from None
    # A refused request has no usage: how long its prompt was is not known.
    ended = sorted((e for e in ended if e.usage.prompt_tokens), key=lambda e: e.received_ms)
    if not ended:
        template = "ledger of {settings}: no answered request in it"
        raise ScenarioError(Worded("trace.no_request", template, settings=settings))
    start_ms = ended[0].received_ms
    return [
        Row((e.received_ms - start_ms) / 1e3, e.usage.prompt_tokens,
            max(1, e.usage.completion_tokens))
        for e in ended
    ]  # fmt: skip
