"""What a batch may run now, what becomes of a line, what an input file must be."""

from __future__ import annotations

import json

import msgspec
import pytest

from models.capacity import PROFILES, Load
from serving.batch import envelope, planning
from serving.batch.checking import Checking
from serving.batch.planning import Asked, Held, Judged, judged, leaving, release
from serving.batch.settings import BatchSettings
from serving.batch.values import Batch, Fault, Standing, State, Status
from serving.records import (
    OWN,
    DataLabel,
    FleetView,
    Pending,
    Replica,
    Stops,
    TargetState,
)

GIVEN = BatchSettings()
PROFILE = msgspec.structs.replace(PROFILES["instant"], max_num_seqs=10)
REPLICA = Replica("r", "m", "h", 1, "", DataLabel("cn", "self", on_premises=True), PROFILE, 64)
CHAT = "/v1/chat/completions"
BATCH = Batch("batch_1", "acme", "k", CHAT, "f", "24h", 1_700_000_000_000, 1_700_086_400_000)


def asked(**changes: object) -> Asked:
    plain = Asked("m", "acme", 80_000.0, True, True, 0, 64, 0)
    return plain._replace(**changes)  # type: ignore[arg-type]


def view(state: TargetState | None = None, **changes: object) -> FleetView:
    made = FleetView(replicas={"m": (REPLICA,)}, state={} if state is None else {"r": state})
    return msgspec.structs.replace(made, **changes)


def loaded(running: int = 0, waiting: int = 0, unfinished: int = 0) -> TargetState:
    state = TargetState()
    state.load, state.load_at_s = Load(waiting, running), 100.0
    state.unfinished = unfinished
    return state


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        (None, 8),
        (loaded(running=5), 3),
        (loaded(unfinished=6), 2),
        (loaded(running=5, unfinished=7), 1),
        (loaded(running=8), 0),
        (loaded(running=1, waiting=1), 0),
    ],
    ids=["idle", "reported", "ours", "the larger of both", "filled up", "others wait there"],
)
def test_lines_fill_an_engine_up_to_a_share_and_no_further(state, lines) -> None:
    found = release(asked(), GIVEN, view(state), 101.0)
    assert (found.lines, found.pin) == (lines, OWN)


def test_a_batch_has_no_more_lines_under_way_than_it_may() -> None:
    assert release(asked(running_max=3, running=2), GIVEN, view(), 0.0).lines == 1
    assert release(asked(running_max=3, running=4), GIVEN, view(), 0.0).lines == 0


def test_a_batch_yields_to_calls_that_stand_in_line() -> None:
    found = release(asked(waiting=1), GIVEN, view(), 0.0)
    assert (found.lines, found.reason) == (0, "others wait")


def test_a_stale_report_counts_for_nothing_but_our_own_lines() -> None:
    state = loaded(running=9, unfinished=2)
    assert release(asked(), GIVEN, view(state), 200.0).lines == 6


def test_an_engine_whose_breaker_is_open_or_that_is_full_takes_no_lines() -> None:
    for name in ("open_until_s", "full_until_s"):
        state = loaded()
        setattr(state, name, 105.0)
        assert release(asked(), GIVEN, view(state), 101.0).lines == 0
        assert release(asked(), GIVEN, view(state), 106.0).lines == 8


def test_with_two_pods_each_takes_its_share() -> None:
    one = release(asked(), GIVEN, view(gateway_pods=16), 0.0)
    assert one.lines == 4


@pytest.mark.parametrize(
    "stops",
    [Stops(is_all=True), Stops(models=frozenset({"m"})), Stops(tenants=frozenset({"acme"}))],
    ids=["all", "model", "tenant"],
)
def test_a_kill_switch_holds_a_batch_and_leaves_no_rows(stops) -> None:
    assert release(asked(tenant="acme/shop"), GIVEN, view(stops=stops), 0.0).lines == 0


def test_a_model_without_engines_goes_to_third_parties_at_once() -> None:
    nothing = view(replicas={})
    found = release(asked(is_owned=False), GIVEN, nothing, 0.0)
    assert (found.lines, found.pin) == (64, "")
    found = release(asked(is_owned=False, may_overflow=False), GIVEN, nothing, 0.0)
    assert (found.lines, found.pin) == (64, "")
    pending = view(replicas={}, pending={"m": Pending("m", 9.0)})
    assert release(asked(is_owned=False), GIVEN, pending, 0.0).lines == 0
    assert release(asked(), GIVEN, nothing, 0.0).lines == 0


def test_near_the_end_of_its_window_a_batch_takes_its_place_among_others() -> None:
    near = asked(left_s=3600.0, waiting=5)
    busy = view(loaded(running=10, unfinished=10))
    found = release(near, GIVEN, busy, 101.0)
    assert (found.lines, found.pin, found.reason) == (54, "", "deadline")
    offered = msgspec.structs.replace(busy, offerings={"m": (object(),)})  # type: ignore[dict-item]
    assert release(near, GIVEN, offered, 101.0).lines == 64
    bound = release(near._replace(may_overflow=False), GIVEN, offered, 101.0)
    assert (bound.lines, bound.pin) == (54, "")
    away = view(replicas={})
    assert release(near._replace(may_overflow=False), GIVEN, away, 0.0).lines == 1


def held(tenants: str, **idle_s: float) -> list[Held]:
    """One batch a letter, the most urgent first, named by its place."""
    return [Held(str(n), t, n, idle_s.get(f"b{n}", 0.0)) for n, t in enumerate(tenants)]


@pytest.mark.parametrize(
    ("tenants", "waiting", "idle", "found"),
    [
        ("aaaaaaaa", {}, {}, ""),
        ("aaaaaaaa", {"a": 9}, {}, ""),  # its own wait their turn
        ("aaaaaaaa", {"b": 1}, {}, "7"),  # the one with the most time
        ("aaaaaaaa", {"b": 9}, {}, "4567"),
        ("aaaaaaaa", {"a": 9, "b": 9, "c": 9}, {}, "34567"),
        ("aaaabbbb", {"c": 9}, {}, "37"),
        ("aaaabbbb", {"a": 9, "b": 9}, {}, ""),
        ("aabb", {"c": 9}, {}, "3"),
        ("ab", {"c": 9}, {}, ""),
        ("aaab", {"a": 1}, {"b1": 60.0, "b2": 90.0}, "2"),  # idle longest
        ("aaab", {"a": 1}, {"b1": 59.0}, ""),
        ("aaaa", {"b": 1}, {"b0": 60.0}, "0"),  # an idle one is enough
        ("aaaa", {}, {"b0": 60.0}, ""),
    ],
)
def test_places_move_to_who_waits_until_all_have_the_same(tenants, waiting, idle, found) -> None:
    made = leaving(held(tenants, **idle), waiting, 0, 60.0)
    assert "".join(sorted(made)) == found
    assert all(is_idle == (f"b{name}" in idle) for name, is_idle in made.items())


def test_places_that_become_free_anyway_are_not_asked_for_twice() -> None:
    assert leaving(held("aaaaaaa"), {"b": 1}, 1, 60.0) == {}
    assert set(leaving(held("aaaaaa"), {"b": 9}, 1, 60.0)) == {"4", "5"}


@pytest.mark.parametrize(
    ("code", "run", "state"),
    [
        ("no_capacity", 99, State.WAITING),
        ("rate_limit_exceeded", 99, State.WAITING),
        ("budget_exceeded", 1, State.WAITING),
        ("draining", 1, State.WAITING),
        ("upstream_timeout", 1, State.WAITING),
        ("upstream_timeout", 3, State.FAILED),
        ("content_filter", 1, State.FAILED),
        ("context_length_exceeded", 1, State.FAILED),
        ("residency_refused", 1, State.FAILED),
        ("invalid_value", 1, State.FAILED),
    ],
)
def test_a_line_is_run_again_for_faults_that_are_not_its_own(code, run, state) -> None:
    assert judged("refused", code, run, (None, 3)).state is state


def test_a_refusal_that_names_a_time_holds_the_batch_within_bounds() -> None:
    assert judged("refused", "no_capacity", 1, (30.0, 3)).hold_s == 30.0
    assert judged("refused", "no_capacity", 1, (4000.0, 3)).hold_s == planning.HOLD_S_MAX
    assert judged("refused", "no_capacity", 1, (None, 3)).hold_s == planning.HOLD_S_DEFAULT
    assert judged("ok", "", 1, (None, 3)) == Judged(State.DONE)


def test_a_batch_ends_early_by_key_then_cancel_then_time() -> None:
    late = BATCH.expires_ms
    both = Standing(BATCH, cancel_ms=5)
    for standing, now_ms, key, status in (
        (both, late, "revoked", Status.FAILED),
        (both, late, "", Status.CANCELLED),
        (Standing(BATCH), late, "", Status.EXPIRED),
    ):
        found = planning.ending(standing, now_ms, key)
        assert found is not None
        assert found.status is status
    assert planning.ending(Standing(BATCH), late - 1, "") is None


def test_what_is_said_of_lines_left_over_survives_a_restart() -> None:
    def code(**changes: object) -> str | None:
        found = planning.unrun(msgspec.structs.replace(BATCH, **changes))
        return None if found is None else found.code

    assert code() is None
    assert code(ends_as=Status.CANCELLED) == "batch_cancelled"
    assert code(ends_as=Status.EXPIRED) == "batch_expired"
    failed = Fault("invalid_api_key", "revoked")
    assert code(ends_as=Status.FAILED, errors=(failed,)) == "invalid_api_key"


def row(custom_id: object = "a", model: object = "m", **changes: object) -> bytes:
    made = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": model}}
    return json.dumps(made | changes).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "invalid_json_line"),
        (b'"text"', "invalid_json_line"),
        (b'{"custom_id":"\xff"}', "invalid_json_line"),
        (row(7), "invalid_json_line"),
        (row(None), "missing_required_parameter"),
        (row(""), "missing_required_parameter"),
        (row("x" * 513), "invalid_value"),
        (row(method="GET"), "invalid_method"),
        (row(url="/v1/embeddings"), "invalid_url"),
        (row(model=None), "missing_required_parameter"),
        (row(body="text"), "invalid_json_line"),
    ],
)
def test_a_line_that_is_no_request_is_named_by_its_number(data, code) -> None:
    found = envelope.read(data, 7, CHAT)
    assert isinstance(found, Fault)
    assert (found.code, found.line) == (code, 7)


def checked(data: bytes, piece: int = 7, **given: int) -> tuple[Checking, list[str]]:
    checking = Checking(CHAT, BatchSettings(**given))
    ids: list[str] = []
    for at in range(0, len(data), piece):
        ids += [one.custom_id for one in checking.feed(data[at : at + piece])]
    return checking, ids + [one.custom_id for one in checking.end()]


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_a_file_is_read_the_same_however_it_is_cut(piece) -> None:
    data = row("a") + b"\r\n\n" + row("b") + b"\n" + row("c")
    checking, ids = checked(data, piece)
    assert (ids, checking.lines, checking.model, checking.faults) == (["a", "b", "c"], 3, "m", [])


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"\n\n", "empty_file", None),
        (row("a") + b"\n" + row("a"), "duplicate_custom_id", 2),
        (row("a") + b"\n" + row("b", "other"), "mismatched_model", 2),
        (row("a") + b"\n" + row("b") + b"\n" + row("c"), "too_many_requests", 3),
        (row("a") + b"\n" + row("b", pad="x" * 2000), "line_too_long", 2),
    ],
)
def test_a_file_that_cannot_be_run_says_where_and_why(data, code, line) -> None:
    checking = Checking(CHAT, BatchSettings(lines_of_batch_max=2, line_bytes_max=1024))
    checking.feed(data)
    checking.end()
    assert [(fault.code, fault.line) for fault in checking.faults] == [(code, line)]


@pytest.mark.parametrize("blank", [b"\n", b" \r\n"])
def test_a_file_of_blank_lines_is_given_up_before_they_are_read(blank) -> None:
    checking = Checking(CHAT, BatchSettings(lines_of_batch_max=2))
    assert checking.feed(row("a") + b"\n" + blank * 1003) != []
    assert not checking.is_hopeless
    assert checking.feed(row("b") + b"\n" + blank * 1_000_000) == []
    assert checking.is_hopeless
    assert checking.feed(row("c") + b"\n") == checking.end() == []
    assert [(fault.code, fault.line) for fault in checking.faults] == [("too_many_lines", 1005)]


def test_a_file_of_rubbish_is_given_up_early() -> None:
    checking = Checking(CHAT, GIVEN)
    checking.feed(b"rubbish\n" * 1000)
    assert checking.is_hopeless
    checking.end()
    assert len(checking.faults) == envelope.FAULTS_MAX


def test_a_run_of_a_line_has_the_same_id_everywhere_and_no_other_has_it() -> None:
    ids = {envelope.request_id(BATCH, n, run) for n in range(1, 200) for run in (1, 2)}
    assert len(ids) == 398
    one = envelope.request_id(BATCH, 1, 1)
    assert one == envelope.request_id(BATCH, 1, 1)
    assert (len(one), one[12], one[16] in "89ab") == (32, "7", True)
    assert int(one[:12], 16) == BATCH.created_ms


def test_an_answer_with_line_ends_stays_one_line() -> None:
    data = envelope.answered("a", "r", 200, b'{\n "x": "y\\nz"\n}')
    assert data.count(b"\n") == 0
    assert json.loads(data)["response"]["body"] == {"x": "y\nz"}
    lost = json.loads(envelope.unanswered("a", "r", "batch_expired", "late"))
    assert lost["response"] is None
    assert lost["error"] == {"code": "batch_expired", "message": "late"}
