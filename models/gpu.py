"""Kinds of accelerators: what memory and speed are computed from, and which are refused and why.

Facts from `gpus.yaml`, each with its sources; `untried` says that only arithmetic stands behind it.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Final, Literal, Self

import yaml
from pydantic import Field, model_validator

from models.fact import Group, Positive, Source, Sourced
from models.worded import Worded

FILE: Final = Path(__file__).parent / "gpus.yaml"
NODE_GPUS: Final = 8
"""GPUs in one machine; one engine does not reach beyond it."""
NATIVE_FP8_SM: Final = 89
SPARSE_MLA_SM: Final = 90


class UnknownGpuError(Exception):
    """No kind of GPU has this name, or it is refused; says which are known, or why."""


class VllmDefaults(Group):
    """What vLLM guesses from the GPU's name; presets say both explicitly."""

    max_num_seqs: Positive
    max_num_batched_tokens: Positive


class Gpu(Sourced):
    """One kind of GPU."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    """As clouds, price lists and CUDA spell it."""
    support: Literal["supported", "untried"]
    sm: int
    """CUDA compute capability x 10."""
    clock_ghz: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    reserve_gib: float = Field(gt=0)
    bandwidth_tb_s: float = Field(gt=0)
    bf16_tflops: float = Field(gt=0)
    fp8_tflops: float | None = None
    """None: FP8 weights are unpacked to BF16 for the multiplication (Marlin)."""
    link: Literal["nvlink", "pcie"]
    link_gb_s: float = Field(gt=0)
    vllm: VllmDefaults
    note: str = ""


class Refused(Sourced):
    """A kind of accelerator that no preset supports."""

    name: str
    aliases: tuple[str, ...] = ()
    reason: str


class Gpus(Group):
    """All kinds by id."""

    sources: dict[str, Source]
    gpus: dict[str, Gpu]
    unsupported: dict[str, Refused]

    @model_validator(mode="before")
    @classmethod
    def _with_ids(cls, given: dict[str, dict[str, dict[str, object]]]) -> object:
        rows = {key: {"id": key, **row} for key, row in given["gpus"].items()}
        return {**given, "gpus": rows}

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        rows: dict[str, Sourced] = {**self.gpus, **self.unsupported}
        missing = [
            f"{key}: {source}"
            for key, row in rows.items()
            for source in row.source
            if source not in self.sources
        ]
        if missing:
            raise ValueError(f"sources that are not in `sources`: {', '.join(missing)}")
        return self

    def gpu(self, name: str) -> Gpu:
        """The kind with this id or alias, in any case. Raises UnknownGpuError."""
        wanted = _folded(name)
        for row in self.gpus.values():
            if wanted in map(_folded, (row.id, row.name, *row.aliases)):
                return row
        for key, refused in self.unsupported.items():
            if wanted in map(_folded, (key, refused.name, *refused.aliases)):
                template, said = "{name} is not supported: {why}", refused.reason
                why = Worded.made(f"gpu_refused.{key}", said, {})
                raise UnknownGpuError(Worded("gpu.refused", template, name=refused.name, why=why))
        near = difflib.get_close_matches(wanted, self.gpus, 1)
        hint = Worded("gpu.near", "; did you mean {name}?", name=near[0]) if near else ""
        template, named = "no GPU {name}{hint} known: {names}", repr(name)
        raise UnknownGpuError(
            Worded("gpu.unknown", template, name=named, hint=hint, names=[*self.gpus])
        )


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")


@cache
def load() -> Gpus:
    """The packaged kinds, read once."""
    return Gpus.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
