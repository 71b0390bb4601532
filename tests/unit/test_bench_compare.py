"""The comparison of gateways: figures into ratios, gates and tables; rounds that go on."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import msgspec
import pytest

from benchmarks.gateway import __main__ as cli
from benchmarks.gateway import compare, figures, machine, own, report, rounds
from benchmarks.gateway.arrivals import Seen
from benchmarks.gateway.check import Checked
from benchmarks.gateway.client import PROMPT
from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.figures import CHUNKS, EVENTS, Cost, Effort, Many, Visit, Warm, metrics
from benchmarks.gateway.open_streams import Open
from benchmarks.gateway.peers import LITELLM, SGLANG_ROUTER, SMG, VLLM_ROUTER
from benchmarks.gateway.report import Report, Spread
from benchmarks.gateway.script import Pace, scripted
from benchmarks.guard.samples import CHINESE, ENGLISH

HERE = machine.Provenance("command", "then", "c" * 40, False, "cpu", 2, (0.1, 0.1, 0.1), "6", {})


def cost(ms: float, first_ms: float = 1.0) -> Cost:
    seen = Seen(requests=1, sent_p50_ms=first_ms, sent_p99_ms=4 * first_ms)
    return Cost(1, 1.0, ms, ms, 0.0, ms / 10, 0.2, seen)


def seen(gateway: str, number: int, ms: float, first_ms: float = 1.0) -> Visit:
    return Visit(
        gateway,
        number,
        start_s=0.5,
        small=cost(ms),
        large=cost(ms + 0.86),
        stream=cost(ms + 0.66),
        apart=cost(65 * ms, first_ms),
        base=Seen(requests=1, sent_p50_ms=0.5, sent_p99_ms=0.5),
    )


def with_streams(visit: Visit, kib: float, faults: int = 0) -> Visit:
    checked = Checked(1000, 1000 - faults, faults, {}, "", 8000, 1.0, 1.1)
    return msgspec.structs.replace(
        visit,
        opened=Open(visit.gateway, 2000, 100.0, 200.0, kib, faults, ""),
        many=Many(checked, 50.0),
    )


def test_no_prompt_and_no_answer_of_a_measurement_holds_a_listed_term():
    listed = set(own.terms())
    answer = msgspec.json.decode(scripted(Pace(3, 0.0)).whole.partition(b"\r\n\r\n")[2])
    for text in (PROMPT, ENGLISH, answer["choices"][0]["message"]["content"]):
        words = re.findall(r"\w+", text.lower())
        assert listed.isdisjoint(words)
        assert listed.isdisjoint(map(" ".join, pairwise(words)))
    assert not any(term in CHINESE for term in listed)


def whole(visits: list[Visit], count: int, gateways: list[str] | None = None) -> Report:
    names = gateways or rounds.order([VLLM_ROUTER], 1)
    return Report([HERE], Effort(), names, count, visits)


def test_a_visit_gives_its_figures_by_request_chunk_and_kib():
    found = metrics(with_streams(seen(own.BALLAST, 1, 0.1), 50.0))
    assert found["chunk_us"] == pytest.approx(660 / EVENTS)
    assert found["apart_us"] == pytest.approx(1e3 * 65 * 0.1 / CHUNKS)
    assert found["slope_us"] == pytest.approx(10.0)
    assert (found["first_p50_ms"], found["first_p99_ms"]) == (0.5, 3.5)
    assert (found["open_kib"], found["many_faults"]) == (50.0, 0)
    assert found["aside_ms"] == 0.01
    assert "aside_ms" not in metrics(seen(VLLM_ROUTER, 1, 0.1))


def test_what_was_not_measured_has_no_figure():
    assert metrics(Visit(own.BALLAST, 1, failed="no such luck")) == {}


def test_a_slow_gateway_is_given_less_load_and_a_fast_one_what_is_wanted():
    assert figures.rate_of(1000.0, 0.5, Warm(0.0001, 3000.0)) == 1000.0
    assert figures.rate_of(1000.0, 0.5, Warm(0.05, 20.0)) == 10.0
    assert figures.rate_of(1000.0, 0.5, Warm(0.0001, 500.0)) == 300.0  # a busy machine
    assert figures.rate_of(1000.0, 0.5, Warm(0.0, math.inf)) == 1000.0
    assert figures.holds_streams(2000, 3.0, 0.0001, 0.0001) == 2000
    assert 50 < figures.holds_streams(2000, 3.0, 0.03, 0.003) < 70
    assert figures.holds_streams(2000, 3.0, 0.0, 0.0) == 2000


def test_ratios_compare_within_a_round():
    first = [seen(VLLM_ROUTER, 1, 1.0), seen(own.BALLAST, 1, 2.0)]
    second = [seen(VLLM_ROUTER, 2, 4.0), seen(own.BALLAST, 2, 4.0)]
    visits = [*first, *second, seen(own.BALLAST, 3, 9.0)]
    assert report.ratio(visits, own.BALLAST, VLLM_ROUTER, "small_ms") == Spread(1.0, 2.0, 2.0)
    assert report.summarised(visits)[own.BALLAST]["small_ms"] == Spread(2.0, 4.0, 9.0)
    assert report.ratio(visits, own.BALLAST, SMG, "small_ms") is None


def judged(visits: list[Visit]) -> dict[str, tuple[float, str]]:
    return {v.text: (v.maximum, v.word()) for v in report.verdicts(visits)}


def test_gates_are_judged_by_the_median_and_say_when_a_round_fails():
    visits = []
    for number, ms in enumerate((0.9, 0.95, 1.2), 1):
        visits += [seen(own.BALLAST, number, ms), seen(VLLM_ROUTER, number, 1.0)]
        visits += [seen(own.GUARD, number, 2.0), seen(own.TWO, number, ms)]
    found = judged(visits)
    of_request = "CPU per request, 4 KiB, relay, ratio to vllm-router"
    assert found[of_request] == (1.0, "yes, not in every round")
    guarded = "CPU per request, 4 KiB, guard inspecting, ratio to vllm-router"
    assert found[guarded] == (1.4, "no")
    assert found["CPU per request, two processes, ratio to ballast"] == (1.05, "yes")
    assert found["memory of an open stream, KiB"] == (100.0, "not measured")


@pytest.mark.parametrize(
    ("router_first_ms", "limit", "word"),
    [(0.5, 3.0, "no"), (3.0, 11.5, "yes")],
    ids=["floor", "best router"],
)
def test_the_tail_may_be_as_long_as_the_best_rust_routers(router_first_ms, limit, word):
    visits = [
        seen(own.BALLAST, 1, 1.0, first_ms=2.0),
        seen(VLLM_ROUTER, 1, 1.0, first_ms=9.0),
        seen(SGLANG_ROUTER, 1, 1.0, first_ms=router_first_ms),
        seen(LITELLM, 1, 1.0, first_ms=0.1),
    ]
    assert judged(visits)["added first byte p99, ms"] == (limit, word)


def test_a_stream_that_was_cut_fails_its_gate():
    found = judged([with_streams(seen(own.BALLAST, 1, 1.0), 120.0, faults=2)])
    assert found["slow streams cut, lost or reordered"] == (0.0, "no")
    assert found["memory of an open stream, KiB"] == (100.0, "no")


def test_those_that_gates_compare_are_neighbours_and_litellm_comes_once():
    first = rounds.order([VLLM_ROUTER, LITELLM], 1)
    assert first[:4] == [own.TWO, own.BALLAST, VLLM_ROUTER, own.GUARD]
    assert first[-1] == LITELLM
    assert LITELLM not in rounds.order([VLLM_ROUTER, LITELLM], 2)
    visits = [seen(name, 1, 1.0) for name in first]
    assert list(report.summarised(visits)) == [
        own.BALLAST, VLLM_ROUTER, LITELLM, own.TWO, own.GUARD, own.POLICIES,
    ]  # fmt: skip


def test_a_comparison_goes_on_but_a_round_that_broke_off_is_measured_anew():
    names = rounds.order([VLLM_ROUTER], 1)
    done = [seen(name, 1, 1.0) for name in names]
    before = whole([*done, seen(own.TWO, 2, 1.0)], 2)
    now = rounds.gone_on(before, whole([], 3))
    assert now.visits == done
    assert len(now.sittings) == 2
    assert rounds.left(now) == [(number, name) for number in (2, 3) for name in names]
    complete = rounds.gone_on(whole(done, 1), whole([], 1))
    assert (rounds.left(complete), len(complete.sittings)) == ([], 1)


def test_figures_of_another_commit_are_not_gone_on_with():
    other = msgspec.structs.replace(HERE, commit="d" * 40)
    now = msgspec.structs.replace(whole([], 1), sittings=[other])
    with pytest.raises(rounds.Unlike, match="another commit"):
        rounds.gone_on(whole([], 1), now)


def test_a_report_survives_json_and_fills_the_page(tmp_path):
    visits = [with_streams(seen(own.BALLAST, 1, 0.5), 60.0), seen(VLLM_ROUTER, 1, 1.0)]
    visits.append(Visit(SMG, 1, failed="it did not answer"))
    written = tmp_path / "compare.json"
    written.write_bytes(msgspec.json.encode(whole(visits, 1)))
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text("utf-8"), "utf-8")
    assert cli.main(["fill", str(written), "--page", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "| ballast | 0.5 |" in text
    assert "not measured" in text
    assert "- smg, round 1: it did not answer" in text
    assert cli.main(["fill", str(written), "--page", str(page)]) == 0
    assert page.read_text("utf-8") == text


@pytest.mark.parametrize(("load", "is_said"), [(0.9, False), (1.1, True)])
def test_a_table_of_a_busy_machine_says_so(load, is_said):
    where = msgspec.structs.replace(HERE, load_before=(load, 9.0, 9.0))
    text = report.markdown(msgspec.structs.replace(whole([], 1), sittings=[where]))
    assert (report.BUSY in text) is is_said


def test_a_report_of_something_else_is_refused(tmp_path, capsys):
    out = tmp_path / "compare.json"
    out.write_bytes(msgspec.json.encode(whole([], 1)))
    assert compare.main(["--peers", "--rounds", "1", "--out", str(out)]) == 2
    assert "it is of another commit" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_small_real_round_measures_every_figure_of_ours(tmp_path, capsys):
    out = tmp_path / "compare.json"
    asked = ["--peers", "--rounds", "1", "--seconds", "0.4", "--streams", "30", "--out", str(out)]
    assert compare.main([*asked, "--markdown"]) == 0
    found = msgspec.json.decode(out.read_bytes(), type=Report)
    assert [v.gateway for v in found.visits] == rounds.order([], 1)
    assert not any(v.failed for v in found.visits)
    (one,) = [v for v in found.visits if v.gateway == own.BALLAST]
    ours = metrics(one)
    assert {*report.COST, *report.FELT} <= set(ours)
    assert (ours["open_faults"], ours["many_faults"]) == (0, 0)
    assert one.stream.seen.events == EVENTS * one.stream.requests
    assert "| ballast-two |" in capsys.readouterr().out
