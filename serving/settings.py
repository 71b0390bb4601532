"""Every setting, typed and frozen, with its unit in its name.

Defaults < file (`--config`, YAML) < environment (`BALLAST_GATEWAY__PORT=8080`) < flags. An unknown
key or a bad value refuses to start: the caller prints `SettingsError` and exits with 3, so that a
supervisor knows not to try again. Secrets are named by environment variable or file, never held.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from models import profiles
from models.capacity import PROFILES, Profile
from serving import card_settings
from serving import settings_tree as tree
from serving.audit.settings import AuditSettings
from serving.batch.settings import BatchSettings
from serving.budgets.settings import BudgetSettings
from serving.cache.settings import CacheSettings
from serving.card_settings import LayoutSettings
from serving.finance.settings import Rented
from serving.guard.settings import GuardSettings
from serving.limits.settings import AllowanceSettings, RedisSettings
from serving.placement.settings import Routing, Tier
from serving.provider_access import ProviderAccess
from serving.quality.settings import CanarySettings
from serving.records import Exposure, LatencyClass, Overflow, Role
from serving.review.settings import ReviewSettings
from serving.safe_url import is_loopback, is_safe_url
from serving.settings_accounts import TenantAccount
from serving.settings_acting import Acting, MachineSettings
from serving.settings_engines import Pool, StaticReplica
from serving.settings_rescue import Rescue
from serving.settings_rollout import RolloutSettings
from serving.settings_scaling import RentPool, Scaling
from serving.settings_tree import SettingsError, reason
from serving.tracing.settings import TracingSettings

__all__ = [
    "EXIT_CODE", "Acting", "MachineSettings", "ProviderAccess", "RentPool", "Scaling", "Settings",
    "SettingsError", "is_loopback", "is_safe_url", "load", "reason",
]  # fmt: skip
EXIT_CODE = 3
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Tenants, projects, features: ASCII, so that no two look alike, and fit for a header and a log."""
_BREAKS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """The text, in any script. Raises ValueError for what ends a line or turns its order on a
    screen: it could pass for another line of a log."""
    if _BREAKS.search(text):
        raise ValueError("keep to one line, without control characters")
    return text


Words = Annotated[str, AfterValidator(one_line)]
"""For people to read."""
ModelName = Annotated[Words, Field(max_length=200)]
Country = Annotated[str, Field(pattern="^[a-z]{2}$")]
"""As in `models/providers/`: in small letters."""
MANY = 1000
"""Most of anything that one row lists."""


class Group(BaseModel):
    """A theme of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limits(Group):
    """Bounds on one request, refused before any work is done."""

    body_bytes_max: int = Field(16 << 20, ge=1024)
    """16 MiB: a million tokens of text, or some pictures as data URLs."""
    bodies_bytes_max: int = Field(512 << 20, ge=1 << 20)
    """Of all requests under way, those beyond 32 KiB: bounds what large bodies take of the memory,
    at their own size; parsing takes as much again."""
    bodies_bytes_of_key_max: int = Field(128 << 20, ge=1024)
    """Of those, of one key: one caller's large requests leave room for the others'. A single body
    as large as `body_bytes_max` must fit."""
    header_bytes_max: int = Field(32 << 10, ge=1024)
    header_count_max: int = Field(100, ge=8)
    header_wait_s: float = Field(10.0, gt=0)
    """From the first byte of a request to the end of its headers."""
    body_wait_s: float = Field(60.0, gt=0)
    """From the end of the headers to the end of the body: ends slow-drip bodies."""
    idle_s: float = Field(75.0, gt=0)
    """A kept-alive connection without a request; longer than usual client pools (60 s)."""
    write_stall_s: float = Field(60.0, gt=0)
    """A client that reads nothing for so long is cut."""
    connections_max: int = Field(10_000, ge=1)

    @model_validator(mode="after")
    def _one_fits(self) -> Self:
        if self.bodies_bytes_of_key_max < self.body_bytes_max:
            raise ValueError("bodies_bytes_of_key_max: one body of body_bytes_max must fit")
        return self


class Queue(Group):
    """Calls held while a target is expected."""

    calls_max: int = Field(1000, ge=0)
    bytes_max: int = Field(64 << 20, ge=0)
    hold_s_max: float = Field(20.0, ge=0)
    """No byte is sent before commit, so holding longer than clients' read timeouts is useless."""


class Deadlines(Group):
    """First token / complete, in seconds, of a latency class. Batch has no first-token deadline."""

    first_token_s: float = Field(gt=0)
    complete_s: float = Field(gt=0)


_CLASSES = {
    LatencyClass.LIVE: Deadlines(first_token_s=1.5, complete_s=5.0),
    LatencyClass.INTERACTIVE: Deadlines(first_token_s=5.0, complete_s=120.0),
    LatencyClass.PATIENT: Deadlines(first_token_s=60.0, complete_s=600.0),
    LatencyClass.BATCH: Deadlines(first_token_s=86_400.0, complete_s=86_400.0),
}


class Retry(Group):
    """Before the commit point only."""

    attempts_max: int = Field(3, ge=1, le=5)
    budget_ratio: float = Field(0.1, ge=0, le=1)
    """Retries as a share of calls, over the last minute: ends retry storms."""
    budget_min: int = Field(10, ge=0)
    """Retries a minute always allowed, so that a quiet gateway still fails over."""


class Idempotency(Group):
    """Replays of `Idempotency-Key`."""

    ttl_s: float = Field(600.0, gt=0)
    bytes_max: int = Field(64 << 20, ge=0)


class Gateway(Group):
    """The request path's process."""

    host: str = "127.0.0.1"
    """Loopback until somebody decides otherwise."""
    port: int = Field(8080, ge=0, le=65535)
    ops_host: str = "127.0.0.1"
    ops_port: int = Field(8081, ge=0, le=65535)
    """Process i listens on `ops_port + i`."""
    index: int = Field(0, ge=0)
    pods: int = Field(1, ge=1)
    """Live gateway processes that share the replicas."""
    drain_s: float = Field(30.0, ge=0)
    """Open streams may take so long to end after SIGTERM."""
    limits: Limits = Limits()
    queue: Queue = Queue()
    retry: Retry = Retry()
    rescue: Rescue = Rescue()
    idempotency: Idempotency = Idempotency()
    forwarded_tenants_max: int = Field(10_000, ge=1)
    """Customers without a row of their own that one forwarder's key may name within a day: a header
    must not grow the books without bound."""
    classes: dict[LatencyClass, Deadlines] = _CLASSES
    """Those that are not named keep their default."""

    @field_validator("classes")
    @classmethod
    def _every_class(cls, given: dict[LatencyClass, Deadlines]) -> dict[LatencyClass, Deadlines]:
        return _CLASSES | given

    def url(self, port: int) -> str:
        """The public listener on this port, as whoever shares its host (or names it) reaches it."""
        near = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared
        near = "::1" if near == "::" else near
        return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


class Fleet(Group):
    """How replicas are found."""

    static: tuple[StaticReplica, ...] = ()
    serve_url: str = ""
    """Ray's dashboard, `http://127.0.0.1:8265`; empty asks no Ray."""
    ray_token_file: Path | None = None
    secret_file: Path | None = None
    """The engines' deployment secret: one or two lines, the first is sent."""
    pool: Pool = Pool()
    poll_s: float = Field(1.0, gt=0)
    poll_timeout_s: float = Field(1.0, gt=0)
    stale_s: float = Field(10.0, gt=0)
    """Older views are used with our own counts only."""
    connect_s: float = Field(2.0, gt=0)
    """To an engine's port."""

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        """An engine elsewhere must not pass for one on the premises by default."""
        said = [r.url for r in self.static if r.pool is None]
        far = [url for url in said if not is_loopback(urlsplit(url).hostname or "")]
        if far and "pool" not in self.model_fields_set:
            raise ValueError(f"say in fleet.pool where {far[0]} stands and who runs it")
        return self

    connections_per_replica: int = Field(4096, ge=1)


class Engine(Group):
    """How a model's engine starts; read by the launcher, not by the gateway."""

    source: str = "embedded"
    """`embedded`, a folder, `owner/name` at a hub, `s3://`, ...: see `engine/weights/sources`."""
    max_model_len: int = Field(8192, ge=128)
    max_num_seqs: int = Field(16, ge=1)
    max_num_queued_reqs: int = Field(64, ge=1)
    max_num_queued_tokens: int = Field(32_768, ge=1)
    kv_cache_gib: float = Field(1.0, gt=0)
    watchdog_s: float = Field(30.0, gt=0)
    args: tuple[str, ...] = ()
    spec: dict[str, Any] = {}
    """More fields of `serving.engine.spec.EngineSpec`: probe, load, lora, trust_remote_code, ...;
    checked with the rest of it before anything starts."""


class Adapter(Group):
    """A LoRA adapter, addressed by its name as a model is."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    source: str = ""
    """A folder, hub id or prefix that each engine loads it from at its start; empty = somebody
    loads it while the engine runs."""
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    base: str = ""
    """The model it was trained on, where that has another name than the engine's."""
    elsewhere: Literal["queue", "tune", "base", "refuse"] = "queue"
    """Where our engines cannot take a call: wait for them; `tune`, a third party's own tuning; the
    model's offerings told `prompt` (other weights, tier 2); or refuse at once."""
    tune: str = Field("", max_length=200)
    """`provider/upstream-model`."""
    prompt: str = Field("", max_length=20_000)
    """Said before the conversation, in place of what the adapter learnt."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needed = {"tune": self.tune, "base": self.prompt}
        if self.elsewhere in needed and not needed[self.elsewhere]:
            wanted = "tune" if self.elsewhere == "tune" else "prompt"
            raise ValueError(f"adapter {self.name!r}: elsewhere: {self.elsewhere} needs `{wanted}`")
        return self


class Model(Group):
    """A name clients may call."""

    name: str
    aliases: tuple[str, ...] = ()
    card: str = ""
    """A card of the catalogue, or a hub's name of one of its variants: it fills in what is not
    said here (context, profile, engine and how it starts)."""
    variant: str = ""
    """`bf16`, `fp8`, ... as the card calls it; empty: its first."""
    gpu: str = ""
    """Kind of GPU of its engine; empty: the card tells what the model is, not where it lies."""
    layout: LayoutSettings = LayoutSettings()
    context_tokens: int = Field(8192, ge=1)
    profile: Annotated[str, AfterValidator(profiles.spelled)] = "cpu-embedded"
    """Key of `models.capacity.PROFILES`, or a card on GPUs: `qwen3-32b/fp8@2xh100-80`."""
    _speed: Profile | None = PrivateAttr(None)

    @property
    def speed(self) -> Profile:
        """The profile."""
        return self._speed or profiles.named(self.profile)

    time_to_ready_s: float = Field(120.0, gt=0)
    """First guess; the observed time replaces it."""
    token_bytes_max: int = Field(256, ge=1)
    """Longest token in bytes: a prompt is refused unread only when even then it cannot fit."""
    adapters: tuple[Adapter, ...] = ()
    """Never sent to third parties, who do not have them."""
    offerings: tuple[str, ...] = ()
    """`provider/upstream-model`, in the order of preference within a tier."""
    tiers: dict[str, Tier] = {}
    """By offering, where its row cannot tell: 1 the same weights, 2 others, 3 another size or
    family. Unsaid: 1 where row and `weights` agree, or where the model names no weights."""
    surfaces: tuple[
        Literal[
            "chat",
            "completions",
            "embeddings",
            "rerank",
            "score",
            "speech",
            "transcription",
            "translation",
        ],
        ...,
    ] = Field(("chat", "completions"), min_length=1)
    """What its engine answers: `embeddings`, or `rerank` and `score`, of a model that pools.
    `speech`, `transcription` and `translation` are bought; the context then counts characters, or
    tenths of a second of sound."""
    weights: str = Field("", max_length=200)
    """Hub id of its weights. Embeddings and rerankings leave only for a third party whose row names
    the same: vectors of other weights cannot be compared."""
    weights_also: tuple[str, ...] = ()
    """Hub ids of the same weights in other formats, which is near enough for chats."""
    is_always_thinking: bool = False
    """It thinks before it answers, whatever one says: never for class live."""
    engine: Engine | None = None

    @model_validator(mode="after")
    def _own_profile(self) -> Self:
        is_default = "profile" not in self.model_fields_set
        if is_default and self.engine is not None and self.engine.source != "embedded":
            raise ValueError(f"name a profile for {self.engine.source}: {', '.join(PROFILES)}")
        return self


class TenantSettings(Group):
    """An owner of keys, or a customer of one (`forwarder/customer`). Without a residency its data
    stays on the premises."""

    id: str = Field(pattern=f"^{NAME}(/{NAME})?$")
    residency: Literal["premises", "mainland", "named", "anywhere"] = "premises"
    jurisdictions: tuple[Country, ...] = Field((), max_length=MANY)
    is_suspended: bool = False
    """None of its keys is known while this stands."""
    substitutes_max_tier: Tier | None = None
    """Other weights it is content with when its calls leave; None: as `routing` says."""
    allowance: AllowanceSettings | None = None
    """Of all its keys together."""
    customer_allowance: AllowanceSettings | None = None
    """Of each customer that a forwarder's key names and that has no allowance of its own."""


class KeySettings(Group):
    """One API key; `hmac` is HMAC-SHA-256 of the key under the deployment's pepper, hex."""

    id: str = Field(pattern=f"^{NAME}$")
    hmac: str = Field(pattern=r"^[0-9a-f]{64}$")
    previous_hmac: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """The value before the last rotation, good until `previous_until`."""
    previous_until: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    tenant: str
    project: str = "default"
    feature: str = Field("", pattern=f"^({NAME})?$")
    overflow: Overflow | None = None
    """None: `never` for a forwarder, `allowed` for others."""
    latency_class: LatencyClass = LatencyClass.INTERACTIVE
    exposure: Exposure = Exposure.CLASS
    models: tuple[ModelName, ...] | None = Field(None, max_length=MANY)
    is_load_test: bool = False
    is_canary: bool = False
    """May name the target of its calls: for `canaries`."""
    allowance: AllowanceSettings | None = None
    is_forwarder: bool = False
    """A trusted upstream gateway: its headers name customer, project, feature and end user."""
    is_revoked: bool = False


Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""With a public key only: a secret shared with an identity provider could be used to sign."""


class Administrator(Group):
    """A person or service that may use the admin API with a key of its own."""

    id: str = Field(pattern=f"^{NAME}$")
    role: Role
    hmac: str = Field(pattern=r"^[0-9a-f]{64}$")
    """As of an API key."""
    expires: AwareDatetime | None = None
    tenants: tuple[str, ...] | None = Field(None, max_length=MANY)
    """Those it sees and changes, with their customers; None is all, and what is no tenant's."""


class Grant(Group):
    """What a value of a token's role claim gives."""

    role: Role
    tenants: tuple[str, ...] | None = Field(None, max_length=MANY)
    """As of an administrator."""


class Oidc(Group):
    """People and services who show the admin API a token of an identity provider (0109)."""

    issuer: str = Field(min_length=1, max_length=500)
    """The token's `iss`, letter for letter."""
    audience: str = Field(min_length=1, max_length=500)
    """Our name there: a token for somebody else is refused."""
    jwks_url: str = Field("", max_length=2000)
    """Where the provider publishes its keys: https, or http on this machine."""
    jwks_file: Path | None = None
    """The same as a file, for a machine that reaches no provider; read anew as the URL would be."""
    client_id: str = Field("", max_length=500)
    """Of `ballast login` there: a public client (no secret) whose redirect is http://127.0.0.1 with
    any port (RFC 8252). Empty: people bring a token."""
    authorization_url: str = Field("", max_length=2000)
    token_url: str = Field("", max_length=2000)
    device_url: str = Field("", max_length=2000)
    """For `ballast login`; what is empty is asked of the issuer's discovery page."""
    scope: str = Field("openid", max_length=500)
    role_claim: str = Field("roles", min_length=1, max_length=200)
    """A claim's name, or a path through objects like `realm_access.roles`."""
    roles: dict[str, Grant] = Field(min_length=1, max_length=MANY)
    """A role, or a role and its tenants, by the claim's value."""
    leeway_s: float = Field(30.0, ge=0, le=300)
    """How far the provider's clock and ours may differ."""
    token_s_max: float = Field(86_400.0, gt=0)
    """Longest life: what was stolen long ago must be of no use."""
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256"), min_length=1)

    @field_validator("roles", mode="before")
    @classmethod
    def _plain_roles(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {k: {"role": v} if isinstance(v, str) else v for k, v in given.items()}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.jwks_url) == (self.jwks_file is not None):
            raise ValueError("name jwks_url or jwks_file, one of them")
        for name in ("jwks_url", "authorization_url", "token_url", "device_url"):
            url = getattr(self, name)
            if url and not is_safe_url(url):
                raise ValueError(f"{name}: https, or http on this machine")
        return self


class Ledger(Group):
    """The durable record."""

    sync: Literal["process", "disk"] = "process"
    """`process` survives kill -9 of the gateway; `disk` also the machine (<= 20 ms)."""
    segment_bytes: int = Field(64 << 20, ge=1 << 16)
    reserve_bytes: int = Field(16 << 20, ge=0)
    """Kept free so that every open request can still write its end."""
    drain_s: float = Field(1.0, gt=0)
    utc_offset_hours: int = Field(0, ge=-12, le=14)
    """Where the books' days and months begin, for grants, closings and rollups; 8 in China."""
    row_days: int = Field(90, ge=1)
    """How long `ballast ledger trim` keeps single rows and sums by hour."""
    rollup_months: int = Field(37, ge=1)
    """The same for sums by day and month: three years and a month, to compare."""
    exit_wait_s: float = Field(0.0, ge=0)
    """How long the exit waits for a ledger that is away. What is left then waits in the journal for
    the next start; where that folder goes with the pod, say 20."""
    url: str = ""
    """`postgresql://user@host:5432/database`, several hosts by comma; empty is SQLite in the state
    folder. Never with a password."""
    password_file: Path | None = None
    """Read at each connection."""
    password_env: str | None = None
    """Name of a variable; with neither, libpq's own ways count (PGPASSWORD, ~/.pgpass, none)."""
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] = "require"
    """Towards other machines only. `require` hides the rows on the wire; `verify-full` also makes
    sure who reads them."""
    sslrootcert: Path | None = None
    connect_s: float = Field(3.0, ge=2)
    """A database on the same network answers in milliseconds; below 2 libpq knows no limit."""
    statement_s: float = Field(10.0, gt=0)
    """One statement of a drain, which takes about 0.1 s when the journal is far behind."""
    lock_s: float = Field(2.0, gt=0)
    """For another's lock; then the next drain tries again."""

    @field_validator("url")
    @classmethod
    def _keeps_no_password(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("a PostgreSQL address begins with postgresql://")
        asked = {item.partition("=")[0].lower() for item in parts.query.split("&")}
        user, _, hosts = parts.netloc.rpartition("@")
        if ":" in user or asked & _SECRETS:
            raise ValueError("a password does not belong here: see password_file, password_env")
        if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
            raise ValueError("each of its hosts is a name or an address and perhaps `:port`")
        return url


_HOST = re.compile(r"([^:\[\]]*|\[[0-9a-f:.]+\])(:\d{1,5})?")
_SECRETS = {"password", "sslpassword", "passfile"}


class Controller(Group):
    """The control loop."""

    tick_s: float = Field(5.0, gt=0)
    is_dry_run: bool = True
    ops_host: str = "127.0.0.1"
    ops_port: int = Field(8090, ge=0, le=65535)
    url: str = Field("", pattern=r"^(https?://[^@/?#\s]+)?$")
    """Where the console of a gateway finds it; empty: on this machine, at `ops_port`."""
    rented: tuple[Rented, ...] = ()
    """GPUs that replicas hold, booked while they are there."""
    scaling: Scaling = Scaling()
    acting: Acting = Acting()


def _expand(path: Path) -> Path:
    return path.expanduser()


class Settings(Group):
    """The root, handed down as an argument."""

    deployment_id: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """The hop guard's name for all processes of this deployment and no other's. None: made once and
    kept in `state_dir` (0105); gateways that share no state folder must name it."""
    state_dir: Annotated[Path, AfterValidator(_expand)] = Field(
        Path("~/.local/state/ballast"), validate_default=True
    )
    cache_dir: Annotated[Path, AfterValidator(_expand)] = Field(
        Path("~/.cache/ballast"), validate_default=True
    )
    pepper_file: Path | None = None
    keys_file: Path | None = None
    """YAML list of keys, beside those in `keys`; re-read when it changes."""
    providers_dir: Path | None = None
    """More provider rows, laid over the packaged ones."""
    cards_dir: Path | None = None
    """More model cards and measured numbers, laid over the packaged ones."""
    gateway: Gateway = Gateway()
    fleet: Fleet = Fleet()
    weights: dict[str, Any] = {}
    """How engines fetch weights: fields of `serving.engine.weights.settings.WeightsSettings`
    (mirrors, files with credentials, offline), checked before anything starts."""
    models: tuple[Model, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    keys: tuple[KeySettings, ...] = ()
    administrators: tuple[Administrator, ...] = ()
    """Those of the first hour; more are made through the admin API."""
    oidc: Oidc | None = None
    providers: tuple[ProviderAccess, ...] = ()
    tenant_accounts: tuple[TenantAccount, ...] = Field((), max_length=MANY)
    routing: Routing = Routing()
    audit: AuditSettings = AuditSettings()
    guard: GuardSettings = GuardSettings()
    review: ReviewSettings = ReviewSettings()
    canaries: CanarySettings = CanarySettings()
    batches: BatchSettings = BatchSettings()
    cache: CacheSettings = CacheSettings()
    budgets: BudgetSettings = BudgetSettings()
    ledger: Ledger = Ledger()
    redis: RedisSettings = RedisSettings()
    controller: Controller = Controller()
    tracing: TracingSettings = TracingSettings()
    rollout: RolloutSettings = RolloutSettings()

    @model_validator(mode="before")
    @classmethod
    def _with_cards(cls, given: Any) -> Any:
        return card_settings.completed(given)

    @model_validator(mode="after")
    def _with_speeds(self) -> Self:
        for model in self.models:  # a card's is computed here, once, or refused
            model._speed = profiles.named(model.profile, self.cards_dir)
        return self


def load(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read, merge and check. Raises SettingsError naming every key at fault."""
    made: dict[str, Any] = {}
    env = os.environ if environ is None else environ
    made["state_dir"] = _xdg(env, "XDG_STATE_HOME", "~/.local/state")
    made["cache_dir"] = _xdg(env, "XDG_CACHE_HOME", "~/.cache")
    if path is not None:
        tree.lay(made, tree.read(path))
    tree.lay(made, tree.from_environ(env))
    tree.lay(made, dict(flags or {}))
    try:
        return Settings.model_validate(made)
    except ValidationError as error:
        lines = [_said(e) for e in error.errors()]
        where = f"settings refused ({path or 'no file'}, environment and flags):\n  "
        raise SettingsError(where + "\n  ".join(lines)) from None


def _said(error: Mapping[str, Any]) -> str:
    if not error["loc"]:  # of all settings together: the words name their keys
        return str(error["msg"]).removeprefix("Value error, ")
    unknown = error["type"] == "extra_forbidden"
    said = "no such setting; mind the spelling" if unknown else error["msg"]
    return f"{'.'.join(map(str, error['loc']))}: {said}"


def _xdg(env: Mapping[str, str], name: str, fallback: str) -> str:
    return str(Path(env.get(name) or fallback).expanduser() / "ballast")
