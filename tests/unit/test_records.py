"""The values that flow: frozen, comparable, closed, and tight by default."""

from __future__ import annotations

import msgspec
import pytest

from serving import records
from serving.records import (
    FleetView,
    Outcome,
    Overflow,
    Policy,
    Residency,
    ResidencyLevel,
    Sensitivity,
    TargetState,
)

STRUCTS = [
    value for value in vars(records).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct)
    and value.__module__ == records.__name__
]  # fmt: skip


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda s: s.__name__)
def test_every_value_is_frozen(struct):
    assert struct.__struct_config__.frozen


def test_a_value_refuses_to_be_changed(make):
    with pytest.raises(AttributeError):
        make.call().tenant = "other"
    with pytest.raises(AttributeError):
        make.replica().label = None


def test_a_policy_without_words_allows_the_least():
    policy = Policy()
    assert policy.residency.level is ResidencyLevel.PREMISES
    assert policy.overflow is Overflow.NEVER
    assert Residency().jurisdictions == frozenset()


def test_levels_are_ordered_tightest_first():
    assert list(ResidencyLevel) == sorted(ResidencyLevel)
    assert ResidencyLevel.PREMISES < ResidencyLevel.MAINLAND < ResidencyLevel.ANYWHERE
    assert max(Sensitivity) is Sensitivity.SECRET


def test_a_fresh_target_is_idle_closed_and_unreported():
    state = TargetState()
    assert (state.unfinished, state.open_until_s, state.full_until_s) == (0, 0.0, 0.0)
    assert (state.scale, state.load_at_s) == (1.0, float("-inf"))


def test_an_empty_view_serves_nobody_and_shares_nothing_mutable(make):
    assert not FleetView().replicas
    assert msgspec.structs.replace(make.view(), seq=5).seq == 5


def test_outcomes_are_labels_of_their_own_name():
    assert {o.value for o in Outcome} == {o.name.lower() for o in Outcome}
