"""Kinds of GPUs: found by any of their names, refused with a reason, sourced throughout."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.gpu import Gpus, UnknownGpuError, load

KINDS = load()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h100-80", "h100-80"),
        ("H100", "h100-80"),
        ("NVIDIA H100 80GB HBM3", "h100-80"),
        ("a100_80", "a100-80"),
        ("A100-40GB", "a100-40"),
        ("4090", "rtx4090-24"),
        ("h20", "h20-96"),
    ],
)
def test_a_kind_is_found_by_any_of_its_names(name, expected):
    assert KINDS.gpu(name).id == expected


@pytest.mark.parametrize("name", ["V100", "Ascend 910B", "trn2", "Zhenwu"])
def test_what_is_not_supported_is_refused_with_its_reason(name):
    with pytest.raises(UnknownGpuError, match="is not supported: "):
        KINDS.gpu(name)


def test_an_unknown_kind_names_the_known_ones_and_a_near_one():
    with pytest.raises(UnknownGpuError, match="did you mean h100-80"):
        KINDS.gpu("h100-8")


def test_the_four_kinds_of_the_catalogue_are_supported_and_others_marked_untried():
    supported = {key for key, kind in KINDS.gpus.items() if kind.support == "supported"}
    assert supported == {"a100-40", "a100-80", "h100-80", "h200-141"}
    untried = {"h20-96", "h800-80", "l20-48", "l40s-48", "a10-24", "rtx4090-24"}
    assert untried == KINDS.gpus.keys() - supported


def test_no_two_kinds_share_a_name():
    rows = {**KINDS.gpus, **KINDS.unsupported}
    names = [
        name
        for key, row in rows.items()
        for name in {text.casefold() for text in (key, *row.aliases)}
    ]
    assert len(names) == len(set(names))


def test_a_kind_without_a_known_source_is_refused():
    given = KINDS.model_dump()
    given["gpus"]["a10-24"]["source"] = ["hearsay"]
    with pytest.raises(ValidationError, match="a10-24: hearsay"):
        Gpus.model_validate(given)
