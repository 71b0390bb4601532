"""What a drill is: a topology, a load, faults at their times and what must hold. Values, no acts.

Times are seconds from the start of the load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from serving.ledger.base import Attempt, Violation
from serving.rows import RequestEnd

MODEL = "m"
WHOLE, REFUSED, TOLD_CUT = "whole", "refused", "told_cut"
CLOSED, UNREACHED, HUNG, LEFT, UNCLEAR = "closed", "unreached", "hung", "left", "unclear"
CLEAR = frozenset((WHOLE, REFUSED, TOLD_CUT))
"""How a request may end: an answer, an error with a code, or a stream that says it broke off."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated engine, as a process; fields as of `serving.fakes.engine_settings`."""

    profile: str = "instant"
    time_scale: float = 1.0
    output_tokens: int = 4000
    max_num_seqs: int | None = None
    max_queued_reqs: int | None = None
    starts: bool = True
    """False: it is in the settings, and a fault `start` brings it up."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A third party, as a process."""

    scenario: str = "ok"
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    output_tokens: int = 4000


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """What runs. Engines behind links can be cut off from a gateway."""

    engines: tuple[Engine, ...] = ()
    providers: Mapping[str, Provider] = {}
    gateways: int = 1
    """More than one need PostgreSQL; each has a state folder of its own, as a pod has."""
    has_redis: bool = False
    has_postgres: bool = False
    has_links: bool = False
    """Between each gateway and its engines, Redis and PostgreSQL."""
    has_own_clock: bool = False
    """The gateways' wall clock can be set."""
    settings: Mapping[str, Any] = {}
    """Of every gateway, by dotted name, laid over the drill's own."""
    key_settings: Mapping[str, Any] = {}
    """More of every key, as an allowance."""


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind, sent on time however late answers are."""

    name: str
    rate: float
    """A second; they go to the gateways in turn."""
    from_s: float = 0.0
    seconds: float = 5.0
    key: str = "plain"
    tokens: int = 8
    is_stream: bool = True
    read_pause_s: float = 0.0
    """Between two reads of 4 KiB, over a small window: a slow client. 0 = as fast as it comes."""
    reads_s: float = 0.0
    """Of a client that then reads no more, but stays; 0 = it reads to the end."""
    tries: int = 1
    """More: it comes again when a refusal says when, after exactly that time, as bad clients do;
    after one that does not, in a second."""
    at_once: int = 1
    """So many at each of its moments."""
    gateway: int | None = None
    """One gateway only; None: all in turn, and the next where nobody listens."""
    give_up_s: float = 60.0
    """No end after so long is a hang; of a client that reads no more it is when it leaves."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something done to a part: `acts.ACTS` has the verbs."""

    at_s: float
    act: str
    on: str
    """`engine:0`, `provider:alpha`, `gateway:1`, `redis`, `postgres`, `link:1`, `clock:0`."""
    how: Mapping[str, Any] = {}


class Told(msgspec.Struct, kw_only=True):
    """One request as its client saw it. Times since the start of the load; -1 = did not happen."""

    wave: str
    key: str
    gateway: int
    sent_s: float
    tokens: int
    is_stream: bool = True
    request_id: str = ""
    status: int = 0
    code: str = ""
    target: str = ""
    end: str = HUNG
    words: str = ""
    retry_after_s: float = -1.0
    first_s: float = -1.0
    done_s: float = -1.0
    prompt_tokens: int = -1
    completion_tokens: int = -1
    text_is_right: bool = True
    will_come_again: bool = False


class Books(NamedTuple):
    """What ledger, audit and providers say after it all."""

    rows: Mapping[str, RequestEnd]
    attempts: Mapping[str, Sequence[Attempt]]
    violations: Sequence[Violation]
    chained: Sequence[tuple[str, int]]
    """(request, attempt) on the audit's chains."""
    chain_faults: Sequence[str]
    unchained: int
    knocks: Mapping[str, int]
    """Requests that each provider saw, those before a reset included."""


class Evidence(NamedTuple):
    """All that criteria look at."""

    told: Sequence[Told]
    books: Books
    start_ms: int
    """UTC, of the load's start."""
    killed: Sequence[tuple[int, float, float]]
    """(gateway, from, until): who talked to a gateway then may see a closed connection."""
    faults: Sequence[tuple[float, Fault]]
    """When each was really done."""
    rss_mib: Sequence[tuple[float, float]]
    """Of the first gateway, over time."""
    readings: Mapping[str, float]
    """What faults of the kind `read` found."""
    resent: int = 0
    """Requests that clients sent again by themselves: a kept connection was closed under them."""


class Finding(NamedTuple):
    """One criterion's verdict."""

    words: str
    found: str
    is_met: bool


Criterion: TypeAlias = Callable[[Evidence], Finding]


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """One drill."""

    name: str
    meaning: str
    topology: Topology
    load: tuple[Wave, ...]
    faults: tuple[Fault, ...]
    criteria: tuple[Criterion, ...]
    is_fast: bool = False
    """Short enough for every run of the tests."""
    needs: tuple[str, ...] = ()
    """Programs beside Python: `redis-server`, `postgres`, `cc`."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a drill."""

    name: str
    meaning: str
    seconds: float
    requests: int
    ends: dict[str, int]
    findings: list[Finding]
    faults: list[str]
    skipped: str = ""
    """Why it did not run."""

    @property
    def has_passed(self) -> bool:
        """Ran, and every criterion was met."""
        return not self.skipped and all(finding.is_met for finding in self.findings)
