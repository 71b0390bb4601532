"""Which lines of a batch go to a third party's batch price, and what waits for idle engines."""

from __future__ import annotations

import msgspec
import pytest

from models.capacity import PROFILES
from serving.batch.away import Home, Pace, away, hold_s, may_try, split
from serving.batch.planning import Asked, Standby
from serving.batch.settings import BatchSettings
from serving.placement.fitness import Asked as Fit
from serving.placement.fitness import unfit
from serving.placement.values import PLAIN
from serving.records import OWN, DataLabel, FleetView, Replica, Stops
from serving.rules import may_see

GIVEN = BatchSettings()
HOUR = 3600.0
REPLICA = Replica(
    "r", "m", "h", 1, "", DataLabel("cn", "self", on_premises=True), PROFILES["instant"], 64
)
OWNED = FleetView(replicas={"m": (REPLICA,)})


@pytest.fixture
def cheap(make):
    made = make.offering()
    return msgspec.structs.replace(
        made, id="alpha-batch/big", provider="alpha-batch", vendor="alpha", first_token_s=HOUR
    )


def asked(**changes: object) -> Asked:
    plain = Asked("m", "acme", 10 * HOUR, True, True, 0, 64, 0)
    return plain._replace(**changes)  # type: ignore[arg-type]


def test_only_what_idle_engines_will_not_do_goes_away(cheap):
    # Ten hours left, the last four are for any price: six hours at a line a minute are 360.
    found = away(asked(), Home(400, 0, 1 / 60), [cheap], GIVEN, OWNED)
    assert (found.lines, found.pin) == (40, cheap.id)
    assert away(asked(), Home(360, 0, 1 / 60), [cheap], GIVEN, OWNED).lines == 0
    assert away(asked(), Home(5000, 60, 1 / 60), [cheap], GIVEN, OWNED).lines == 4
    assert away(asked(), Home(5000, 64, 0.0), [cheap], GIVEN, OWNED).lines == 0


@pytest.mark.parametrize(
    ("changes", "per_s", "reason"),
    [
        ({"left_s": 20 * HOUR}, 0.0, "idle engines have time"),
        ({}, None, "not measured yet"),
        ({"left_s": 3 * HOUR}, 0.0, "no time"),
        ({"may_overflow": False}, 0.0, "may not leave"),
    ],
)
def test_nothing_goes_away_while(cheap, changes, per_s, reason):
    found = away(asked(**changes), Home(500, 0, per_s), [cheap], GIVEN, OWNED)
    assert (found.lines, found.reason) == (0, reason)


def test_nothing_goes_away_without_a_batch_price_or_after_a_stop(cheap):
    assert away(asked(), Home(500, 0, 0.0), [], GIVEN, OWNED).reason == "no batch price"
    view = msgspec.structs.replace(OWNED, stops=Stops(models=frozenset({"m"})))
    assert away(asked(), Home(500, 0, 0.0), [cheap], GIVEN, view).lines == 0


def test_a_price_whose_answer_would_come_too_late_is_none(cheap):
    given = BatchSettings(api_before_s=0)
    late = asked(left_s=HOUR - 1)
    assert away(late, Home(5, 0, 0.0), [cheap], given, OWNED).reason == "no time"
    assert away(asked(left_s=HOUR), Home(5, 0, 0.0), [cheap], given, OWNED).lines == 5


def test_the_cheapest_of_them_is_taken(cheap):
    dear = msgspec.structs.replace(
        cheap, id="dear",
        price=msgspec.structs.replace(cheap.price, output_micro_per_mtok=10**12),
    )  # fmt: skip
    unknown = msgspec.structs.replace(cheap, id="unknown", exchange=0.0)
    rows = [unknown, dear, cheap]
    assert away(asked(), Home(5, 0, 0.0), rows, GIVEN, OWNED).pin == cheap.id


def test_lines_run_at_home_beside_those_away(cheap):
    here, there = split(asked(), Home(500, 0, 0.0), Standby((cheap,), 0.0), GIVEN, OWNED)
    assert (here.pin, here.lines > 0) == (OWN, True)
    assert (there.pin, there.lines) == (cheap.id, 64)


def test_a_model_without_engines_goes_at_once_and_pays_more_only_for_what_failed_there(cheap):
    alone = asked(is_owned=False, left_s=24 * HOUR)
    there, here = split(alone, Home(500, 0, None), Standby((cheap,), 0.0), GIVEN, FleetView())
    assert (there.pin, there.lines) == (cheap.id, 64)
    assert (here.pin, here.is_rest) == ("", True)
    (here, there) = split(alone, Home(500, 0, None), Standby((), 0.0), GIVEN, FleetView())
    assert (here.lines, here.is_rest, there.lines) == (64, False, 0)


def test_a_line_s_last_try_is_kept_for_home():
    assert [may_try(run, GIVEN) for run in (1, 2, 3)] == [True, True, False]
    assert may_try(1, BatchSettings(tries_max=1))


def test_failures_in_a_row_are_waited_for_ever_longer():
    assert [hold_s(n, GIVEN) for n in (0, 1, 2, 50)] == [30.0, 60.0, 120.0, 3600.0]


def test_the_pace_is_of_the_last_hour_and_unknown_at_first():
    pace = Pace(1000.0)
    for second in range(600):
        pace.ended(1000.0 + second)
    assert pace.per_s(1599.0, 600.0) is None
    assert pace.per_s(1600.0, 600.0) == 1.0
    assert pace.per_s(2200.0, 600.0) == 0.5
    assert pace.per_s(1000.0 + 3 * HOUR, 600.0) == 0.0


def test_a_batch_price_is_for_lines_of_batches_alone_and_stops_with_its_vendor(make, cheap):
    caller, call = make.caller(), make.call()
    line = msgspec.structs.replace(call, batch="batch_1")
    rules = Fit(call, caller, PLAIN, frozenset())
    assert unfit(cheap, call, rules) == "batch"
    assert unfit(cheap, line, rules) == ""
    for name, sees in (("alpha", False), ("alpha-batch", False), ("beta", True)):
        view = make.view([], [cheap], stops=Stops(providers=frozenset({name})))
        assert may_see(cheap, view, 0.0) is sees
