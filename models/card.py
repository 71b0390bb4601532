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

from pydantic import BeforeValidator, Field, model_validator

from models.fact import Group, IsoDate, Listed, Positive, Source, Sourced
from models.flag import Arguments
from models.layout import Feature
from models.shape import Shape

HubId: TypeAlias = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
CARD_ID = r"^[a-z0-9][a-z0-9.-]{0,62}$"
"""Also the name of its Serve application (`serving.engine.spec`)."""


def _named(value: Any) -> Any:
    return tuple(value.values()) if isinstance(value, dict) else value


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
        there = f"{MODELSCOPE[owner]}/{name}" if owner in MODELSCOPE else None
        return {**given, "modelscope": there}


Format: TypeAlias = Literal[
    "bf16", "fp8_block", "fp8_channel", "awq_int4", "gptq_int4", "w4a8"
]  # fmt: skip


class Licence(Sourced):
    """The terms of the weights."""

    id: str = Field(min_length=1)
    """SPDX id, or the vendor's own name for it; `unknown` until somebody has read the card."""
    note: str = ""


class Variant(Repository, Sourced):
    """One set of weights of the model."""

    format: Format
    weights_gib: float = Field(gt=0)
    """Bytes of the checkpoint / 2^30: on the GPUs together, in host memory while it loads."""
    host_gib: float = Field(0, ge=0)
    """The part of it that stays in host memory while it serves (n-gram tables)."""
    is_measured: bool = False
    """Read off the files; else parameters x bytes, embeddings in BF16."""
    sm_min: int = 80
    """Lowest CUDA compute capability (80 = A100, 90 = H100) with a kernel for it."""
    note: str = ""


class Size(Sourced):
    """Parameters, in billions."""

    total_b: float = Field(gt=0)
    active_b: float = Field(gt=0)


class Context(Sourced):
    """Tokens of prompt and answer together."""

    native: Positive
    stretched: Positive | None = None
    stretch: dict[str, Any] = Field(default_factory=dict)
    """`hf_overrides` that stretch it; static YaRN costs quality on short prompts."""
    offered_max: Positive | None = None
    """We offer no more than this, for a reason in `known_bad`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.stretched is None) != (not self.stretch):
            raise ValueError("`stretch` says how to reach `stretched`: both or neither")
        if self.stretched is not None and self.stretched <= self.native:
            raise ValueError("stretched: must be more than native")
        return self


class Thinking(Sourced):
    """Whether it reasons before it answers, and who may decide that."""

    mode: Literal["never", "always", "switchable"]
    is_on_by_default: bool = False
    off: dict[str, Any] = Field(default_factory=dict)
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
    repetition_penalty: float | None = None


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
    vllm_min: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    """Lowest release known to run it, which need not be the first."""
    args: Arguments = ()
    """Flags on every GPU."""
    env: dict[str, str] = Field(default_factory=dict)
    hf_overrides: dict[str, Any] = Field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    chat_template: str | None = Field(None, pattern=r"^(/.+|[\w.-]+\.jinja)$")
    """Where the repository's own does not serve: a file of `models/templates`, or a full path."""
    speculation: Speculation | None = None
    trust_remote_code: str | None = None
    """The reason why code from the repository may run; None forbids it."""


class When(Group):
    """A condition on a placement; all that is said must hold."""

    sm_from: int | None = None
    sm_below: int | None = None
    """CUDA compute capability, `sm_from` <= it < `sm_below` (80 = A100, 90 = H100)."""
    gpus: tuple[str, ...] = ()
    formats: tuple[Format, ...] = ()
    features: tuple[Feature, ...] = ()
    tensor_parallel: tuple[int, ...] = ()
    context_above: int | None = None


class KnownBad(Group):
    """A combination that is known to go wrong, and what to do about it."""

    issue: str = Field(min_length=1)
    """`#43559` (vLLM's tracker) or where it is told."""
    what: str = Field(min_length=1)
    when: When
    action: Literal["refuse", "add_args", "drop_feature", "warn"]
    args: Arguments = ()
    """For `add_args`."""
    drop: Feature | None = None
    """For `drop_feature`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.action == "add_args") != bool(self.args):
            raise ValueError("`args` says what to add, if and only if the action is add_args")
        if (self.action == "drop_feature") != (self.drop is not None):
            raise ValueError("`drop` says which, if and only if the action is drop_feature")
        return self


class Probe(Group):
    """Asked before a replica is called ready."""

    prompt: str
    expect: str = Field("non_empty", pattern=r"^(non_empty|dimension|ordered|matches:.+)$")
    """`matches:` takes a regular expression on the answer's text."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if self.expect.startswith("matches:"):
            try:
                re.compile(self.expect.removeprefix("matches:"))
            except re.error as error:
                raise ValueError(f"expect: no regular expression: {error}") from None
        return self


class Card(Group):
    """One model."""

    id: str = Field(pattern=CARD_ID)
    name: str
    family: Literal["qwen", "glm"]
    licence: Licence
    size: Size
    shape: Shape
    context: Context
    thinking: Thinking
    capabilities: Capabilities
    life: Life
    serving: Serving
    sampling: Sampling | None = None
    variants: dict[str, Variant] = Field(min_length=1)
    known_bad: Annotated[tuple[KnownBad, ...], BeforeValidator(_named)] = ()
    """In a file a mapping: the names let a card that inherits it add, change or remove one."""
    probe: Probe
    sources: dict[str, Source] = Field(default_factory=dict)
    """Sources of this card alone, beside those in `sources.yaml`."""
    notes: Listed = ()

    @property
    def is_moe(self) -> bool:
        """Whether only a part of the weights works on each token."""
        return self.shape.moe is not None


def is_over(day: IsoDate | None, today: date) -> bool:
    """Whether a date of a card's life has passed by `today`; a month ends on its last day."""
    return day is not None and today.isoformat()[: len(day)] > day
