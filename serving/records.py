"""The values that flow between the stages of a request, and nothing that acts.

Everything here is immutable. msgspec structs cost a fifth of frozen dataclasses to make (0003).

Units: `_s` seconds on the event loop's monotonic clock, `_ms` UTC milliseconds since 1970,
`_micro` millionths of a currency unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from models.api_pace import ApiPace
from models.capacity import Estimate, Load, Profile
from models.hearing import Hearing
from models.pace import Pace
from models.tariff import When
from serving.codecs.coverage import STANDARD
from serving.codecs.marks import Trail
from serving.codecs.sound import Sound
from serving.placement.margin import NONE, Margins
from serving.placement.pacing import Headroom
from serving.placement.tally import Tally
from serving.placement.values import Route, Spill

if TYPE_CHECKING:
    from serving.lengths import Lengths
    from serving.tracing.context import Context


class Label(StrEnum):
    """A closed set of names. Hashes as a string: a request looks up a dozen of them."""

    __hash__ = str.__hash__


class Surface(Label):
    """An inference route of the public API."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    TOKENIZE = "tokenize"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    TRANSLATION = "translation"


POOLED = frozenset({Surface.EMBEDDINGS, Surface.RERANK, Surface.SCORE})
"""Surfaces whose answer is useless beside what the caller has stored if others' weights made it."""


class LatencyClass(Label):
    """How long a caller is ready to wait; the seconds stand in the settings."""

    LIVE = "live"
    INTERACTIVE = "interactive"
    PATIENT = "patient"
    BATCH = "batch"


class Overflow(Label):
    """May this key's calls leave for a third party's API?"""

    NEVER = "never"
    ALLOWED = "allowed"
    """With our accounts."""
    OWN_KEYS = "own-keys"
    """With its tenant's own accounts, and nobody else's."""
    OWN_KEYS_FIRST = "own-keys-first"
    """With its tenant's own accounts; with ours where none of those can answer."""


class Exposure(Label):
    """How much of a placement decision the answer's headers tell this key."""

    NONE = "none"
    CLASS = "class"
    FULL = "full"


class Role(Label):
    """What an administrator may do; the table is `directory.roles`."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    FINANCE = "finance"
    AUDITOR = "auditor"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class Sensitivity(IntEnum):
    """What the input holds; `SECRET` never leaves the premises."""

    PUBLIC = 0
    INTERNAL = 1
    PERSONAL = 2
    SECRET = 3


class ResidencyLevel(IntEnum):
    """How far data may travel, tightest first."""

    PREMISES = 0
    MAINLAND = 1
    NAMED = 2
    ANYWHERE = 3


class DataLabel(msgspec.Struct, frozen=True):
    """Where a target processes data and who runs it. No jurisdiction: nobody is admitted."""

    jurisdiction: str
    """ISO 3166 country code in lower case (`cn`, `us`, `sg`) or a union (`eu`)."""
    operator: str
    on_premises: bool = False


MAINLAND = "cn"
OWN = "own"
"""Pins a call to our own engines."""


class Residency(msgspec.Struct, frozen=True):
    """A tenant's rule for where its data may be processed."""

    level: ResidencyLevel = ResidencyLevel.PREMISES
    jurisdictions: frozenset[str] = frozenset()
    """Countries at `NAMED`; at `PREMISES` those whose premises count beside the mainland's."""

    def admits(self, label: DataLabel) -> bool:
        """Whether a target with this label may see the data. Premises abroad are abroad: an engine
        of ours there is asked for by its country, as anybody's is."""
        level, country = self.level, label.jurisdiction
        if not country:
            return False
        if level is ResidencyLevel.ANYWHERE or (label.on_premises and country == MAINLAND):
            return True
        if level is ResidencyLevel.MAINLAND:
            return country == MAINLAND
        if level is ResidencyLevel.PREMISES and not label.on_premises:
            return False
        return country in self.jurisdictions


class Allowance(msgspec.Struct, frozen=True):
    """How much may be asked for; 0 is no limit."""

    requests_per_min: int = 0
    tokens_per_min: int = 0
    """Prompt and answer together."""
    concurrent: int = 0
    """Calls under way at once, held ones included."""
    requests_per_5h: int = 0
    """Windows from the first use on, like the next: five hours, seven and thirty days."""
    tokens_per_5h: int = 0
    requests_per_week: int = 0
    tokens_per_week: int = 0
    requests_per_month: int = 0
    tokens_per_month: int = 0


class Subject(msgspec.Struct, frozen=True):
    """Who has an allowance."""

    id: str
    """`key:...`, `project:...` or `tenant:...`."""
    allowance: Allowance


class Policy(msgspec.Struct, frozen=True):
    """What one key may do. Built once when keys are loaded, shared by all its calls."""

    residency: Residency = Residency()
    overflow: Overflow = Overflow.NEVER
    latency_class: LatencyClass = LatencyClass.INTERACTIVE
    exposure: Exposure = Exposure.CLASS
    models: frozenset[str] | None = None
    """Names this key may call; None is all."""
    is_load_test: bool = False
    """Load-test calls never leave for an API."""
    is_canary: bool = False
    """May name the target of its calls (`x-ballast-pin`): they measure, and are no demand."""
    is_forwarder: bool = False
    """An upstream gateway's key: may say for which of its own customers it calls."""
    subjects: tuple[Subject, ...] = ()
    """Whose allowances bind its calls: the key's, its project's, its tenant's."""
    tier_max: int = 0
    """Substitutes its tenant is content with (see `Offering.tier`); 0: as the name's route says."""


class Tenant(msgspec.Struct, frozen=True):
    """An owner of keys."""

    id: str
    policy: Policy


class Caller(msgspec.Struct, frozen=True):
    """Who sent a call, after authentication."""

    key_id: str
    tenant: str
    """Of a forwarder's customer `forwarder/customer`."""
    project: str
    policy: Policy
    feature: str = ""
    user: str = ""
    """End user, as an HMAC; empty when nobody said."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one attempt, as the target counted them unless `is_estimated`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens`, priced lower by most providers."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`."""
    is_estimated: bool = False


TENANT_MONEY = "tenant"
"""The kind of money that a tenant's own account spends: in no sum of ours."""


class Price(msgspec.Struct, frozen=True):
    """What a million tokens cost, in micro-units of `currency`."""

    currency: str
    input_micro_per_mtok: int
    output_micro_per_mtok: int
    cached_micro_per_mtok: int
    source: str
    as_of: str
    """ISO date on which the price was read at its source."""
    money_kind: str = "cash"
    """How the account pays: `cash`, `credit`, `prepaid`, or `tenant`: with its tenant's money."""


class Rate(msgspec.Struct, frozen=True):
    """A price and when it holds."""

    when: When
    price: Price


class Charge(msgspec.Struct, frozen=True, gc=False):
    """Money for one attempt."""

    currency: str = ""
    micro: int = 0


class Resume(msgspec.Struct, frozen=True):
    """Where another engine goes on with an answer that broke off (0124)."""

    attempt: int
    """The try whose answer's id the client knows."""
    trail: Trail
    is_told: bool = False  # it has the finish as well, only the end is missing


class Call(msgspec.Struct, frozen=True):
    """One parsed request. `fields`: the body's members as raw JSON; unknown ones pass untouched."""

    request_id: str
    surface: Surface
    tenant: str
    model: str
    """Our name of the model."""
    alias: str
    """The name the caller asked for."""
    fields: dict[str, msgspec.Raw]
    received_s: float
    received_ms: int
    first_token_by_s: float
    complete_by_s: float
    latency_class: LatencyClass
    prompt: bytes
    """The member that holds the prompt, as sent; never logged."""
    size: int
    """Bytes of the whole body."""
    prompt_tokens: int
    """Estimated from bytes, upper bound."""
    max_tokens: int | None
    """None: the caller named no limit; 0 where the surface generates nothing."""
    stream: bool
    wants_usage: bool
    affinity: int
    """Hash that sends calls with the same prefix to the same replica."""
    session: str = ""
    hop: str = ""
    """Deployments this call has passed through, comma separated."""
    idempotency_key: str = ""
    residency: Residency | None = None
    """Tightened by a header; None keeps the key's."""
    n: int = 1
    """Answers asked for."""
    adapter: str = ""
    """LoRA adapter of the model that is to answer; only our own engines have it."""
    pin: str = ""
    """The one target that may answer: `own`, or an offering's id; empty is any."""
    may_wait: bool = True
    """False once it gave its place in the queue to a call that cannot wait."""
    unaffordable: frozenset[str] = frozenset()
    """Offerings that no budget pays for."""
    answer_max: int = 0
    """Bounds a third party's answer where the caller named no limit; 0 is none."""
    batch: str = ""
    """The batch it is a line of; empty is none."""
    route: str = ""
    """The rule or arm that chose its model or target: `rule:long`, `split:b`."""
    toward: str = ""
    """Where its arm or rule would have it: `own` or an offering; never a reason to break a rule."""
    is_home_only: bool = False
    """A third party refused its content: our own engines may judge it, no other vendor."""
    resume: Resume | None = None
    """The answer has begun elsewhere: go on after this."""
    is_prefixed: bool = False
    """Its last message is the beginning of the answer."""
    trace: Context | None = None
    """None where traces are off."""
    notice: str = ""
    """Header lines that its answer carries: the name it was called by will go."""
    sound: Sound | None = None
    """What is to be written down; its tokens are tenths of a second."""


class Replica(msgspec.Struct, frozen=True):
    """One engine of ours that can be reached now."""

    id: str
    model: str
    host: str
    port: int
    prefix: str
    """Route prefix on that port, without trailing slash."""
    label: DataLabel
    profile: Profile
    limit: int
    """Calls the engine takes at once, running and waiting."""
    seed: int = 0
    """Spreads rendezvous hashing; the same in every gateway."""
    adapters: frozenset[str] = frozenset()
    """LoRA adapters it has loaded, by its own report."""


class Offering(msgspec.Struct, frozen=True):
    """One model at one third-party API."""

    id: str
    """`provider/upstream-model`; the breaker and the metrics key on it."""
    provider: str
    model: str
    upstream_model: str
    label: DataLabel
    price: Price
    surfaces: frozenset[Surface]
    context_tokens: int
    first_token_s: float
    """Expected time to first token, seconds."""
    speaks: frozenset[str] = STANDARD
    """Members of a body it knows; see `codecs.coverage`."""
    is_same_weights: bool = False
    """Its row and our settings name the same open weights."""
    output_tokens_max: int = 0
    """Of one answer; 0 is unknown."""
    prefix_member: str = ""
    """Marks the beginning of an answer it is to go on with; empty where it cannot."""
    rates: tuple[Rate, ...] = ()
    """By hour or size: the first that holds counts; `price`, to be reserved, is the dearest."""
    tier: int = 1
    """1 the same weights, or the owner's word for it; 2 other weights; 3 another size or family."""
    is_thinking: bool = False
    """It thinks before it answers, whatever one says."""
    exchange: float = 1.0
    """US dollars for one of its currency, to compare prices; 0: nobody knows."""
    system: str = ""
    """Said before the conversation: stands for an adapter that it does not have."""
    concurrent: int = 0
    """Calls at once that its row allows an account; 0 is unknown."""
    owner: str = ""
    """The tenant whose account it is bought with; empty is ours."""
    account: str = ""
    """Which account that is; empty is ours."""
    keys: frozenset[str] | None = None
    """Ids of the owner's keys that may use it; None is all."""
    vendor: str = ""
    """Whose batch price it is, for lines of batches alone and stopped with it; empty: no such."""
    hearing: Hearing | None = None
    """What it takes of sound; None: it hears nothing."""

    @property
    def account_id(self) -> str:
        """Whose money and whose limits: unique among all accounts."""
        return self.account or self.provider


class Pending(msgspec.Struct, frozen=True):
    """Capacity on its way."""

    model: str
    expected_s: float
    by_s: float = 0.0
    """Nine starts of ten are ready by then; 0: nobody knows more than `expected_s`."""


class TargetState:
    """What this pod knows of one target by the moment. `admission` writes, routing only reads."""

    __slots__ = (
        "api", "computed", "computed_at_s", "ended_calls", "full_until_s", "lengths", "load",
        "load_at_s", "open_until_s", "pace", "profile", "scale", "scale_at_s", "since_calls",
        "since_tokens", "unfinished",
    )  # fmt: skip

    def __init__(self) -> None:
        self.unfinished = 0
        """Our tickets out."""
        self.load = Load()
        """The target's own latest report."""
        self.load_at_s = float("-inf")
        self.since_calls = 0
        """Our sends since that report."""
        self.since_tokens = 0
        self.ended_calls = 0
        """Our tickets given back since that report."""
        self.profile: Profile | None = None
        """The engine's profile with what was learnt; None: as its replica's says."""
        self.computed = 0.0
        """Prompt tokens it should have computed since that report, at `computed_at_s`."""
        self.computed_at_s = float("-inf")
        self.pace: Pace | None = None
        """What was learnt of an engine's speed; None before anything was."""
        self.api: ApiPace | None = None
        """The same of a third party's API."""
        self.lengths: Lengths | None = None
        """Of answers; the same for all targets of this process."""
        self.scale = 1.0
        """Observed / predicted first token of late, beside what `pace` knows."""
        self.scale_at_s = 0.0
        """When it was learnt: it fades, or one bad minute would shut an idle engine for ever."""
        self.full_until_s = 0.0
        """The target said it is full; asked again after this."""
        self.open_until_s = 0.0
        """Its breaker is open until then."""


class Stops(msgspec.Struct, frozen=True):
    """What kill switches stop for new calls; why and by whom stands in the directory."""

    is_all: bool = False
    models: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    jurisdictions: frozenset[str] = frozenset()

    @property
    def is_any(self) -> bool:
        """Whether anything is stopped."""
        what = self.models or self.tenants or self.providers or self.jurisdictions
        return bool(self.is_all or what)


class FleetView(msgspec.Struct, frozen=True):
    """What could serve a call at one moment. A new view replaces the old one whole.

    `state` is live and read-only: to freeze it for each call would cost too much (0003).
    """

    seq: int = 0
    observed_s: float = 0.0
    replicas: Mapping[str, tuple[Replica, ...]] = {}
    """By model."""
    offerings: Mapping[str, tuple[Offering, ...]] = {}
    """By model, in the order of preference."""
    theirs: Mapping[str, Mapping[str, tuple[Offering, ...]]] = {}
    """The same of tenants' own accounts, by tenant."""
    pending: Mapping[str, Pending] = {}
    state: Mapping[str, TargetState] = {}
    """By target id."""
    gateway_pods: int = 1
    stale_s: float = 10.0
    """A report or view older than this counts for nothing but our own sends."""
    hold_s_max: float = 20.0
    stops: Stops | None = None
    """None is none: asked on every placement."""
    policy_at_s: float = float("inf")
    """When the directory was last read whole; infinite where there is none to read."""
    held: Mapping[str, int] = {}
    """Calls in this pod's queue by model, live like `state`."""
    routes: Mapping[str, Route] = {}
    """By public name."""
    spills: Mapping[str, Spill] = {}
    margins: Margins = NONE
    paces: Mapping[str, Headroom] = {}
    tally: Tally | None = None
    """What went where lately; live as these. None where nothing is bounded by it."""
    drifting: frozenset[str] = frozenset()
    """Offerings whose answers have changed: asked last."""
    homes: frozenset[tuple[str, DataLabel]] = frozenset()
    """Models and where our own engines of them stand, whether they answer now or not."""
    sifted: dict[Any, Any] = msgspec.field(default_factory=dict)
    """What `placement.offered` has worked out from this view for calls of a kind."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Send it to this replica now."""

    target: Replica
    reason: str
    estimate: Estimate
    shadow: str = ""
    """What the route's shadow policy would have done."""


class Burst(msgspec.Struct, frozen=True, gc=False):
    """Send it to this third-party API now."""

    target: Offering
    reason: str
    shadow: str = ""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Hold it in the queue, at most until `until_s`."""

    until_s: float
    reason: str


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """Tell the caller no. `code` is a key of `errors.TABLE`."""

    code: str
    reason: str
    message: str
    retry_after_s: float | None = None


Target: TypeAlias = Replica | Offering
Placement: TypeAlias = Run | Burst | Wait | Refuse


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """Leave to make one attempt. Issued once, released once, one attempt row each."""

    request_id: str
    attempt: int
    target: Target
    reason: str
    issued_s: float
    prompt_tokens: int
    completion_tokens: int
    """Expected."""
    predicted_first_s: float
    """Time to first token as foreseen when issued (p50), seconds; 0 is none."""
    is_egress: bool
    """Whether bytes leave the premises."""
    estimate: Estimate | None = None
    """What was predicted when it was issued; learnt from when the truth is known."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole SSE events as they arrived, or the one body of a plain answer."""

    data: bytes
    events: int = 0
    usage: Usage | None = None
    finish: str | None = None
    opens: bool = False
    """Holds the first content, reasoning, tool call or finish reason: the commit point."""
    ends: bool = False
    """Holds the end marker: nothing follows but the end of the stream."""


class Outcome(Label):
    """How a request or attempt ended; a metric label, so the set is closed."""

    OK = "ok"
    REFUSED = "refused"
    FULL = "full"
    CALLER_ERROR = "caller_error"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    CUT = "cut"
    """The stream broke after the commit point and the client was told."""
    INTERNAL = "internal"
    GATEWAY_LOST = "gateway_lost"
    """The gateway died while it ran; usage is an estimate."""
