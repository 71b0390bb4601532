"""The simulator: its optimum against brute force, its world, bad input. Traces are made here."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from autoscale import baselines, contest, oracle, simulate
from autoscale.arrivals import TraceError, asked, counted, load, rows
from autoscale.work import Work
from autoscale.world import Scenario, World
from ballast import ledger_trace
from ballast.cli import app
from ballast.problem import ProblemError
from serving.ledger.sqlite import SqliteLedger
from serving.records import Usage
from serving.rows import RequestEnd
from serving.settings import Settings

WORK = Work(output_token_s=0.001)
HEAD = "timestamp_s,input_tokens,output_tokens\n"


def brute(demand: list[float], ratio: float, start: float) -> float:
    """The optimum over all joint paths of counts."""
    most = int(np.ceil(max(demand)))
    costs = {n: n * start for n in range(most + 1)}
    for work in demand:
        costs = {
            n: min(c + start * max(0, n - m) for m, c in costs.items())
            + n + ratio * max(0.0, work - n)
            for n in costs
        }  # fmt: skip
    return min(costs.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_is_that_of_all_joint_paths(seed: int) -> None:
    lots = random.Random(seed)
    demand = [lots.uniform(0, 3) * lots.choice([0, 1]) for _ in range(30)]
    ratio, start = lots.uniform(0.5, 6), lots.uniform(0, 5)
    assert oracle.optimum(demand, ratio, start).cost == pytest.approx(brute(demand, ratio, start))


def test_no_fixed_fleet_beats_the_optimum_and_the_best_is_the_best() -> None:
    lots = random.Random(1)
    demand = [lots.uniform(0, 5) for _ in range(200)]
    count, best = oracle.best_fixed(demand, 3.0, 4.0)
    all_ = [oracle.fixed(demand, 3.0, 4.0, n).cost for n in range(8)]
    assert (best.cost, count) == (min(all_), all_.index(min(all_)))
    assert best.cost >= oracle.optimum(demand, 3.0, 4.0).cost


def test_negative_prices_are_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        oracle.optimum([1.0], -1.0, 1.0)


def waves(folder: Path, hours: float = 12.0) -> Path:
    """A tiny trace: requests of 2000 output tokens, from none to three replicas' work and back."""
    lines, at_s, lots = [HEAD], 0.0, random.Random(7)
    while at_s < hours * 3600:
        rate = 1.5 - 1.5 * np.cos(at_s / 3600)
        if lots.random() < rate / 2:
            lines.append(f"{at_s:.1f},0,{lots.randint(3000, 5000)}\n")
        at_s += 2.0
    path = folder / "waves.csv"
    path.write_text("".join(lines))
    return path


def bench(folder: Path, **scenario: float) -> simulate.Bench:
    return simulate.Bench(load(asked(str(waves(folder)))), WORK, Scenario(**scenario))


def test_the_production_step_stays_near_the_optimum(tmp_path: Path) -> None:
    for ratio, worst in ((0.8, 1.02), (1.5, 1.12), (3.0, 1.3)):
        asked_ = bench(tmp_path, ratio=ratio)
        best = oracle.optimum(asked_.demand, ratio, asked_.start).cost
        cost = simulate.run_ours(asked_, 1).cost
        assert 0.9999 * best <= cost <= worst * best


def test_a_dear_replica_is_never_rented(tmp_path: Path) -> None:
    assert simulate.run_ours(bench(tmp_path, ratio=0.9), 1).starts == 0


def test_one_seed_gives_one_result(tmp_path: Path) -> None:
    uneven = bench(tmp_path, ready_cv=0.5, fail_rate=0.1, taken_per_hour=0.5)
    first, again, other = (simulate.run_ours(uneven, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_api_that_is_down_makes_replicas_urgent(tmp_path: Path) -> None:
    asked_ = simulate.Bench(
        load(asked(str(waves(tmp_path)))), WORK, Scenario(0.9, outages=((5000.0, 43_000.0),))
    )
    spent = simulate.run_ours(asked_, 1)
    assert spent.starts > 0
    assert spent.own_work > 5 * spent.lost_work


@pytest.mark.parametrize("name", baselines.SCALERS)
def test_each_baseline_serves_the_trace(tmp_path: Path, name: str) -> None:
    spent = simulate.run_baseline(bench(tmp_path), 1, (name, 1.0))
    total = sum(bench(tmp_path).demand)
    assert spent.own_work + spent.api_work == pytest.approx(total)
    assert spent.most <= 12


def test_machines_by_the_month_stand_from_the_start_at_their_own_price(tmp_path: Path) -> None:
    asked_ = bench(tmp_path, ready_cv=0.4, fail_rate=0.5, taken_per_hour=2.0, month_share=0.5)
    spent, bins = simulate.run_baseline(asked_, 1, (baselines.MONTHLY, 2.0)), len(asked_.demand)
    assert (spent.rent, spent.starts) == (pytest.approx(bins), 0)
    assert spent.own_work == pytest.approx(sum(min(d, 2.0) for d in asked_.demand))
    assert spent.api == pytest.approx(3.0 * spent.api_work)


def test_the_step_takes_machines_by_the_month_first_and_rents_the_rest(tmp_path: Path) -> None:
    plain = bench(tmp_path, taken_per_hour=0.5, month_share=0.3)
    months = msgspec.structs.replace(plain, months=1)
    alone, beside = (simulate.run_ours(one, 1) for one in (plain, months))
    assert beside.cost < alone.cost
    assert 0 < beside.starts < alone.starts
    assert beside.rent >= 0.3 * len(plain.demand)


def test_as_many_are_rented_by_the_month_as_were_cheapest_elsewhere(tmp_path: Path) -> None:
    for share, count in ((0.1, 2.0), (1.9, 1.0), (3.5, 0.0)):
        asked_ = bench(tmp_path, month_share=share)
        costs = [
            simulate.run_baseline(asked_, 0, (baselines.MONTHLY, float(n))).cost for n in range(5)
        ]
        assert contest.tuned([asked_])[baselines.MONTHLY] == costs.index(min(costs)) == count


def test_a_failed_order_is_paid_and_never_serves() -> None:
    world = World(Scenario(ready_s=20.0, fail_rate=1.0), 1)
    world.want(1)
    for _ in range(4):
        assert world.pass_bin(1.0) == (0.0, 1.0)
    assert (world.spent.rent, world.ordered) == (4.0, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp_s,input_tokens\n1,2\n", "output_tokens"),
        (HEAD + "1,2,nan\n", "row 0 holds nan"),
        (HEAD + "1,-2,3\n", "input_tokens: row 0"),
        (HEAD + "1,2,x\n", "not numeric"),
        (
            HEAD + "1e12,2,3\n0,1,1\n",
            r"1.15741e\+07 days, from 0 s to 1000000000000 s; cut a window",
        ),
        (HEAD + "1e300,2,3\n0,1,1\n", "cut a window"),
        (HEAD, "t.csv: no rows$"),
        (HEAD + "1,0,0\n", "no row has any tokens"),
        ("\x1b[31m\x07,\n", "t.csv: [^\x1b]*it needs the columns"),
    ],
    ids=["column", "nan", "negative", "text", "absurd", "no number", "empty", "idle", "no table"],
)
def test_a_bad_trace_is_an_error_that_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=words):
        load(asked(str(path)))


def test_a_column_of_lists_is_refused_by_its_name(tmp_path: Path) -> None:
    table = pa.table({"timestamp_s": [[0.0, 1.0], [2.0]], "input_tokens": [1, 1],
                      "output_tokens": [1, 1]})  # fmt: skip
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="timestamp_s is not numeric"):
        load(asked(str(tmp_path / "t.parquet")))


def test_disorder_and_gaps_are_told_and_borne(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "5000,1,1\n0,1,1\n")
    trace = load(asked(str(path)))
    assert len(trace.notes) == 2
    assert trace.prompt.sum() == pytest.approx(1 + 1 / 6)


def test_times_since_1970_begin_with_their_first_row_and_keep_hour_and_day(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    monday, at = 1_763_942_400, 2 * 86_400 + 5 * 3600  # 2025-11-24; a Wednesday at five
    path.write_text(HEAD + f"{monday + at},600,600\n{monday + at + 50},600,600\n")
    trace = load(asked(str(path)))
    assert (trace.start_s, trace.prompt.size) == (at, 6)
    assert "Monday 2025-11-24" in trace.notes[0]
    assert [row[0] for row in rows(asked(str(path)))] == [0, 50]
    assert load(asked(f"{path}@2d-3d")).start_s == 2 * 86_400


def test_a_column_of_requests_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for bad, words in (("x", "not numeric"), ("-1", "requests: row 0 holds -1")):
        path.write_text(HEAD.replace("\n", ",requests\n") + f"1,2,3,{bad}\n")
        with pytest.raises(TraceError, match=words):
            counted(asked(str(path)))


@pytest.mark.parametrize("text", ["a@2d-1d", "a*0", "a@1.2.3d-4d"])
def test_a_window_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(TraceError):
        asked(text)


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    path = str(waves(tmp_path, 2.0))
    done = CliRunner().invoke(app, ["simulate", path, "--ratios", "3", "--seeds", "1", "--tune",
                                    f"{path}@0h-1h"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Ballast" in done.stdout
    assert "Ray Serve" in done.stdout
    done = CliRunner().invoke(app, ["simulate", path, "--ratios", "3", "--seeds", "1", "--json"])
    assert '"policy": "Ballast"' in done.stdout


@pytest.mark.parametrize("flags", [["nothing.csv"], ["t", "--ratios", "x"], ["t", "--ratios", "0"],
                                   ["t", "--outage", "5"], ["t", "--profile", "??"]])  # fmt: skip
def test_flags_that_cannot_be_used_are_problems(tmp_path: Path, flags: list[str]) -> None:
    path = str(waves(tmp_path, 0.1))
    done = CliRunner().invoke(app, ["simulate", *(path if f == "t" else f for f in flags)])
    assert done.exit_code == 1
    assert "what to do" in done.stderr


def test_a_trace_that_outgrows_simulated_fleets_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = str(waves(tmp_path, 0.1))
    done = CliRunner().invoke(app, ["simulate", f"{path}*1000000", "--seeds", "1"])
    assert done.exit_code == 1
    assert "fleets have at most 64" in done.stderr
    assert "FILE*0.5" in done.stderr


def test_a_page_of_plots_is_written_and_fetches_nothing(tmp_path: Path) -> None:
    path, page = str(waves(tmp_path, 2.0)), tmp_path / "p.html"
    done = CliRunner().invoke(app, ["simulate", path, "--ratios", "3", "--seeds", "2", "--tune",
                                    f"{path}@0h-1h", "--html", str(page)])  # fmt: skip
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.count("<svg") == 4  # cost, replicas, share, objective: nothing queues in fluid
    assert "src=" not in text
    assert "href" not in text


def test_a_course_holds_what_the_run_summed_up(tmp_path: Path) -> None:
    asked_ = simulate.Bench(load(asked(str(waves(tmp_path)))), WORK, Scenario(), is_recorded=True)
    (ours,) = (r for r in contest.compare(asked_, [1], {}) if r.policy == "Ballast")
    total = sum(p.demand for p in ours.course)
    own = sum(p.demand * p.own_share for p in ours.course)
    assert own / total == pytest.approx(ours.own_share, abs=0.01)
    assert len(ours.course) <= 12 * 12
    assert all(p.kept == pytest.approx(1.0) for p in ours.course)


def test_our_own_ledger_is_a_trace(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    ledger = SqliteLedger.open(tmp_path / "ledger.sqlite")
    now_ms = int(datetime(2026, 1, 10, 12, tzinfo=UTC).timestamp()) * 1000
    usage = Usage(900, 100)
    ledger.apply([
        RequestEnd(
            f"r{k}", now_ms - 3_600_000 + k * 1000, now_ms - 3_500_000 + k * 1000, "t", "p", "k",
            "chat", "m" if k % 2 else "other", "interactive", "ok", 200, "", "", "x", 1, 0, 10,
            usage,
        )
        for k in range(10)
    ])  # fmt: skip
    ledger.close()
    wanted = ledger_trace.Wanted(2, "m")
    window = asked(ledger_trace.write(settings, wanted, tmp_path / "t.csv", now_ms))
    found = rows(window)
    assert [row[1:] for row in found] == [(900, 100)] * 5
    # Second 0 is a midnight of the ledger's own time zone.
    hour = (window.from_s + found[0][0]) / 3600
    assert hour % 24 == pytest.approx(11 + settings.ledger.utc_offset_hours, abs=0.01)
    with pytest.raises(ProblemError, match="no request"):
        ledger_trace.write(settings, ledger_trace.Wanted(1, "none"), tmp_path / "u.csv", now_ms)


def test_the_optimum_follows_a_price_that_changes() -> None:
    lots = random.Random(3)
    demand = [lots.uniform(0, 2) for _ in range(30)]
    ratios = [3.0] * 15 + [0.5] * 15
    halves = [oracle.optimum(demand[:15], 3.0, 2.0), oracle.optimum(demand[15:], 0.5, 2.0)]
    found = oracle.optimum(demand, ratios, 2.0)
    assert found.cost == pytest.approx(sum(half.cost for half in halves))
    assert oracle.optimum(demand, [3.0] * 30, 2.0) == oracle.optimum(demand, 3.0, 2.0)


def test_a_price_that_falls_below_the_rent_ends_renting(tmp_path: Path) -> None:
    falling = simulate.Bench(
        load(asked(str(waves(tmp_path)))), WORK, Scenario(3.0, prices=((20_000.0, 0.7),)),
        is_recorded=True,
    )  # fmt: skip
    (ours,) = (r for r in contest.compare(falling, [1], {}) if r.policy == "Ballast")
    assert max(p.ready for p in ours.course if p.at_s < 20_000) >= 2
    assert max(p.ready for p in ours.course if p.at_s > 21_500) == 0
    fixed = next(r for r in contest.compare(falling, [], {}) if "fixed" in r.policy)
    assert ours.cost < fixed.cost


def test_an_api_with_a_rate_limit_is_relieved_by_renting(tmp_path: Path) -> None:
    def kept(ratio: float) -> float:
        world = simulate.Bench(
            load(asked(str(waves(tmp_path)))), WORK, Scenario(ratio, api_most=0.5)
        )
        spent = simulate.run_ours(world, 1)
        assert spent.own_work + spent.api_work + spent.lost_work == pytest.approx(sum(world.demand))
        return 1 - spent.lost_work / sum(world.demand)

    # An API cheaper than any replica: only what it refuses speaks for renting.
    assert kept(0.5) > 0.9


@pytest.mark.parametrize("flags", [["--price", "x"], ["--price", "5=-1"],
                                   ["--credit", "5=10"], ["--credit", "x", "--requests"],
                                   ["--credit", "nan=5", "--requests"]])  # fmt: skip
def test_price_changes_that_cannot_be_are_problems(tmp_path: Path, flags: list[str]) -> None:
    path = str(waves(tmp_path, 0.1))
    done = CliRunner().invoke(app, ["simulate", path, "--ratios", "3", *flags])
    assert done.exit_code == 1
    assert "what to do" in done.stderr


def test_a_run_by_request_knows_prices_limits_spot_and_credits(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "".join(f"{k},500,200\n" for k in range(0, 1200, 4)))
    flags = ["simulate", str(path), "--ratios", "3", "--seeds", "1", "--requests", "--json"]
    more = [[], ["--credit", "99=3600"], ["--price", "600=0.1", "--api-most", "5",
                                          "--taken-per-hour", "2"]]  # fmt: skip
    costs = []
    for some in more:
        done = CliRunner().invoke(app, [*flags, *some])
        assert done.exit_code == 0, done.output
        (table,) = json.loads(done.stdout)
        costs.append(next(r for r in table["runs"] if r["policy"] == "all API"))
    assert costs[1]["cost"] == pytest.approx(0.0)
    assert costs[0]["cost"] > 1.0
    assert costs[2]["kept"] > 0.9
