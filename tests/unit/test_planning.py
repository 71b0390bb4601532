"""`ballast plan`: the report's table as printed, fleets against brute force, break-evens, pages."""

from __future__ import annotations

import itertools
import json
import math
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from ballast import planning_fleet as fleet
from ballast import planning_report as report
from ballast import planning_values as values
from ballast.cli import app
from ballast.planning_commit import best_counts, commitments, small_fleets
from ballast.planning_cost import AS_ASSUMED, market_of, year
from ballast.planning_even import break_evens, crossing, tornado
from ballast.planning_fleet import HOURS, Load, Market, Term
from ballast.planning_market import Facts, Machine, Sale
from ballast.planning_report_file import Report
from ballast.planning_run import REPORT
from ballast.planning_values import Scenario
from ballast.problem import ProblemError

PRINTED = {
    "pure API": (130_500, 1_305_000, 3_915_000, 5_350_500),
    "cloud-hosted": (435_000, 2_175_000, 4_350_000, 6_960_000),
    "hybrid": (580_000, 1_812_500, 3_262_500, 5_655_000),
    "pure self-hosted": (1_087_500, 2_900_000, 5_075_000, 9_062_500),
}
SALE = Sale("acme/m", 1.0, 4.0, 0.5, "made up")
MACHINE = Machine("m/fp8 on 1 x h100-80", 1, 16.0, 8.0, 170, 0.4, 0.045, 23.0, 0.08, "made up")
FACTS = Facts(date(2026, 11, 26), 7.0, SALE, (SALE,), MACHINE)


@pytest.fixture
def scenario() -> Scenario:
    return values.load(None)


@pytest.fixture
def printed() -> Report:
    return values.read(REPORT, Report)


def test_the_report_s_table_comes_out_as_printed(printed: Report) -> None:
    rows = {row.scheme: (*row.years, row.total) for row in report.rows(printed)}
    assert {name: pytest.approx(row) for name, row in PRINTED.items()} == rows
    assert all(row.is_as_printed for row in report.rows(printed))


def test_a_table_that_is_not_the_printed_one_is_told(printed: Report) -> None:
    odd = printed.model_copy(update={"api_usd_per_mtok": 1.4})
    assert [row.is_as_printed for row in report.rows(odd)] == [False, True, True, True]


def test_the_hidden_price_is_that_of_one_and_a_half_dollars(printed: Report) -> None:
    assert report.hidden_price(printed) == pytest.approx(10.875)


def test_none_of_the_named_break_evens_is_where_the_lines_meet(printed: Report) -> None:
    found = {one.scheme: one for one in report.crossings(printed)}
    assert found["hybrid"].calls_per_month == pytest.approx(18_750_000)
    assert not found["hybrid"].is_beyond
    assert found["cloud-hosted"].calls_per_month == pytest.approx(50_000_000)
    assert found["pure self-hosted"].calls_per_month == pytest.approx(83_333_333, rel=1e-6)
    assert found["pure self-hosted"].is_beyond
    claims = {one.said: one for one in report.claims(printed)}
    million = claims["a million calls a month"]
    assert million.price_wanted["hybrid"] == pytest.approx(48.333, rel=1e-4)
    assert million.api < min(million.costs.values())
    daily = claims["a million calls a day"]
    assert daily.costs["hybrid"] < daily.api < daily.costs["pure self-hosted"]
    assert claims["hundreds of millions of tokens a month"].calls_high == 900_000


def test_at_qwen_plus_s_own_price_the_verdict_turns(printed: Report) -> None:
    found = {one.name: one for one in report.verdicts(printed)}
    assert found["Qwen-Plus"].api == pytest.approx(504_000)
    assert found["Qwen-Plus"].cheapest == "pure API"
    hidden = found["the table's hidden price"]
    assert (hidden.cheapest, hidden.saving) == ("hybrid", pytest.approx(1 / 6))


def test_what_is_left_for_people_grows_with_load_in_the_report(printed: Report) -> None:
    found = report.rests(printed, 7.0)
    assert [one.gpus for one in found] == [1, 2, 4]
    parts = [one.other + one.rent + one.rest for one in found]
    assert parts == pytest.approx(PRINTED["pure self-hosted"][:3])
    assert found[-1].rest > 4 * found[0].rest


def week(*heights: float) -> Load:
    """Demand that goes through these heights, sharp."""
    means = tuple(itertools.islice(itertools.cycle(heights), HOURS))
    return Load(means, (0.0,) * HOURS)


MARKET = Market(2.0, 6.0, (Term("year", 12, 1.3),), 0.1, 0.0)


def test_the_cheapest_fleet_is_that_of_all_choices() -> None:
    load = week(*[0.2] * 10, *[1.0] * 3, *[0.3] * 11)
    best = fleet.best(load, MARKET)
    heights = load.means
    costs = []
    for size in (2, 3, 13, 14, 24):  # on in the hours above a height, for every height
        on = sorted(range(24), key=lambda hour: -heights[hour])[:size]
        starts = sum(hour in on and (hour - 1) % 24 not in on for hour in range(24))
        cost = sum(2.0 if h in on else 6.0 * heights[h] for h in range(24)) + 0.2 * starts
        costs.append(cost * 7)
    costs += [1.3 * HOURS, 6.0 * sum(heights)]
    assert best.rent + best.api <= min(costs) + 1e-6
    assert best.rent + best.api == pytest.approx(min(costs), rel=0.02)


def test_at_r_below_one_nothing_is_rented() -> None:
    best = fleet.best(week(0.9, 1.0, 2.0), Market(2.0, 1.9, (), 0.05, 0.0))
    assert (best.rent, best.share, best.replicas) == (0.0, 0.0, 0.0)


def test_a_full_replica_is_bound_and_a_peak_is_bought_by_the_hour() -> None:
    best = fleet.best(week(*[1.0] * 20, *[2.0] * 4), MARKET)
    assert [layer.term for layer in best.layers] == ["year", "by the hour"]
    assert best.share == pytest.approx(1.0)
    assert best.use == pytest.approx(1.0)


def test_the_saving_is_share_times_one_less_one_over_r_and_use() -> None:
    best = fleet.best(week(0.3, 0.8, 1.4), Market(2.0, 5.0, (), 0.0, 0.0))
    saved = 1 - (best.rent + best.api) / (5.0 * best.work)
    assert saved == pytest.approx(best.share * (1 - 1 / (2.5 * best.use)))


def test_a_fleet_without_an_api_carries_all_but_a_thousandth() -> None:
    load = Load((3.0,) * HOURS, (0.8,) * HOURS)
    made = fleet.alone(load, MARKET, MARKET.terms[0])
    count = int(made.replicas)
    assert sum(load.part(float(count), 1e9)) <= 1e-3 * sum(load.means)
    assert sum(load.part(float(count - 1), 1e9)) > 1e-3 * sum(load.means)
    assert made.api == 0.0


def test_large_fleets_are_weighed_in_wide_layers() -> None:
    load = Load((2000.0,) * HOURS, (100.0,) * HOURS)
    best = fleet.best(load, MARKET)
    assert len(best.layers) <= fleet.LAYERS_MAX
    assert sum(layer.own for layer in best.layers) == pytest.approx(best.work, rel=0.01)


def test_costs_sum_up_and_more_requests_cost_more(scenario: Scenario) -> None:
    for scheme in ("pure API", "cloud-hosted", "hybrid", "pure self-hosted"):
        small, large = (year(scenario, FACTS, scheme, n) for n in (1e6, 3e7))
        assert small.total <= large.total
        parts = small.api + small.rent + small.people + small.other
        assert small.total == pytest.approx(parts)
    api = year(scenario, FACTS, "pure API", 1e6)
    assert api.total == pytest.approx(12 * 1e6 * (500 * 1 + 500 * 4) / 1e6, rel=1e-6)


def test_hybrid_machines_never_cost_more_than_the_api(scenario: Scenario) -> None:
    for requests in (1e5, 1e6, 1e7, 1e8):
        pure, mixed = (year(scenario, FACTS, s, requests) for s in ("pure API", "hybrid"))
        assert mixed.api + mixed.rent <= pure.api * (1 + 1e-9)


def test_break_evens_are_where_costs_are_equal(scenario: Scenario) -> None:
    found = break_evens(scenario, FACTS)
    hybrid = found[1].requests_per_month
    assert hybrid is not None
    pure, mixed = (year(scenario, FACTS, s, hybrid) for s in ("pure API", "hybrid"))
    assert mixed.total == pytest.approx(pure.total, rel=0.01)
    order = [one.requests_per_month or math.inf for one in found[:3]]
    assert order == sorted(order)
    assert found[1].requests_per_day == pytest.approx(hybrid * 12 / 365)


def test_a_margin_that_never_turns_has_no_crossing() -> None:
    assert crossing(lambda x: -x) is None
    assert crossing(lambda x: x) == pytest.approx(1e4)
    assert crossing(lambda x: x - 5e6) == pytest.approx(5e6, rel=2e-3)


def test_the_tornado_names_what_matters_most_first(scenario: Scenario) -> None:
    found = tornado(scenario, FACTS)
    spans = [abs(one.saving_high - one.saving_low) for one in found]
    assert spans == sorted(spans, reverse=True)
    price = next(one for one in found if one.what == "api price")
    assert price.saving_low < price.saving_high
    staff = next(one for one in found if one.what == "people")
    assert staff.saving_low > staff.saving_high


def test_a_lever_at_one_changes_nothing(scenario: Scenario) -> None:
    for swing in scenario.sensitivity:
        moved = AS_ASSUMED.moved(swing.what, 1.0)
        assert market_of(scenario, FACTS, moved) == market_of(scenario, FACTS)


def test_small_fleets_have_one_lowest_point_on_each_term(scenario: Scenario) -> None:
    found = small_fleets(scenario, FACTS, 3e7)
    for term in {one.term for one in found}:
        totals = [one.total for one in found if one.term == term]
        low = totals.index(min(totals))
        assert totals[:low] == sorted(totals[:low], reverse=True)
        assert totals[low:] == sorted(totals[low:])
        assert best_counts(found)[term].gpus == low


def test_long_terms_are_bought_for_what_is_needed_from_the_start(scenario: Scenario) -> None:
    found = commitments(scenario, FACTS)
    assert found[0].choice in ("year", "three years")
    assert found[-1].choice == "api"
    assert all(one.regret >= 0 for one in found)
    assert all(one.costs[one.choice] <= one.costs["api"] for one in found)
    busy = [one.busy[-1] for one in found]
    assert busy == sorted(busy, reverse=True)


def test_a_term_longer_than_the_plan_is_paid_to_its_end(scenario: Scenario) -> None:
    short = scenario.model_copy(update={"years": scenario.years[-1:]})
    (first, *_) = commitments(short, FACTS)
    assert first.costs["three years"] >= 3 * 8760 * 8.0 * 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"years": []}, "years"),
        ({"other_share": 2}, "other_share"),
        ({"api": {"input_per_mtok": 1, "source": "x"}}, "both prices"),
        ({"sensitivity": [{"what": "weather", "low": 1, "high": 2}]}, "what"),
        ({"surprise": 1}, "surprise"),
        ({"load": {"hours": [0] * 24, "days": [1] * 7, "spread": 0, "source": "x"}}, "weights"),
        ({"load": {"hours": [1] * 23, "days": [1] * 7, "spread": 0, "source": "x"}}, "hours"),
        ({"capacity_factor": float("nan")}, "capacity_factor"),
    ],
    ids=["no-years", "share", "half-price", "lever", "unknown", "no-load", "hours", "nan"],
)
def test_a_scenario_that_cannot_be_names_its_key(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    given = yaml.safe_load((values.FOLDER / "today.yaml").read_text())
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(given | change))
    with pytest.raises(ProblemError, match=words):
        values.load(path)


@pytest.mark.parametrize("text", ["[", "- 1", ""], ids=["broken", "list", "empty"])
def test_a_file_that_is_no_scenario_is_a_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ProblemError):
        values.load(path)


class Reader(HTMLParser):
    """Collects what a page would fetch, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_command_plans_and_writes_a_page_that_fetches_nothing(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    done = CliRunner().invoke(app, ["plan", "--day", "2026-11-26", "--html", str(page)])
    assert done.exit_code == 0, done.output
    for words in ("BREAK-EVEN", "WHICH COMMITMENT", "SENSITIVITY", "SMALL FLEETS", "r = "):
        assert words in done.stdout
    text = page.read_text()
    reader = Reader()
    reader.feed(text)
    assert not reader.fetched
    assert not reader.open
    assert text.count("<svg") == 6
    assert "script" not in text
    assert "nan" not in text


def test_the_report_is_told_in_json_too() -> None:
    done = CliRunner().invoke(app, ["plan", "--assumptions", "--json"])
    assert json.loads(done.stdout)["model"] == "qwen3-32b"
    done = CliRunner().invoke(app, ["plan", "--report", "--json", "--day", "2026-11-26"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["hidden_price"] == pytest.approx(10.875)
    assert len(found["claims"]) == 3


def test_the_shape_of_a_trace_replaces_the_file_s(tmp_path: Path) -> None:
    rows = ["timestamp_s,input_tokens,output_tokens\n"]
    for hour in range(8 * 24):
        rows += [f"{hour * 3600 + k},100,20\n" for k in range(1 + hour % 24)]
    path = tmp_path / "t.csv"
    path.write_text("".join(rows))
    done = CliRunner().invoke(app, ["plan", "--trace", str(path), "--json", "--day", "2026-11-26"])
    assert done.exit_code == 0, done.output
    load = json.loads(done.stdout)["scenario"]["load"]
    assert load["hours"][23] == pytest.approx(24 * load["hours"][0], rel=0.02)
    assert load["days"] == pytest.approx([1.0] * 7, rel=0.02)


@pytest.mark.parametrize(
    "flags",
    [["nothing.yaml"], ["--model", "no-such"], ["--day", "x"], ["--trace", "nothing.csv"],
     ["--model", "qwen3-8b"], ["--report", "--html", "p.html"]],
    ids=["file", "model", "day", "trace", "unsold", "html-of-report"],
)  # fmt: skip
def test_what_cannot_be_planned_is_a_problem(flags: list[str]) -> None:
    done = CliRunner().invoke(app, ["plan", *flags])
    assert done.exit_code == 1
    assert done.stderr.startswith("ballast: ")


def test_a_plan_is_a_value_that_json_can_hold() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FACTS))["sale"]["offering"] == "acme/m"
