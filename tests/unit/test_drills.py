"""What a drill's verdict is made of: the comparison of client, ledger and audit, and its criteria.

Each fault is made by hand: a check that never fails is none.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.drills import books, clock, soak
from benchmarks.drills.__main__ import chosen, main
from benchmarks.drills.acts import ACTS
from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.criteria import (
    answered,
    asked,
    done_within,
    refused_with,
    tries,
)
from benchmarks.drills.ends import as_booked
from benchmarks.drills.slope import fitted
from benchmarks.drills.values import (
    CLOSED,
    HUNG,
    LEFT,
    REFUSED,
    UNREACHED,
    WHOLE,
    Books,
    Evidence,
    Told,
)
from benchmarks.telling import tell
from serving.ledger.base import Attempt
from serving.records import Charge, Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd


def told(name: str = "r1", **changes: Any) -> Told:
    """A whole answer."""
    given = {
        "wave": "w", "key": "plain", "gateway": 0, "sent_s": 1.0, "tokens": 8, "request_id": name,
        "status": 200, "end": WHOLE, "done_s": 2.0, "first_s": 1.5, "prompt_tokens": 5,
        "completion_tokens": 8,
    }  # fmt: skip
    return Told(**given | changes)


def row(name: str = "r1", **changes: Any) -> RequestEnd:
    """Its row."""
    made = RequestEnd(
        name, 1000, 2000, "acme", "default", "plain", "chat", "m", "interactive", "ok", 200, "",
        "overflow:no_replica", "alpha/big", 1, 0, 500, Usage(5, 8),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def attempt(name: str = "r1", *, has_intent: bool = True, outcome: str = "ok") -> Attempt:
    """A try at a third party."""
    begin = AttemptBegin(
        name, 1, 1000, 1000, "acme", "default", "plain", "chat", "m", "interactive", "alpha/big",
        True, "overflow:no_replica", 5, 8, "USD", 1, 1,
    )  # fmt: skip
    end = AttemptEnd(name, 1, 2000, outcome, "", Usage(5, 8), Charge("USD", 1), 500)
    intent = EgressIntent(name, 1, 1000, "acme", 1, "anywhere", "us", "alpha", "big")
    return Attempt(name, 1, begin, end, intent if has_intent else None)


def evidence(*seen: Told, **changes: Any) -> Evidence:
    """One request that all agree about, unless changed."""
    given: dict[str, Any] = {
        "rows": {"r1": row()}, "attempts": {"r1": [attempt()]}, "violations": [],
        "chained": [("r1", 1)], "chain_faults": [], "unchained": 0, "knocks": {"alpha": 1},
    }  # fmt: skip
    killed = changes.pop("killed", [])
    return Evidence(seen or (told(),), Books(**given | changes), 0, killed, [], [(0.0, 1.0)], {})


def test_one_request_that_all_agree_about_has_no_fault() -> None:
    assert [one.words for one in books.always(evidence()) if not one.is_met] == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (evidence(told(end=HUNG)), "a clear error"),
        (evidence(told(end=CLOSED)), "a clear error"),
        (evidence(told(text_is_right=False)), "changed, repeated"),
        (evidence(told(), told("r2")), "row by row"),
        (evidence(told(), told()), "row by row"),
        (evidence(told(completion_tokens=9)), "row by row"),
        (evidence(rows={"r1": row(outcome="cut")}), "row by row"),
        (evidence(told(end=REFUSED, status=503, code="queue_full"),
                  rows={"r1": row(outcome="refused", status=503, code="no_capacity")}),
         "row by row"),
        (evidence(rows={"r1": row(), "r2": row("r2")}), "row by row"),
        (evidence(rows={"r1": row(key_id="other")}), "row by row"),
        (evidence(attempts={"r1": [attempt(has_intent=False)]}), "what left"),
        (evidence(chained=[]), "what left"),
        (evidence(chained=[("r1", 1), ("r1", 1)]), "what left"),
        (evidence(chain_faults=["w: broken"]), "what left"),
        (evidence(unchained=1), "what left"),
        (evidence(knocks={"alpha": 2}), "what left"),
        (evidence(knocks={"alpha": 0}), "what left"),
    ],
)  # fmt: skip
def test_each_disagreement_is_found_and_told_by_name(found: Evidence, words: str) -> None:
    (fault,) = [one for one in books.always(found) if not one.is_met]
    assert words in fault.words
    assert " not, as " in fault.found


def test_a_closed_connection_is_no_fault_where_its_gateway_was_killed_and_a_row_is_left() -> None:
    lost = {"r1": row(outcome="gateway_lost")}
    silent = told(request_id="", end=CLOSED, status=0)
    found = evidence(silent, rows=lost, killed=[(0, 1.5, 3.0)])
    assert all(one.is_met for one in books.always(found))
    for killed in ([(1, 1.5, 3.0)], [(0, 2.5, 3.0)]):
        assert not all(
            one.is_met for one in books.always(evidence(silent, rows=lost, killed=killed))
        )
    assert all(one.is_met for one in books.always(evidence(told(), told("", end=UNREACHED))))


def test_a_client_that_left_before_it_heard_a_head_leaves_a_row_that_nobody_claims() -> None:
    gone = {"r1": row(outcome="disconnected", status=499)}
    found = evidence(told("", end=LEFT, status=0), rows=gone)
    assert all(one.is_met for one in books.always(found))
    assert not all(one.is_met for one in books.always(evidence(told("r2"), rows=gone)))


def test_a_request_sent_again_leaves_the_lost_row_of_its_first_try() -> None:
    rows = {"r1": row(), "r2": row("r2", outcome="gateway_lost", status=0)}
    attempts = {"r1": [attempt()], "r2": [attempt("r2", outcome="gateway_lost")]}
    both = {"rows": rows, "attempts": attempts, "chained": [("r1", 1), ("r2", 1)]}
    found = evidence(**both, knocks={"alpha": 2})
    (fault,) = [one for one in books.always(found) if not one.is_met]
    assert "1 rows that no client knows of" in fault.found
    assert all(one.is_met for one in books.always(found._replace(resent=1)))
    answered = evidence(**(both | {"rows": {"r1": row(), "r2": row("r2")}}), knocks={"alpha": 2})
    assert not all(one.is_met for one in books.always(answered._replace(resent=1)))


def test_criteria_count_what_they_say() -> None:
    refused = told("r2", end=REFUSED, status=503, code="queue_full", retry_after_s=1.0)
    found = evidence(told(), refused, told("r3", end=REFUSED, code="x", will_come_again=True))
    assert answered("", 0.5, asked())(found).found == "1 of 2, 1 refused queue_full"
    assert answered("", 0.5, asked())(found).is_met
    assert not answered("", 0.6, asked())(found).is_met
    assert not answered("", 0.0, asked("none"))(found).is_met, "nothing asked proves nothing"
    assert not refused_with("", ["queue_full"], asked())(found).is_met
    assert refused_with("", ["queue_full"], asked(until_s=0.5))(found).is_met
    assert done_within("", 1.0, 1.0, asked())(found).is_met
    assert not done_within("", 0.9, 1.0, asked())(found).is_met
    assert tries("", "alpha", 0, 0.0, 2.0)(found).found == "1"
    assert tries("", "alpha", 0, 1.5, 2.0)(found).is_met


def test_how_requests_ended_is_told_in_the_readers_language() -> None:
    late = told("r2", end=REFUSED, status=503, code="queue_full", retry_after_s=-1.0)
    found = evidence(told(), late, told("r3", end=CLOSED, status=0))
    share = answered("", 0.9, asked())(found).found
    assert share == "1 of 3, 1 closed, 1 refused queue_full"
    assert tell(share, "zh") == "3 个中 1 个，1 个连接被关闭，1 个被拒绝 queue_full"
    bad = refused_with("", {"queue_full"}, asked())(found).found
    assert bad == "1 refused, 1 refused queue_full; 503 queue_full, Retry-After -1"
    assert "其中 503 queue_full，Retry-After -1" in tell(bad, "zh")
    lost = evidence(told(), rows={"r1": row(outcome="gateway_lost")})
    (wrong,) = [one.found for one in books.always(lost) if not one.is_met]
    assert "the client saw whole, the row says gateway_lost" in wrong
    assert "客户端看到 完整，行里是 网关中途退出" in tell(wrong, "zh")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_way_to_end_has_its_words(outcome: str) -> None:
    assert as_booked(outcome) == outcome
    assert tell(as_booked(outcome), "zh") != outcome


def test_every_drill_names_acts_that_there_are_and_parts_that_it_has() -> None:
    for drill in DRILLS.values():
        assert drill.criteria
        for fault in drill.faults:
            kind, _, name = fault.on.partition(":")
            assert fault.act in ACTS
            has = {
                "engine": lambda n, t=drill.topology: int(n) < len(t.engines),
                "gateway": lambda n, t=drill.topology: int(n) < t.gateways,
                "link": lambda n, t=drill.topology: t.has_links and int(n) < t.gateways,
                "provider": lambda n, t=drill.topology: n in t.providers,
                "clock": lambda _, t=drill.topology: t.has_own_clock,
                "redis": lambda _, t=drill.topology: t.has_redis,
                "postgres": lambda _, t=drill.topology: t.has_postgres,
            }[kind]
            assert has(name), (drill.name, fault.on)


def test_drills_are_chosen_by_name_and_an_unknown_one_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(chosen(["all"], is_fast=False)) == len(DRILLS)
    assert all(drill.is_fast for drill in chosen(["all"], is_fast=True))
    assert [drill.name for drill in chosen(["partition"] * 2, is_fast=False)] == ["partition"]
    with pytest.raises(SystemExit) as ended:
        main(["no-such"])
    assert ended.value.code == 2
    assert "no-such" in capsys.readouterr().err
    assert main(["--list"]) == 0


def test_a_report_that_cannot_be_written_is_told_before_the_first_drill(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out, words in ((tmp_path, "is a folder"), (tmp_path / "file/x.json", "name another --out")):
        assert main(["engine-kill", "--out", str(out)]) == 4
        told_, error = capsys.readouterr()
        assert (told_, words in error, error.count("\n")) == ("", True, 1)
        assert soak.main(["--out", str(out)]) == 4
        assert words in capsys.readouterr().err


def test_the_clock_s_offset_is_what_the_library_reads(tmp_path: Any) -> None:
    clock.set_by(tmp_path, -1.5)
    assert (
        int.from_bytes((tmp_path / "clock").read_bytes(), "little", signed=True) == -1_500_000_000
    )
    clock.set_by(tmp_path, 2.0)
    assert (tmp_path / "clock").stat().st_size == 8


def test_a_slope_is_told_with_how_sure_one_is() -> None:
    steady = [(t / 4, 100.0 + 0.5 * (t % 7)) for t in range(400)]
    found = fitted(steady)
    assert found.low < 0.0 < found.high
    leaking = [(t, mib + 0.01 * t) for t, mib in steady]
    found = fitted(leaking)
    assert found.low > 0.005
    assert found.low < found.middle < found.high
    with pytest.raises(ValueError, match="too short"):
        fitted(steady[:100])


def test_the_drill_with_a_real_engine_is_named_but_not_one_of_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [drill.name for drill in chosen(["ray-head"], is_fast=False)] == ["ray-head"]
    assert "ray-head" not in {drill.name for drill in chosen(["all"], is_fast=False)}
    assert main(["--list"]) == 0
    assert "\nray-head" in capsys.readouterr().out
