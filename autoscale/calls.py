"""The values of a request-level simulation: what is asked, of whom, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from autoscale.records import Demand
from autoscale.work import CONTEXT_TOKENS, Work
from autoscale.world import Scenario
from models.capacity import Profile, step_s
from serving.finance.values import Grant
from serving.records import (
    Call,
    Caller,
    DataLabel,
    LatencyClass,
    Offering,
    Overflow,
    Policy,
    Price,
    Replica,
    Residency,
    ResidencyLevel,
    Surface,
)

MODEL = "m"
TICK_S = 10.0
REPORT_S = 2.0
API_FIRST_S, API_FIRST_SIGMA, API_TOKEN_S = 0.8, 0.4, 0.02
"""Median and log-deviation of the API's time to first token, and time per token. ASSUMED."""
TOKEN_S_MAX = 0.1
CHUNKS = (256, 512, 1024, 2048, 4096, 8192)
"""Tokens one step may compute, as operators set it."""


class Row(msgspec.Struct, frozen=True):
    """One request of a trace."""

    at_s: float
    prompt: int
    output: int


class Setup(msgspec.Struct, frozen=True):
    """What engines and callers are like."""

    profile: Profile
    slots: int = 64
    first_token_s_max: float = 5.0
    token_s_max: float = TOKEN_S_MAX
    """The objective: both must hold for an answer to count as kept."""
    ready_s: float = 180.0
    ready_cv: float = 0.4
    outages: tuple[tuple[float, float], ...] = ()
    scenario: Scenario = Scenario(ratio=0.0)
    """Of it the API's price, its rate limit (above it says 429), orders that never come, and
    replicas taken away without notice (spot)."""
    work: Work = Work()
    grants: tuple[Grant, ...] = ()
    """Credits and prepaid quotas at the API."""
    home_share: float = 0.0
    """Of the calls, by their callers' residency: they may go to no API."""
    hold_s_max: float = 20.0
    months: int = 0
    """Machines rented by the month, which stand from the start and are paid to the end."""


def paced(profile: Profile, batch: int, token_s_max: float) -> Profile:
    """The engine as an operator would set it: a full batch, and chunks of prompts so small that a
    step with one still keeps the objective for a token. What a chunk costs beside its own
    arithmetic is in the rate of prefill that the gateway predicts with."""
    step = step_s(profile, batch, batch * CONTEXT_TOKENS, 0)
    fitting = [c for c in CHUNKS if step + c * profile.per_prefill_token_s <= token_s_max]
    chunk = max(fitting, default=CHUNKS[0])
    rate = chunk / (step + chunk * profile.per_prefill_token_s)
    return msgspec.structs.replace(
        profile, max_num_seqs=batch, max_num_batched_tokens=chunk,
        prefill_tokens_per_s=min(rate, profile.prefill_tokens_per_s),
    )  # fmt: skip


class Tally(msgspec.Struct):
    """Sums over a run; work in tokens, rent in replica-seconds."""

    calls: int = 0
    answered: int = 0
    kept: int = 0
    refused: int = 0
    own: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    api: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    shed: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    late: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    """Calls and tokens that had to stay and whose first token was late; in `own` too."""
    bound: int = 0
    """Of the calls in `shed`, those that could not have left."""
    beyond_shed: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    """Of `shed`, calls and tokens that no idle engine would have begun in time: the gateway asks
    for no engines on their account."""
    beyond_api: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    """The same of what the API took."""
    burst_calls: int = 0
    api_micro: int = 0
    """The API's bill, what was granted taken off."""
    rent_s: float = 0.0
    starts: int = 0
    taken: int = 0
    """Replicas that were taken away."""


def count(sums: list[int], *more: int) -> None:
    """Add one by one. Mutates."""
    for i, value in enumerate(more):
        sums[i] += value


def refused(tally: Tally, row: Row, is_bound: bool, is_fit: bool) -> None:
    """Nobody takes it. Mutates."""
    tally.refused += 1
    tally.bound += is_bound and is_fit
    count(tally.shed, 1, row.prompt, row.output)
    if not is_fit:
        count(tally.beyond_shed, 1, row.prompt, row.output)


def left(tally: Tally, row: Row, is_fit: bool) -> None:
    """The API takes it. Mutates."""
    tally.burst_calls += 1
    count(tally.api, row.prompt, row.output)
    if not is_fit:
        count(tally.beyond_api, 1, row.prompt, row.output)


Want = Callable[[float, Demand, int, int], int]
"""(now, demand as a gateway reports it, ready, wanted before) -> replicas wanted."""


def call(row: Row, number: int, setup: Setup) -> Call:
    """The row as a gateway would have parsed it."""
    home = Residency(ResidencyLevel.PREMISES) if is_home(number, setup.home_share) else None
    return Call(
        f"{number:032x}", Surface.CHAT, "t", MODEL, MODEL, {}, row.at_s, 0,
        row.at_s + setup.first_token_s_max, row.at_s + 86_400.0,
        LatencyClass.INTERACTIVE, b"", 0, row.prompt, row.output, True, False, number,
        residency=home,
    )  # fmt: skip


def replica(setup: Setup) -> Replica:
    """The pattern of all engines."""
    label = DataLabel("cn", "self", on_premises=True)
    return Replica("r", MODEL, "127.0.0.1", 1, "", label, setup.profile, setup.slots)


def offering() -> Offering:
    """The API, free until somebody says its price."""
    return Offering(
        "api/m", "api", MODEL, "m", DataLabel("us", "api"), Price("USD", 0, 0, 0, "", ""),
        frozenset({Surface.CHAT}), 10_000_000, API_FIRST_S,
    )  # fmt: skip


def price(work: Work, micro_per_s: float) -> Price:
    """Of tokens, so that a full replica's work costs so much a second."""
    prompt, output = (
        round(token_s * micro_per_s * 1e6) for token_s in (work.prompt_token_s, work.output_token_s)
    )
    return Price("USD", prompt, output, prompt, "", "")


def demand_of(tally: Tally, running: int, held: list[Row], *, is_shut: bool) -> Demand:
    """As a gateway would report it."""
    return Demand(
        running=running, queued=len(held),
        queued_tokens=sum(row.prompt + row.output for row in held),
        shed_total=tally.shed[0] - tally.beyond_shed[0],
        burst_total=tally.burst_calls - tally.beyond_api[0],
        served_prompt_total=tally.own[0], served_output_total=tally.own[1],
        shed_prompt_total=tally.shed[1] - tally.beyond_shed[1],
        shed_output_total=tally.shed[2] - tally.beyond_shed[2],
        burst_prompt_total=tally.api[0] - tally.beyond_api[1],
        burst_output_total=tally.api[1] - tally.beyond_api[2],
        late_total=tally.late[0], late_prompt_total=tally.late[1],
        late_output_total=tally.late[2], bound_total=tally.bound,
        is_shut=is_shut,
    )  # fmt: skip


def caller() -> Caller:
    """May overflow anywhere."""
    return Caller("k", "t", "p", Policy(Residency(ResidencyLevel.ANYWHERE), Overflow.ALLOWED))


def is_home(number: int, share: float) -> bool:
    """Whether the call of that number is kept home; evenly spread, the same in every run."""
    return int(number * share) > int((number - 1) * share)
