"""Model cards as values: what is known of one model that could be served, strictly validated.

A card states facts and says where each comes from; it decides nothing. Whether a model fits
(`memory`), how fast it is (`capacity`) and how it starts (`flags`) is computed from it. Every block
of numbers names its sources, keys of `sources.yaml`, which hold title and date. An unknown number
is left out and its block lists it under `unknown`: it is never guessed in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CARD_ID = r"^[a-z0-9][a-z0-9.-]{0,62}$"
"""Also the name of its Serve application (`serving.engine.spec`)."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _iso_date(value: Any) -> Any:
    # YAML reads a bare day as a date.
    return value.isoformat() if type(value) is date else value


Listed: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One string or a list of them."""
HubId: TypeAlias = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
IsoDate: TypeAlias = Annotated[
    str, BeforeValidator(_iso_date), Field(pattern=r"^\d{4}-\d\d(-\d\d)?$")
]
"""A day, or a month where the day is not known."""
Positive: TypeAlias = Annotated[int, Field(ge=1)]


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Group):
    """Where facts come from."""

    title: str
    date: IsoDate
    """The day it was read or its state of that day, the later one if both are known."""
    url: str = ""
    doubt: str = ""
    """Why its facts need another look; empty for a source that was read."""


class Sourced(Group):
    """A block of facts with the keys of `sources.yaml` that it was taken from."""

    source: Listed = Field(min_length=1)
    unknown: Listed = ()
    """Facts of this block that nobody has published as far as we found."""


MODELSCOPE: Mapping[str, str] = MappingProxyType({"Qwen": "Qwen", "zai-org": "ZhipuAI"})
"""Owner on Hugging Face -> the same vendor's name on ModelScope."""


class Repository(Group):
    """Where the weights are."""

    huggingface: HubId
    modelscope: HubId | None = None
    """Left out in a file where `MODELSCOPE` says it; None: not known to be there."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    """Commit on Hugging Face; None is not pinned: the first fetch pins what it finds."""

    @model_validator(mode="before")
    @classmethod
    def _on_modelscope(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "modelscope" in given:
            return given
        owner, _, name = str(given.get("huggingface")).partition("/")
        return (
            {**given, "modelscope": f"{MODELSCOPE[owner]}/{name}"} if owner in MODELSCOPE else given
        )


Format: TypeAlias = Literal[
    "bf16", "fp8_block", "fp8_channel", "awq_int4", "gptq_int4", "w4a8"
]  # fmt: skip


class Variant(Repository, Sourced):
    """One set of weights of the model."""

    format: Format
    weights_gib: float = Field(gt=0)
    """Bytes of the checkpoint / 2^30: on the GPUs together, in host memory while it loads."""
    is_measured: bool = False
    """Read off the files; else parameters x bytes, embeddings in BF16."""
    sm_min: int = 80
    """Lowest CUDA compute capability (80 = A100, 90 = H100) with a kernel for it."""
    note: str = ""


Attention: TypeAlias = Literal[
    "gqa", "mla", "mla_dsa", "gdn_hybrid", "gdn_sparse_hybrid", "kda_mla_hybrid"
]  # fmt: skip
HYBRID: frozenset[Attention] = frozenset({"gdn_hybrid", "gdn_sparse_hybrid", "kda_mla_hybrid"})
LATENT: frozenset[Attention] = frozenset({"mla", "mla_dsa", "kda_mla_hybrid"})
"""One latent per token for all heads, so every tensor-parallel rank holds all of it."""


class Moe(Group):
    """Mixture of experts."""

    experts: Positive
    experts_per_token: Positive
    shared_experts: int = Field(0, ge=0)
    expert_intermediate: Positive
    """Width of one expert; block-FP8 needs it to divide by 128 on each rank (or a refined grid)."""


class Shape(Sourced):
    """Sizes that memory and parallelism depend on."""

    attention: Attention
    layers: Positive
    attention_layers: Positive
    """Layers that keep keys and values; the others keep a state of fixed size."""
    hidden: Positive
    heads: Positive | None = None
    kv_heads: Positive | None = None
    head_dim: Positive
    """For latent attention the width of the latent with its rope part."""
    vocabulary: Positive | None = None
    kv_bytes_per_token: Positive | None = None
    """BF16, whole model; stated where it is not 2 x layers x kv_heads x head_dim x 2."""
    state_bytes_per_sequence: int = Field(0, ge=0)
    """FP32 recurrent state of the linear layers, whole model, for each running sequence."""
    moe: Moe | None = None

    @property
    def is_hybrid(self) -> bool:
        """Whether some layers keep a recurrent state in place of keys and values."""
        return self.attention in HYBRID

    @property
    def is_latent(self) -> bool:
        """Whether the KV cache is one latent, whole on every tensor-parallel rank."""
        return self.attention in LATENT


class Size(Sourced):
    """Parameters, in billions."""

    total_b: float = Field(gt=0)
    active_b: float = Field(gt=0)


class Context(Sourced):
    """Tokens of prompt and answer together."""

    native: Positive
    stretched: Positive | None = None
    stretch: dict[str, Any] = {}
    """`hf_overrides` that stretch it; static YaRN costs quality on short prompts."""
    offered_max: Positive | None = None
    """We offer no more than this, for a reason in `known_bad`."""


class Thinking(Sourced):
    """Whether it reasons before it answers, and who may decide that."""

    mode: Literal["never", "always", "switchable"]
    is_on_by_default: bool = False
    off: dict[str, Any] = {}
    """`chat_template_kwargs` that turn it off."""
    efforts: tuple[str, ...] = ()
    """Values of `reasoning_effort` that its template knows, lowest first."""
    opens_tag: bool = False
    """The template itself opens the think tag: without the reasoning parser content starts
    mid-thought."""
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "switchable") != bool(self.off):
            raise ValueError("`off` says how to turn thinking off, if and only if it is switchable")
        return self


class Vision(Sourced):
    """Pictures and video in the prompt."""

    images_max: Positive
    """In one request, as we start the engine (`--limit-mm-per-prompt`)."""
    pixels_max: Positive
    """Of one picture; larger ones are scaled down by the model's processor."""
    pixels_per_token: Positive
    """Square pixels behind one token: (patch x merge)^2."""
    has_video: bool = False


class Embedding(Sourced):
    """Vectors."""

    dimension: Positive
    dimension_min: Positive | None = None
    """Shortest useful prefix (Matryoshka); None where it must not be cut."""
    instruction: str = ""
    """How a query is to be prefixed."""


class Capabilities(Sourced):
    """What clients may ask of it."""

    task: Literal["chat", "embedding", "rerank", "moderation"] = "chat"
    tools: bool = False
    json_schema: bool = False
    vision: Vision | None = None
    embedding: Embedding | None = None


class Life(Sourced):
    """Dates of its life, and what comes after."""

    released: IsoDate
    deprecated: IsoDate | None = None
    sunset: IsoDate | None = None
    successor: str | None = None
    """Card id."""


class Sample(Group):
    """The vendor's sampling values."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None


class Sampling(Sourced):
    """Recommended sampling, by whether it thinks."""

    thinking: Sample | None = None
    plain: Sample | None = None


class Speculation(Sourced):
    """Multi-token prediction with the model's own head."""

    method: str = "mtp"
    tokens: Positive


class Serving(Sourced):
    """How vLLM starts it."""

    architecture: str
    """Class name in `config.json`, as vLLM's registry knows it."""
    runner: Literal["generate", "pooling"] = "generate"
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    vllm_min: str
    args: tuple[str, ...] = ()
    """Flags on every GPU."""
    env: dict[str, str] = {}
    hf_overrides: dict[str, Any] = {}
    chat_template_kwargs: dict[str, Any] = {}
    speculation: Speculation | None = None
    trust_remote_code: str | None = None
    """The reason why code from the repository may run; None forbids it."""


class When(Group):
    """A condition on a placement; all that is said must hold."""

    sm_below: int | None = None
    gpus: tuple[str, ...] = ()
    formats: tuple[Format, ...] = ()
    features: tuple[Literal["speculation", "prefix_caching", "fp8_kv", "lora", "sleep"], ...] = ()
    tensor_parallel: tuple[int, ...] = ()
    context_above: int | None = None


class KnownBad(Group):
    """A combination that is known to go wrong, and what to do about it."""

    issue: str = Field(min_length=1)
    """`#43559` (vLLM's tracker) or where it is told."""
    what: str = Field(min_length=1)
    when: When
    action: Literal["refuse", "add_args", "drop_feature", "warn"]
    args: tuple[str, ...] = ()
    """For `add_args`."""


class Probe(Group):
    """Asked before a replica is called ready."""

    prompt: str
    expect: str = Field("non_empty", pattern=r"^(non_empty|dimension|ordered|matches:.+)$")
    """`matches:` takes a regular expression on the answer's text."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if self.expect.startswith("matches:"):
            re.compile(self.expect.removeprefix("matches:"))
        return self


class Card(Group):
    """One model."""

    id: str = Field(pattern=CARD_ID)
    name: str
    family: Literal["qwen", "glm"]
    licence: str
    size: Size
    shape: Shape
    context: Context
    thinking: Thinking
    capabilities: Capabilities
    life: Life
    serving: Serving
    sampling: Sampling | None = None
    variants: dict[str, Variant] = Field(min_length=1)
    known_bad: tuple[KnownBad, ...] = ()
    probe: Probe
    sources: dict[str, Source] = {}
    """Sources of this card alone, beside those in `sources.yaml`."""
    notes: Listed = ()

    @property
    def is_moe(self) -> bool:
        """Whether only a part of the weights works on each token."""
        return self.shape.moe is not None


def is_over(day: IsoDate | None, today: date) -> bool:
    """Whether a date of a card's life has passed by `today`; a month ends on its last day."""
    return day is not None and today.isoformat()[: len(day)] > day
