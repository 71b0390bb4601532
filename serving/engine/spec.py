"""What one engine and its cluster are asked to be.

Values only: importable without ray, vllm or torch. An `EngineSpec` travels as the `args` of a
Serve application, which anyone with the Ray token can read back over REST; hence the path of the
secret file stands here and never the secret.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from serving.engine.adapter_spec import Adapter, LoraLimits
from serving.engine.loading import Load
from serving.engine.probe_spec import Probe
from serving.engine.weights.settings import WeightsSettings

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

APP_IMPORT_PATH = "serving.engine.app:build"
EMBEDDED = "embedded"
DEPLOYMENT_NAME = "EngineReplica"
SpecT = TypeVar("SpecT")


class SpecError(ValueError):
    """A spec holds an unknown key or a bad value; the message names it."""


class EngineSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model on one engine; each replica of its Serve application is made from this."""

    model_name: str
    """Name that requests carry in `model`; also the Serve application and `/m/<name>`."""
    model_path: str
    """Where the weights come from, in the forms of `weights/sources.py`; whoever fetches them puts
    the folder here and what stood here into `source`."""
    source: str = ""
    load: Load = "auto"
    """How vLLM reads the weights (`loading.py`); auto = by where they lie."""
    manifest: str = ""
    """A file written by sha256sum that the weights must match; else what the first fetch pinned."""
    trust_remote_code: str | None = None
    """Why Python code of the repository may run inside the engine; None forbids it."""
    weights: WeightsSettings = WeightsSettings()
    cache_dir: str = ""
    """Where this engine's host keeps weights and adapters."""
    start_times: str = ""
    """File that learns how long each stage of a start took (`serving/start_record.py`)."""
    probe: Probe | None = Probe()
    """Asked before a replica is called ready; None asks nothing."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters that every replica loads at its start, each a model name of its own."""
    lora: LoraLimits | None = None
    """Room for adapters; None = defaults where `adapters` are given, else none can be loaded."""
    starts_max: Positive = 3
    """Failed starts in a row after which Serve gives the deployment up and says why."""
    secret_path: str
    """File with the deployment secrets, one a line: current, then previous during rotation."""
    device: Literal["cpu", "gpu"] = "cpu"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """auto: measured choice by CPU flags (hardware.py); on a GPU what the checkpoint says."""
    max_model_len: Positive | None = None
    """Tokens of prompt and answer together; None = what the checkpoint allows."""
    max_num_seqs: Positive = 16
    """Sequences that decode together; more than the cores can feed only adds latency."""
    max_num_queued_reqs: Positive = 32
    """Waiting + running requests above which the engine answers 503: the true gate."""
    max_num_queued_tokens: Positive = 32768
    """Prompt tokens still in prefill above which the engine answers 503 (bounds first token)."""
    kv_cache_gib: Positive = 2
    """RAM for keys and values (CPU only). 2 GiB hold 46,592 float32 tokens of the demo model."""
    memory_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.3
    """vLLM's --gpu-memory-utilization; on a CPU it is of RAM, and 0.92 refuses to start."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """OpenMP threads of the engine core (CPU only); 0 = one per core."""
    enforce_eager: bool = True
    """No torch.compile: starts sooner. False decodes faster where start-up time is no matter."""
    watchdog_s: Seconds = 30.0
    """Unfinished work and no engine output for so long = dead. Above the longest prefill step."""
    stream_s_max: Seconds = 600.0
    """Longest answer; a draining replica waits so long for its running streams."""
    tool_parser: str | None = "hermes"
    """vLLM's tool call parser; None turns automatic tool choice off."""
    reasoning_parser: str | None = None
    """vLLM's parser that takes thoughts out of the answer; None leaves them in its content."""
    runner: Literal["auto", "generate", "pooling"] = "auto"
    """pooling: embeddings or scores from a model whose architecture could also generate."""
    hf_overrides: dict[str, Any] = {}
    """Changes to the checkpoint's `config.json`, as vLLM's --hf-overrides."""
    tool_strict_level: Literal["auto", "function", "parameter"] = "auto"
    """How far vLLM's grammar binds tool calls: auto = as each tool's `strict` says; parameter =
    arguments always match their schema, which the demo model needs."""
    extra_args: tuple[str, ...] = ()
    """More flags for vLLM, as on its command line; they win over ours."""
    environment: dict[str, str] = {}
    """Variables that vLLM reads, beside those we always set."""
    num_replicas: Annotated[int, Meta(ge=0)] = 1
    num_cpus: Annotated[float, Meta(ge=0)] = 1.0
    num_gpus: Annotated[float, Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", self.model_name):
            raise SpecError(
                f"model_name {self.model_name!r}: lower case, digits, '.', '_', '-'; 63 at most"
            )
        names = [self.model_name, *(adapter.name for adapter in self.adapters)]
        if len(set(names)) < len(names):
            raise SpecError(f"adapters: a name is given twice among {', '.join(names)}")
        for argument in self.extra_args:
            # vLLM's parser takes underscores and any beginning that is not ambiguous.
            if argument.replace("_", "-").startswith("--trust"):
                raise SpecError(f"extra_args: {argument}: say why in trust_remote_code instead")

    @property
    def takes_adapters(self) -> bool:
        """Whether the engine is started with room for adapters."""
        return bool(self.adapters) or self.lora is not None

    @property
    def route_prefix(self) -> str:
        """Path under which every replica of this model serves."""
        return f"/m/{self.model_name}"


class ClusterSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The one-machine cluster: a Ray head and its engines."""

    engines: tuple[EngineSpec, ...]
    cache_dir: str
    """Where converted checkpoints live, outside the repository."""
    num_cpus: Positive | None = None
    """Logical CPUs Ray may hand out; None = cores, at least one more than the engines take."""
    object_store_mib: Annotated[int, Meta(ge=75)] = 78
    """Ray's shared memory; nothing of ours passes through it, so its minimum."""
    dashboard_port: Port = 0
    """REST port on loopback; 0 = a free one, kept when Ray is restarted."""
    proxy_port: Port = 0
    """Port of Serve's own proxy, which nobody uses (direct ingress); 0 = a free one."""
    drain_s_min: Seconds = 5.0
    """A draining replica stays reachable so long. Serve's 30 s suit slow load balancers; our
    gateway polls each second."""
    startup_s_max: Seconds = 900.0
    """From deployment to a ready replica; beyond it `up` reports `failed`."""
    restarts_max: Positive = 10
    """Deaths of Ray in a row (none ready between) after which `up` gives up."""


def engine_spec(args: dict[str, Any]) -> EngineSpec:
    """Check the `args` of a Serve application; raises SpecError naming the key."""
    return _convert(args, EngineSpec)


def cluster_spec(text: str | bytes) -> ClusterSpec:
    """Check a spec file's JSON; raises SpecError naming the key."""
    try:
        return _convert(msgspec.json.decode(text), ClusterSpec)
    except msgspec.DecodeError as error:
        raise SpecError(f"the spec is not JSON: {error}") from error


def _convert(args: Any, kind: type[SpecT]) -> SpecT:
    try:
        return msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        raise SpecError(str(error)) from error
