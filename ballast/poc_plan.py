"""What a replay would send and may cost, before anything is sent. Values in, a plan out; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.records import Price

PROMPT_MARGIN = 2
"""Times the prompt's tokens in the bound of money. ASSUMED: words are counted by four bytes a
token here, and no tokenizer of the catalogue makes twice as many of them."""
MTOK = 1_000_000
OUTPUT_MIN = 1


class Row(NamedTuple):
    """One request: seconds from the first, tokens."""

    at_s: float
    prompt: int
    output: int


class Bounds(NamedTuple):
    """What the plan must keep."""

    requests_max: int
    seconds: float
    """The replay takes no longer; traffic of a longer time is sent so much faster."""
    context_tokens: int
    """Of the smaller side; rows that do not fit are left out. 0: not known."""
    spend_micro: int


class Plan(NamedTuple):
    """What would be sent to each of the two sides."""

    rows: tuple[Row, ...]
    of: int
    """Rows there were."""
    too_long: int
    """Rows left out since they fit no context."""
    speed: float
    """1: as it came."""
    prompt_tokens: int
    output_tokens: int
    most_micro: int
    """The API side costs no more, by its list price and the margin; micro-units."""
    affordable: int
    """How many of the latest rows the bound of money would let pass."""

    @property
    def seconds(self) -> float:
        """Of sending."""
        span = self.rows[-1].at_s if self.rows else 0.0
        return span / self.speed


def made(rows: Sequence[Row], bounds: Bounds, price: Price) -> Plan:
    """The latest rows that fit, at the pace at which they fit. `rows` are in order of time."""
    fitting = [
        row for row in rows
        if not bounds.context_tokens or row.prompt + row.output <= bounds.context_tokens
    ]  # fmt: skip
    chosen = fitting[-bounds.requests_max :]
    first_s = chosen[0].at_s if chosen else 0.0
    moved = tuple(
        Row(row.at_s - first_s, max(1, row.prompt), max(OUTPUT_MIN, row.output)) for row in chosen
    )
    span = moved[-1].at_s if moved else 0.0
    return Plan(
        rows=moved, of=len(rows), too_long=len(rows) - len(fitting),
        speed=max(1.0, span / bounds.seconds),
        prompt_tokens=sum(row.prompt for row in moved),
        output_tokens=sum(row.output for row in moved),
        most_micro=sum(most_micro(row, price) for row in moved),
        affordable=_affordable(moved, bounds.spend_micro, price),
    )  # fmt: skip


def most_micro(row: Row, price: Price) -> int:
    """Upper bound of one request's money, rounded up."""
    dearest = max(price.input_micro_per_mtok, price.cached_micro_per_mtok)
    parts = row.prompt * PROMPT_MARGIN * dearest + row.output * price.output_micro_per_mtok
    return -(-parts // MTOK)


def _affordable(rows: Sequence[Row], spend_micro: int, price: Price) -> int:
    left, count = spend_micro, 0
    for row in reversed(rows):
        left -= most_micro(row, price)
        if left < 0:
            break
        count += 1
    return count
