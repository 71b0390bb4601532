"""The load generator: schedules keep their law, lengths are exact, figures are right,
verdicts that are honest. Nothing is sent."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks.load import (
    capacity,
    compare,
    counting,
    flags,
    knee_page,
    report,
    results,
    schedule,
    traces,
    values,
)
from benchmarks.load.answers import Reader, code_of
from benchmarks.load.capacity import Search, Tried
from benchmarks.load.crew import Order
from benchmarks.load.flags import origin
from benchmarks.load.pace import pace
from benchmarks.load.parser import Parser
from benchmarks.load.percentiles import quantiles, spread
from benchmarks.load.results import Result, ResultsError
from benchmarks.load.schedule import Row
from benchmarks.load.seen import BUCKET, Gaps, Seen, Shard
from benchmarks.load.sender import Sender
from benchmarks.load.summary import cost, is_kept, summary
from benchmarks.load.texts import Texts, hints
from benchmarks.load.values import (
    Arrivals,
    Goal,
    Kind,
    Length,
    Prefix,
    Price,
    Scenario,
    ScenarioError,
    Session,
)
from benchmarks.load.wire import Connections, Target, TargetError

WORDS = counting.Words(tuple(counting.CANDIDATES), "a test", is_exact=True)
KINDS = st.sampled_from(["poisson", "steady", "bursts", "ramp"])


def scenario(kind: str = "poisson", seconds: float = 20.0, **changes) -> Scenario:
    kinds = [
        Kind(name="a", prompt=Length(median=20, spread=0.5), output=Length(median=8)),
        Kind(
            name="b", share=0.5, prompt=Length(median=5), output=Length(median=9),
            prefix=Prefix(tokens=50, documents=3),
            session=Session(turns=Length(median=3, spread=0.3), think_s=1.0),
        ),
    ]  # fmt: skip
    known = {
        name: changes.pop(name) for name in list(changes) if name in Scenario.__struct_fields__
    }
    arrivals = Arrivals(kind=kind, **{"rate": 10.0, "on_s": 2.0, "off_s": 3.0} | changes)
    return Scenario(
        title="t", arrivals=arrivals, duration_s=seconds, **{"kinds": kinds} | known
    )  # fmt: skip


@examples(max_examples=40)
@given(KINDS, st.integers(0, 99), st.integers(1, 5))
def test_equal_seeds_make_equal_schedules_in_order_and_every_request_in_one_shard(
    kind, seed, count
):
    wish = scenario(kind, until_rate=20.0)
    made = schedule.made(wish, seed)
    assert made == schedule.made(wish, seed)
    assert all(a.at_s <= b.at_s for a, b in pairwise(made))
    assert all(0 <= one.at_s < wish.duration_s for one in made)
    shards = [schedule.shard(made, place, count) for place in range(count)]
    assert sorted((c for part in shards for c in part), key=lambda c: c.number) == made
    assert schedule.made(wish, seed + 1) != made


@examples(max_examples=25)
@given(KINDS, st.integers(0, 99))
def test_as_many_come_as_the_rate_says_within_five_deviations(kind, seed):
    wish = scenario(kind, 200.0, until_rate=30.0)
    made = schedule.made(wish, seed)
    mean = {"poisson": 2000.0, "steady": 2000.0, "bursts": 800.0, "ramp": 4000.0}[kind]
    assert abs(len(made) - mean) <= 5 * math.sqrt(mean)
    if kind == "bursts":
        assert all(one.at_s % 5.0 < 2.0 for one in made)
    if kind == "steady":
        assert [one.at_s for one in made] == [k / 10.0 for k in range(2000)]
    if kind == "ramp":
        early = sum(one.at_s < 100 for one in made)
        assert early < len(made) - early


def test_another_rate_leaves_mix_and_lengths_alone():
    slow, fast = (schedule.made(scenario(rate=rate), 7) for rate in (5.0, 50.0))
    assert [(c.kind, c.document, c.turns) for c in slow] == [
        (c.kind, c.document, c.turns) for c in fast[: len(slow)]
    ]


@given(st.floats(0.1, 50.0))
def test_a_changed_rate_is_the_rate_that_comes(rate):
    rows = [Row(k / 4.0, 10, 10) for k in range(41)]
    bursts = schedule.at_rate(scenario("bursts", off_rate=1.0), rate).arrivals
    mean = (2.0 * bursts.rate + 3.0 * bursts.off_rate) / 5.0
    assert mean == pytest.approx(rate)
    trace = schedule.at_rate(scenario("trace", source="x"), rate, rows).arrivals
    assert len(rows) / (10.0 / trace.speed) == pytest.approx(rate)
    with pytest.raises(ScenarioError, match="closed loop"):
        schedule.at_rate(scenario("closed"), rate)


def test_a_trace_keeps_times_and_lengths_and_goes_faster_when_told():
    rows = [Row(0.0, 10, 3), Row(4.0, 20, 5), Row(90.0, 1, 1)]
    made = schedule.made(scenario("trace", speed=2.0, source="x"), 1, rows)
    assert [(c.at_s, c.turns[0].prompt, c.turns[0].output) for c in made] == [
        (0.0, 10, 3), (2.0, 20, 5),
    ]  # fmt: skip


def test_a_run_ends_with_its_trace_and_says_so():
    rows = [Row(k / 2.0, 10, 3) for k in range(81)]  # 40 s
    wish = scenario("trace", 100.0, source="x", speed=2.0, warmup_s=5.0)
    ended, said = schedule.fitted(wish, rows)
    assert ended.duration_s == pytest.approx(20.25)
    assert said == "The trace ends after 20.25 s, and the run with it."
    made = schedule.made(ended, 1, rows)
    assert len(made) / ended.duration_s == pytest.approx(4.0)
    longer, said = schedule.fitted(msgspec.structs.replace(wish, duration_s=10.0), rows)
    assert (longer.duration_s, said[:37]) == (10.0, "40 of the trace's 81 requests fall in")
    with pytest.raises(ScenarioError, match="within the warm-up"):
        schedule.fitted(msgspec.structs.replace(wish, warmup_s=50.0), rows)
    assert schedule.fitted(scenario(), []) == (scenario(), "")
    assert schedule.fitted(scenario("trace", source="x"), [Row(0.0, 1, 1)])[0].duration_s == 1.0


def test_sums_of_bins_are_no_requests_and_times_of_a_calendar_are(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("timestamp_s,requests,input_tokens,output_tokens\n0,9,90,9\n10,8,80,8\n")
    with pytest.raises(ScenarioError, match="sums of many requests"):
        traces.of_file(str(path))
    path.write_text("timestamp_s,input_tokens,output_tokens\n1795722355,10,5\n1795722357,9,4\n")
    assert traces.of_file(str(path)) == [Row(0.0, 10, 5), Row(2.0, 9, 4)]
    since_monday_s = (1795722355 - 4 * 86_400) % (7 * 86_400)
    window = f"{path}@{since_monday_s - 3}s-{since_monday_s + 1}s"
    assert traces.of_file(window) == [Row(3.0, 10, 5)]
    with pytest.raises(ScenarioError, match=r"@0-1m: no such file; with a window it is FILE@2d-7d"):
        traces.of_file(f"{path}@0-1m")


def asked(*argv: str) -> argparse.Namespace:
    parser = Parser("p", "d")
    flags.add(parser)
    return parser.parse_args(["small", "--url", "http://h", "--model", "m", "--out", "o", *argv])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--trace t.csv --concurrency 3", "--trace and --concurrency"),
        ("--trace t.csv --ledger s.yaml", "--trace and --ledger"),
        ("--rate 3 --size poc", "--rate and --size"), ("--speed 2", "arrivals here are steady"),
        ("--trace t.csv --rate 3", "kind trace have no rate; --speed"),
        ("--concurrency 3 --rate 3", "kind closed have no rate; --concurrency"),
        ("--processes -1", "--processes: from 0"),
    ],
)  # fmt: skip
def test_a_flag_that_would_do_nothing_is_refused(argv, words):
    given = asked(*argv.split())
    with pytest.raises(ScenarioError, match=words):
        flags.with_rate(given, flags.scenario_of(given))


def test_texts_are_a_runs_own_and_of_the_same_lengths_unless_asked_for_again():
    assert flags.texts_of(asked()) != flags.texts_of(asked()) != ""
    assert flags.texts_of(asked("--same-texts")) == ""
    conversations = schedule.made(scenario(), 1)
    one, other = (Texts(scenario(), "m", WORDS, seed) for seed in (1, "1/x"))
    for talk in conversations[:20]:
        ours, theirs = ([*t.opening(talk), t.question(talk, 0)] for t in (one, other))
        for a, b in zip(ours, theirs, strict=True):
            assert len(a["content"].split()) == len(b["content"].split())
            assert a["content"].split()[:16] != b["content"].split()[:16]


def test_a_trace_with_a_bad_row_names_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("timestamp_s,input_tokens,output_tokens\n0,10,5\n1,-3,5\n")
    with pytest.raises(ScenarioError, match=r"input_tokens: row 1 holds -3"):
        traces.of_file(str(path))
    path.write_text("timestamp_s,input_tokens\n0,10\n")
    with pytest.raises(ScenarioError, match="no output_tokens; it needs the columns"):
        traces.of_file(str(path))
    path.write_text("timestamp_s,input_tokens,output_tokens\n0,10,5\n1,abc,5\n")
    with pytest.raises(ScenarioError, match="input_tokens is not numeric: row 1 holds 'abc'"):
        traces.of_file(str(path))
    path.write_text("timestamp_s,input_tokens,output_tokens\n0,10,5\n10,9000000,5\n")
    with pytest.raises(ScenarioError, match="no single request"):
        traces.of_file(str(path))
    with pytest.raises(ScenarioError, match="missing"):
        traces.of_file(str(tmp_path / "missing.csv"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration_s": 0}, "duration_s"), ({"warmup_s": 99}, "warmup_s"),
        ({"kinds": []}, "kinds"), ({"extra": 1}, "extra"),
        ({"arrivals": {"kind": "poisson", "rate": -1}}, "arrivals.rate"),
        ({"arrivals": {"kind": "sometimes"}}, "sometimes"),
        ({"arrivals": {"kind": "trace"}}, "arrivals.source"),
        ({"kinds": [{"name": "a", "prompt": {"median": 0}, "output": {"median": 1}}]}, "kinds.a"),
        ({"kinds": [{"name": "a", "prompt": {"median": 1, "spred": 1}}]}, "spred"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_bad_scenario_names_the_file_and_the_key(tmp_path, change, words):
    good = {
        "title": "t", "duration_s": 10, "arrivals": {"kind": "poisson", "rate": 1},
        "kinds": [{"name": "a", "prompt": {"median": 1}, "output": {"median": 1}}],
    }  # fmt: skip
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(good))
    assert values.load(str(path)).title == "t"
    path.write_text(json.dumps(good | change))
    with pytest.raises(ScenarioError, match=words) as caught:
        values.load(str(path))
    assert str(path) in str(caught.value)


def test_every_packaged_scenario_is_sound_and_says_its_sizes():
    names = sorted(path.stem for path in values.FOLDER.glob("*.yaml"))
    assert {"course-writing", "role-play", "assessment", "document-questions"} <= set(names)
    for name in names:
        wish = values.load(name)
        assert schedule.made(msgspec.structs.replace(wish, duration_s=600.0), 1)
        assert name == "small" or (wish.title_zh and set(wish.sizes) == {"poc", "beta", "scale"})
    with pytest.raises(ScenarioError, match="role-play"):
        values.load("no-such")


@given(st.integers(1, 3000), st.integers(0, 10**6))
def test_a_text_has_as_many_words_as_wished_and_no_other_begins_alike(tokens, number):
    texts = Texts(scenario(), "m", WORDS, 1)
    text = texts.text(tokens, "turn 0", number)
    assert len(text.split(" ")) == tokens
    if tokens >= 5:
        assert text.split(" ")[:5] != texts.text(tokens, "turn 0", number + 1).split(" ")[:5]


def test_texts_are_exact_by_the_tokenizer_of_qwen():
    count, means = counting.named("qwen:qwen3.6-27b")
    words = counting.words(count, means)
    assert words.is_exact
    texts = Texts(scenario(), "m", words, 3)
    for tokens in (1, 2, 7, 100, 1999):
        assert count(texts.text(tokens, "x", tokens)) == tokens


def test_a_missing_tokenizer_says_what_to_name_instead(tmp_path):
    for name in ("qwen:none", str(tmp_path), str(tmp_path / "x.json")):
        with pytest.raises(ScenarioError, match="tokenizer"):
            counting.named(name)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ScenarioError, match="tokenizer"):
        counting.named(str(tmp_path))


def test_without_a_tokenizer_lengths_are_estimated_and_said_to_be():
    words = counting.words(None, "")
    assert not words.is_exact
    assert "4 bytes" in words.means
    text = Texts(scenario(), "m", words, 1).text(100, "x", 1)
    assert len(text) == 399


def test_conversations_on_one_document_share_it_and_others_do_not():
    texts = Texts(scenario(), "m", WORDS, 1)
    made = [c for c in schedule.made(scenario(), 1) if c.kind == 1]
    opened = {c.document: texts.opening(c)[0]["content"] for c in made}
    assert len(set(opened.values())) == 3
    assert texts.opening(made[0])[0]["content"] == opened[made[0].document]


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200))
def test_percentiles_are_values_that_occurred_and_split_the_rest(found):
    for share in (0.5, 0.9, 0.99):
        (value,) = quantiles(np.asarray(found), [share])
        assert value in found
        assert sum(v <= value for v in found) >= share * len(found) - 1e-9
        assert sum(v < value for v in found) <= share * len(found)
    assert spread([*found, -1.0]).count == len(found)


@given(st.lists(st.floats(1e-4, 300.0), min_size=1, max_size=200), st.integers(1, 199))
def test_gaps_of_several_processes_give_percentiles_within_two_percent(found, cut):
    parts = [Gaps(), Gaps()]
    for k, gap in enumerate(found):
        parts[k < cut].add(gap)
    merged = Gaps().merge(part.counts for part in parts)
    (exact,) = quantiles(np.asarray(found), [0.9])
    assert merged.quantile_s(0.9) == pytest.approx(exact, rel=BUCKET - 1.0)


EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n: ping\n\n'
    b'data: {"choices":[{"delta":{"content":"Hi"}}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{"content":" you"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(1, len(EVENTS) - 1), max_size=12))
@example([EVENTS.index(b"\r\n\r\n") + 1])
def test_a_stream_reads_the_same_wherever_it_is_cut(cuts):
    reader = Reader(lambda _: None, keeps_text=True)
    edges = [0, *sorted(cuts), len(EVENTS)]
    for a, b in pairwise(edges):
        reader.feed(EVENTS[a:b], 1.0)
    got = reader.answer
    assert (got.events, got.finish, got.has_done, got.fault) == (3, "stop", True, "")
    assert (got.prompt_tokens, got.cached_tokens, got.completion_tokens) == (9, 4, 3)
    assert "".join(got.text) == "Hi you"


def test_reasoning_is_a_first_token_and_not_a_visible_one():
    gaps: list[float] = []
    reader = Reader(gaps.append, keeps_text=False)
    for at, event in enumerate(EVENTS.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]):
        reader.feed(event + b"\n\n", float(at))
    assert (reader.answer.first_s, reader.answer.visible_s) == (1.0, 3.0)
    assert gaps == [2.0, 1.0]


def test_an_error_within_a_stream_is_told_by_its_code():
    reader = Reader(lambda _: None, keeps_text=False)
    reader.feed(b'data: {"error":{"code":"engine_died","message":"x"}}\n\n', 1.0)
    assert reader.answer.fault == "in_stream engine_died"
    assert code_of(b"<html>") == "no_code"
    assert code_of(b'{"error":{"type":"rate_limit"}}') == "rate_limit"


def row(number: int, due_s: float, took_s: float = 0.5, **changes) -> Seen:
    made = Seen(
        number, 0, 0, due_s, due_s, 10, head_s=due_s, first_s=due_s + took_s / 2,
        visible_s=due_s + took_s / 2, last_s=due_s + took_s, done_s=due_s + took_s, events=5,
        status=200, prompt_tokens=14, completion_tokens=5, cached_tokens=4, target="own",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def shard(rows: list[Seen], **changes) -> Shard:
    fields = {"gaps": [Gaps().counts] * 2, "cpu_share": 0.1, "opened": 1, "not_sent": 0}
    return Shard(rows, **fields | changes)


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        (100, {}, ""), (0, {}, "nothing was sent"), (5, {}, "only 5 answers"),
        (100, {"cpu_share": 0.95}, "95% of its core"), (100, {"not_sent": 3}, "3 requests"),
        (100, {"ran_dry": True}, "ran out"),
    ],
)  # fmt: skip
def test_a_run_that_could_not_be_driven_is_invalid_and_says_why(rows, changes, words):
    found = summary(scenario(), [shard([row(k, k / 10) for k in range(rows)], **changes)])
    assert found.is_valid == (not words)
    assert words in "; ".join(found.reasons)


def test_a_run_that_is_stopped_before_its_beginning_is_partial():
    wish = scenario()

    async def stopped() -> Shard:
        loop = asyncio.get_running_loop()
        target = Target("http://127.0.0.1:1", "", "m")
        sender = Sender(wish, Texts(wish, "m", WORDS, 1), Connections(target))
        loop.call_soon(sender.stop)
        return await sender.run(schedule.made(wish, 1), loop.time() + 0.02)

    shard = asyncio.run(stopped())
    assert (shard.stopped_s, shard.rows) == (0.0, [])
    assert summary(wish, [shard]).is_partial


def test_a_late_sender_makes_the_run_invalid():
    late = [row(k, k / 10, sent_s=k / 10 + (0.2 if k % 20 == 0 else 0.0)) for k in range(100)]
    found = summary(scenario(), [shard(late)])
    assert "the sender was late: p99 200 ms" in found.reasons[0]


def test_figures_count_from_the_due_time_and_leave_the_warm_up_out():
    wish = scenario(
        warmup_s=5.0, price=Price(currency="CNY", input_per_mtok=2.0, output_per_mtok=8.0)
    )
    rows = [row(k, k / 10, sent_s=k / 10 + 0.01) for k in range(199)]
    rows.append(row(199, 19.9, error="http_503 full", target="", words="busy"))
    found = summary(wish, [shard(rows[::2]), shard(rows[1::2])])
    total = found.total
    assert (total.sent, total.good, total.failed) == (150, 149, 1)
    assert total.visible_ms.p50 == pytest.approx(250.0, abs=0.01)
    assert total.goodput == pytest.approx(149 / 150)
    assert total.prompt_off == 4.0
    assert total.api_share == 0.0
    assert total.cost == pytest.approx(150 * (14 * 2 + 5 * 8) / 1e6)
    assert [(f.kind, f.count, f.example) for f in found.faults] == [("http_503 full", 1, "busy")]
    assert sum(s.sent for s in found.course) == 200


def test_what_the_drain_brought_is_no_pace_of_the_target():
    """Ten requests a second for 10 s, one answered a second: that is one a second, not ten."""
    wish = scenario("steady", 10.0, warmup_s=2.0, drain_s=200.0)
    rows = [
        row(k, k / 10, first_s=k + 0.0, last_s=k + 1.0, done_s=k + 1.0, completion_tokens=7)
        for k in range(100)
    ]
    total = summary(wish, [shard(rows)]).total
    assert (total.sent, total.good) == (80, 80)
    assert total.per_s == pytest.approx(1.0)
    assert total.tokens_per_s == pytest.approx(7.0)
    # Half of an answer came before the time, and none of another is whole.
    half = [row(0, 0.0, first_s=1.0, last_s=3.0, done_s=3.0, completion_tokens=8),
            row(1, 3.0, error="cut", first_s=4.0, last_s=5.0, done_s=5.0)]  # fmt: skip
    assert pace(half, 2.0, 10.0) == (1 / 8, 4 / 8)
    assert pace(half, 5.0, 5.0) == (0.0, 0.0)


def test_the_share_from_the_cache_is_told_of_the_kind_whose_goal_it_is():
    kinds = scenario().kinds
    prefix = Prefix(tokens=50, documents=3, cached_share=0.8)
    wish = scenario(kinds=[kinds[0], msgspec.structs.replace(kinds[1], prefix=prefix)])
    rows = [row(k, k / 10, cached_tokens=0) for k in range(50)]
    rows += [row(k, k / 10, kind=1, cached_tokens=10) for k in range(50)]
    found = made_result(rows, wish)
    assert [(f.name, f.cached_goal) for f in found.summary.kinds] == [("a", 0.0), ("b", 0.8)]
    share = rows[-1].cached_tokens / rows[-1].prompt_tokens
    page = report.made(found, rows, "en")
    assert f"<b>{share:.1%}</b><span>b: of prompt tokens from the cache (goal 80%)" in page
    assert f"<b>{share / 2:.1%}</b>" not in page


def test_overflow_is_a_share_of_answers_not_of_what_an_api_refused():
    rows = [row(k, k / 10) for k in range(6)]
    rows += [row(k, k / 10, target="api") for k in range(6, 8)]
    rows += [row(k, k / 10, target="api", status=502, error="http_502 x") for k in range(8, 12)]
    assert summary(scenario(), [shard(rows)]).total.api_share == pytest.approx(0.25)


def test_cached_tokens_cost_what_cached_tokens_cost():
    price = Price(currency="CNY", input_per_mtok=10.0, output_per_mtok=0.0, cached_per_mtok=1.0)
    assert cost([row(1, 0.0)], price) == pytest.approx((10 * 10 + 4 * 1) / 1e6)


@pytest.mark.parametrize(
    ("goal", "kept"),
    [
        (Goal(), True), (Goal(first_token_ms=250), True), (Goal(first_token_ms=249), False),
        (Goal(complete_ms=499), False), (Goal(token_ms=62), False), (Goal(token_ms=63), True),
    ],
)  # fmt: skip
def test_a_goal_is_kept_to_the_millisecond_and_never_by_a_failure(goal, kept):
    assert is_kept(row(1, 0.0), goal) == kept
    assert not is_kept(row(1, 0.0, error="cut"), goal)


@examples(max_examples=60)
@given(st.floats(0.05, 5000.0), st.floats(0.1, 1000.0), st.sampled_from([1, 3]))
def test_the_search_brackets_what_a_target_bears(bears, start, repeats):
    search = Search(0.95, start, 0.01, 10_000.0, 0.05, repeats)
    while (rate := search.next_rate()) is not None:
        search.tried.append(Tried(rate, 1.0 if rate <= bears else 0.5, 0, 0, 0))
    answer = capacity.found(search)
    assert answer.rate is not None
    assert answer.above is not None
    assert answer.rate <= bears < answer.above <= answer.rate / 0.95 * 1.001
    assert f"{answer.rate:.3g} requests/s" in capacity.sentence(answer, "m", "g")
    assert f"{answer.rate:.3g} 请求/秒" in capacity.sentence_zh(answer, "m", "g")


def test_a_search_ends_where_the_sender_is_the_limit_and_says_so():
    search = Search(0.95, 10.0, 0.01, 1e4, repeats=1)
    while (rate := search.next_rate()) is not None:
        search.tried.append(Tried(rate, 1.0, 0, 0, 0, "busy" if rate > 30 else ""))
    answer = capacity.found(search)
    assert (answer.rate, answer.above, answer.limit) == (20.0, None, "at 40/s: busy")
    assert "the sender, not the target, was the limit" in capacity.sentence(answer, "m", "g")


def test_a_target_that_bears_nothing_is_told_so():
    search = Search(0.95, 1.0, 0.5, 10.0, repeats=1)
    while (rate := search.next_rate()) is not None:
        search.tried.append(Tried(rate, 0.1, 0, 0, 0))
    assert "even 0.5 requests/s is too much" in capacity.sentence(capacity.found(search), "m", "g")


def test_one_unlucky_repeat_of_three_does_not_fail_a_rate():
    search = Search(0.95, 8.0, 1.0, 8.0, repeats=3)
    for goodput in (1.0, 0.2, 1.0):
        assert search.next_rate() == 8.0
        search.tried.append(Tried(8.0, goodput, 0, 0, 0))
    assert search.next_rate() is None
    assert capacity.found(search).rate == 8.0


def test_a_run_of_a_search_ends_with_enough_answers_but_never_before_a_minute_is_counted():
    whole = values.load("document-questions")  # 120 s of warm-up, 600 s in all
    took = {rate: capacity.shortened(whole, rate, 150).duration_s for rate in (0.2, 1.0, 3.0, 90.0)}
    assert took == {0.2: 600.0, 1.0: 270.0, 3.0: 180.0, 90.0: 180.0}
    assert capacity.shortened(whole, 3.0, 0) == whole


@pytest.mark.parametrize("name", ["role-play", "corporate-training"])
def test_bursts_and_sessions_keep_their_length_in_a_search(name):
    whole = values.load(name)
    assert capacity.shortened(whole, 50.0, 150) == whole


def test_two_runs_alike_differ_in_nothing_and_a_slower_one_is_worse():
    chance = np.random.default_rng(5)
    runs = [
        [row(k, k / 20, float(took)) for k, took in enumerate(chance.gamma(4.0, scale, 400))]
        for scale in (0.1, 0.1, 0.2)
    ]
    wish = scenario()
    alike = compare.compare((wish, runs[0]), (wish, runs[1]))
    assert {one.verdict for one in alike} == {"same"}
    told = summary(wish, [shard(runs[0])]).total  # by the percentiles that the report tells
    found = {one.name: one.a for one in alike}
    assert found["complete p95"] == pytest.approx(told.complete_ms.p95, abs=1e-3)
    assert found["first visible token p99"] == pytest.approx(told.visible_ms.p99, abs=1e-3)
    slower = {o.name: o for o in compare.compare((wish, runs[0]), (wish, runs[2]))}
    for name in ("first visible token p50", "complete p95", "per token p50"):
        assert slower[name].verdict == "worse"
        assert slower[name].low <= 2.0 <= slower[name].high
    assert slower["failed"].verdict == "same"
    few = compare.compare((wish, runs[0][:3]), (wish, runs[2][:3]))
    assert {one.verdict for one in few} == {"unknown"}


def made_result(rows: list[Seen], wish: Scenario | None = None) -> Result:
    price = Price(currency="CNY", input_per_mtok=1.0, output_per_mtok=2.0)
    wish = wish or scenario(price=price)
    return Result(
        scenario=wish, seed=1, url="http://h", model="m", tokens_by="exact: x",
        notes=["<b>note</b>"], summary=summary(wish, [shard(rows)]), provenance=origin(["run"]),
    )  # fmt: skip


def test_a_run_comes_back_from_disk_as_it_was(tmp_path):
    rows = [row(k, k / 10) for k in range(50)]
    result = made_result(rows)
    results.write(tmp_path, result, rows)
    read, back = results.read(tmp_path)
    assert back == rows
    assert msgspec.json.encode(read) == msgspec.json.encode(result)
    assert {p.name for p in tmp_path.iterdir()} == {results.RESULT, results.REQUESTS}


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_no_half_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = [row(1, 0.0)]
    result = made_result(rows)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        with pytest.raises(ResultsError, match=r"result\.json.*free some space"):
            results.write(tmp_path, result, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="--out"):
        results.prepare(tmp_path / "file")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_stands_alone_in_both_languages_and_escapes_what_it_was_told(language):
    rows = [row(k, k / 10) for k in range(50)] + [row(50, 5.0, error="cut", words="<script>")]
    page = report.made(made_result(rows), rows, language)
    assert ("首个可见词元" in page) == (language == "zh")
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}">' in page
    assert "<svg" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://h", "").replace("http://www.w3.org", "")
    answer = capacity.Found(2.0, 4.0, "", 0.95, [Tried(2.0, 1, 2, 9, 9), Tried(4.0, 0, 0, 99, 99)])
    assert "2" in knee_page.knee(made_result(rows), answer, language)


def test_processes_follow_the_rate_and_share_a_closed_loop_out():
    target = Target("http://h", "", "m")
    wish = scenario("closed", concurrency=7)
    order = Order(wish, 1, target, WORDS, 3)
    assert [order.job(k).scenario.arrivals.concurrency for k in range(3)] == [3, 2, 2]
    assert Order(scenario(rate=10.0), 1, target, WORDS).count == 1
    assert Order(scenario(rate=10.0), 1, target, WORDS, 4).count == 4
    cores = len(os.sched_getaffinity(0))
    assert Order(scenario("trace"), 1, target, WORDS, rate=1e6).count == cores, "a trace's"


@pytest.mark.parametrize("url", ["ftp://h", "h:80", "http://", "http://h:99999"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(TargetError, match="--url"):
        _ = Target(url, "", "m").address
    assert Target("https://h/x/v1/", "", "m").base == "/x/v1"
    assert Target("https://h", "", "m").address == ("h", 443)


def test_hints_name_class_feature_and_session_only_where_there_is_one():
    plain, _ = scenario().kinds
    assert hints(plain, "") == ""
    told = msgspec.structs.replace(plain, latency_class="live", feature="course")
    assert hints(told, "s1", names_feature=True) == (
        "x-ballast-class: live\r\nx-ballast-feature: course\r\nx-ballast-session: s1\r\n"
    )
    # A key that is no forwarder's would be refused each request.
    assert hints(told, "") == "x-ballast-class: live\r\n"


def test_a_schema_is_asked_for_as_a_response_format():
    kind = msgspec.structs.replace(scenario().kinds[0], json_schema={"type": "object"})
    body = msgspec.json.decode(Texts(scenario(), "m", WORDS, 1).body(kind, [], 9))
    assert body["response_format"]["json_schema"] == {"name": "a", "schema": {"type": "object"}}
    assert body["stream_options"] == {"include_usage": True}
