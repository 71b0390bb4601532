"""Measured step times: coefficients of one model on one kind and number of GPUs, with their error.

From `calibrations.yaml`, and from an overlay folder into which `ballast models profile` writes what
it measured on a live engine: the first rented GPU replaces our estimates. Facts only; `speed` picks
and scales.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from models.bulk import Bulk, bulk_of
from models.catalog import Catalog, UnknownModelError
from models.fact import Group, IsoDate, Positive
from models.kernels import kernels

FILE: Final = Path(__file__).parent / "calibrations.yaml"
OVERLAY: Final = "calibrations"
"""Folder below `cards_dir`."""


class CalibrationError(Exception):
    """A calibration file is wrong; one line for each fault."""


class FirstToken(Group):
    """Time to first token of a closed loop below its limits: fixed + prompt x (own + others x B),
    in ms with the prompt in thousands of tokens and B sequences at once."""

    fixed_ms: float = Field(ge=0)
    per_kilo_ms: float = Field(ge=0)
    per_kilo_sequence_ms: float = Field(ge=0)


class Grid(Group):
    """The loads that were measured, each with each."""

    prompt_tokens: tuple[Positive, ...]
    output_tokens: tuple[Positive, ...]
    sequences: tuple[Positive, ...]


class Foreign(Group):
    """A model outside the catalogue that was measured on the same engine and GPUs."""

    name: str
    layers: Positive
    hidden: Positive
    dense_gb: float = Field(gt=0)
    expert_gb: float = Field(0, ge=0)
    touched: float = Field(0, ge=0, le=1)
    active_b: float = Field(gt=0)
    kv_bytes: Positive
    kv_heads: int = Field(0, ge=0)
    format: str
    more_kernels: int = Field(0, ge=0)
    """That its layers start beyond what others of its make do (`kernels`)."""

    @property
    def bulk(self) -> Bulk:
        """Its bytes and parameters."""
        return Bulk(
            layers=self.layers,
            hidden=self.hidden,
            dense_bytes=self.dense_gb * 1e9,
            expert_bytes=self.expert_gb * 1e9,
            touched=self.touched,
            active_b=self.active_b,
            kv_bytes=self.kv_bytes,
            kv_heads=self.kv_heads,
            format=self.format,
            kernels=kernels(is_moe=self.touched > 0, weights=self.format) + self.more_kernels,
        )


class Calibration(Group):
    """Time of one engine step in ms = base + experts (1 - (1 - touched) ** B) + per_sequence B
    + per_kilo_context S + per_kilo_prefill P + per_prompt N: B sequences, S thousand tokens of
    context held by them together, P thousand tokens of N prompts computed."""

    name: str
    card: str | None = None
    variant: str | None = None
    foreign: Foreign | None = None
    gpu: str
    tensor: Positive = 1
    data: Positive = 1
    engine: Literal["vllm", "sglang", "trtllm"]
    engine_version: str
    base_ms: float = Field(ge=0)
    experts_ms: float = Field(0, ge=0)
    per_sequence_ms: float = Field(ge=0)
    per_kilo_context_ms: float = Field(ge=0)
    per_kilo_prefill_ms: float = Field(ge=0)
    per_prompt_ms: float = Field(0, ge=0)
    """However short: engines that compute prompts in steps of their own hold up all answers."""
    first_token: FirstToken | None = None
    points: Positive
    mean_error: float = Field(ge=0)
    """Of the time per output token, as a share, over its own points."""
    max_error: float = Field(ge=0)
    grid: Grid | None = None
    scales: bool = True
    """Whether other configurations may be extrapolated from it."""
    max_num_seqs: int | None = None
    kv_tokens: int | None = None
    """What the engine reported, where it was asked; replaces what `memory` computes."""
    measured: IsoDate
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _of_one_model(self) -> Self:
        if (self.card is None) == (self.foreign is None) or (self.card is None) != (
            self.variant is None
        ):
            raise ValueError("say `card` with `variant`, or `foreign`")
        return self


def bulk(calibration: Calibration, catalog: Catalog) -> Bulk:
    """What of the calibrated model is moved and computed."""
    if calibration.foreign is not None:
        return calibration.foreign.bulk
    card = catalog.card(calibration.card or "")
    return bulk_of(card, card.variants[calibration.variant or ""])


def load(catalog: Catalog, cards_dir: Path | None = None) -> tuple[Calibration, ...]:
    """The packaged calibrations and those of `cards_dir`; one of the same name replaces an earlier
    one. Raises CalibrationError."""
    folder = None if cards_dir is None else cards_dir / OVERLAY
    more = sorted(folder.glob("*.yaml")) if folder is not None and folder.is_dir() else []
    found: dict[str, Calibration] = {}
    faults: list[str] = []
    for path in (FILE, *more):
        for row in _rows(path, faults):
            try:
                one = Calibration.model_validate(row)
                bulk(one, catalog)
            except ValidationError as error:
                faults += [
                    f"{path}: {_name(row)}: {'.'.join(map(str, e['loc']))}: {e['msg']}"
                    for e in error.errors()
                ]
            except (UnknownModelError, KeyError) as error:
                faults.append(f"{path}: {_name(row)}: card or variant: {error}")
            else:
                found[one.name] = one
    if faults:
        raise CalibrationError("\n".join(faults))
    return tuple(found.values())


def _rows(path: Path, faults: list[str]) -> list[Any]:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        faults.append(f"{path}: {error}")
        return []
    if isinstance(data, list):
        return data
    faults.append(f"{path}: holds no list of calibrations")
    return []


def _name(row: Any) -> str:
    return str(row.get("name", "(no name)")) if isinstance(row, dict) else "(no mapping)"
