"""What a load test is asked to do: a scenario, strictly read, each value with its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import yaml

from models.worded import Worded, of

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
FILE_BYTES_MAX = 1 << 20
TOKENS_MAX = 4_000_000
ArrivalKind: TypeAlias = Literal["poisson", "steady", "bursts", "ramp", "trace", "ledger", "closed"]


class ScenarioError(ValueError):
    """A scenario that cannot be run; names the file and the key."""


class Length(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tokens (or turns), drawn from a log-normal law and cut at both ends."""

    median: int
    spread: float = 0.0
    """Deviation of the logarithm; 0 = always the median. 0.7: one in ten is above 2.5 medians."""
    least: int = 1
    most: int = TOKENS_MAX


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an answer must keep to count as good. None = does not matter."""

    first_token_ms: float | None = None
    """To the first token that the reader sees; reasoning is not seen."""
    token_ms: float | None = None
    """Mean time per token after the first."""
    complete_ms: float | None = None


class Prefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A text shared by many requests, as a document that is asked about."""

    tokens: int
    documents: int = 1
    """Different texts; each request takes one by lot."""
    cached_share: float = 0.0
    """Goal: of all prompt tokens, so many from the prefix cache."""


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Several turns; each carries the whole conversation so far."""

    turns: Length
    think_s: float = 5.0
    """Mean pause between an answer's end and the next turn, exponential."""


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One class of requests of a mix."""

    name: str
    share: float = 1.0
    prompt: Length
    """Of the user's own message, without a shared prefix and earlier turns."""
    output: Length
    """`max_tokens`."""
    goal: Goal = Goal()
    stream: bool = True
    latency_class: str = ""
    """Header `x-ballast-class`: live, interactive, patient or batch; empty = the key's."""
    feature: str = ""
    """Header `x-ballast-feature`; counts for forwarder keys."""
    json_schema: dict[str, Any] | None = None
    """Asked for as `response_format`; answers that break it are failures."""
    prefix: Prefix | None = None
    session: Session | None = None
    fields: dict[str, Any] = {}
    """More fields of the body, as `temperature` or `ignore_eos`."""


class Arrivals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When conversations begin."""

    kind: ArrivalKind
    rate: float = 1.0
    """Conversations a second: the mean of `poisson` and `steady`, in a burst of `bursts`, at the
    start of `ramp`."""
    on_s: float = 10.0
    off_s: float = 50.0
    off_rate: float = 0.0
    until_rate: float = 1.0
    """Of a ramp, at its end."""
    source: str = ""
    """`trace`: FILE[@FROM-UNTIL]. `ledger`: a settings file, for the ledger it names."""
    speed: float = 1.0
    """Of trace and ledger: 2 = twice as fast."""
    concurrency: int = 1
    """`closed`: so many conversations at any time."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Per million tokens."""

    currency: str
    input_per_mtok: float
    output_per_mtok: float
    cached_per_mtok: float | None = None
    """None = as other input."""
    source: str = ""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole load test."""

    title: str
    title_zh: str = ""
    arrivals: Arrivals
    duration_s: float
    """Of sending; answers under way then get `drain_s` more."""
    warmup_s: float = 0.0
    """At the start: sent, but not counted."""
    drain_s: float = 60.0
    timeout_s: float = 600.0
    """Of one request."""
    kinds: list[Kind]
    sizes: dict[str, float] = {}
    """Conversations a second by size of a deployment, as `poc`, `beta`, `scale`; `--size`."""
    price: Price | None = None


class Turn(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request of a conversation."""

    prompt: int
    output: int
    think_s: float = 0.0
    """Pause before it; 0 for the first."""


class Conversation(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Begins on time; its later turns wait for the answers before them."""

    number: int
    at_s: float
    kind: int
    document: int
    """Of the shared prefix; -1 = none."""
    turns: tuple[Turn, ...]


def load(name: str) -> Scenario:
    """A file, or one of the packaged scenarios by its name. Raises ScenarioError."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in FOLDER.glob("*.yaml"))
            template, asked = "no scenario {name}; name a YAML file or one of: {known}", repr(name)
            raise ScenarioError(Worded("scenario.unknown", template, name=asked, known=known))
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            template, most = "{path}: above {most} bytes; a scenario is a page", FILE_BYTES_MAX
            raise ScenarioError(Worded("scenario.large", template, path=path, most=most))
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _of_file(path, error) from None
    try:
        return checked(msgspec.convert(tree, Scenario))
    except (msgspec.ValidationError, ScenarioError) as error:
        raise _of_file(path, error) from None


def _of_file(path: Path, error: Exception) -> ScenarioError:
    why = of(error) if isinstance(error, ScenarioError) else str(error)
    return ScenarioError(Worded("scenario.at", "{path}: {why}", path=path, why=why))


def checked(scenario: Scenario) -> Scenario:
    """The scenario, if it makes sense. Raises ScenarioError naming the key."""
    arrivals = scenario.arrivals
    _above("duration_s", scenario.duration_s)
    _above("timeout_s", scenario.timeout_s)
    if not 0 <= scenario.warmup_s < scenario.duration_s:
        raise ScenarioError(Worded("scenario.warmup", "warmup_s: from 0 to below duration_s"))
    if not 0 <= scenario.drain_s <= 86_400:
        raise _outside("drain_s", 86_400)
    for key in ("rate", "on_s", "until_rate", "speed", "concurrency"):
        _above(f"arrivals.{key}", getattr(arrivals, key))
    if arrivals.off_s < 0 or arrivals.off_rate < 0:
        template = "arrivals.off_s, arrivals.off_rate: not below 0"
        raise ScenarioError(Worded("scenario.off_rate", template))
    if arrivals.kind in ("trace", "ledger") and not arrivals.source:
        template = "arrivals.source: kind {kind} needs one"
        raise ScenarioError(Worded("scenario.source", template, kind=arrivals.kind))
    if not scenario.kinds:
        raise ScenarioError(Worded("scenario.no_kinds", "kinds: name at least one"))
    if len({kind.name for kind in scenario.kinds}) < len(scenario.kinds):
        raise ScenarioError(Worded("scenario.same", "kinds: two have the same name"))
    for kind in scenario.kinds:
        _check_kind(kind)
    return scenario


def _check_kind(kind: Kind) -> None:
    where = f"kinds.{kind.name}"
    _above(f"{where}.share", kind.share)
    lengths = {"prompt": kind.prompt, "output": kind.output}
    if kind.session is not None:
        lengths["session.turns"] = kind.session.turns
        if not 0 <= kind.session.think_s <= 86_400:
            raise _outside(f"{where}.session.think_s", 86_400)
    for key, length in lengths.items():
        if not (1 <= length.least <= length.most <= TOKENS_MAX and length.median >= 1):
            template, at = "{key}: 1 <= least <= most <= {most}, median >= 1", f"{where}.{key}"
            raise ScenarioError(Worded("scenario.length", template, key=at, most=TOKENS_MAX))
        if not 0 <= length.spread <= 5:
            raise _outside(f"{where}.{key}.spread", 5)
    prefix = kind.prefix
    if prefix is not None and not (1 <= prefix.tokens <= TOKENS_MAX and prefix.documents >= 1):
        template = "{key}: tokens and documents are at least 1"
        raise ScenarioError(Worded("scenario.prefix", template, key=f"{where}.prefix"))


def _above(key: str, value: float) -> None:
    if not 0 < value < 1e9:
        template = "{key}: above 0 and below 1e9, not {value}"
        raise ScenarioError(Worded("scenario.above", template, key=key, value=value))


def _outside(key: str, most: int) -> ScenarioError:
    return ScenarioError(Worded("scenario.range", "{key}: from 0 to {most}", key=key, most=most))
