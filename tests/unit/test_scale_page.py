"""Costs of one unit carried to many people: the arithmetic, the tables, and the simulated fleet."""

from __future__ import annotations

import math

import msgspec
import pytest

from benchmarks.gateway.check import Checked
from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.open_streams import told
from benchmarks.scale_page import fleet_day, page
from benchmarks.scale_page.carry import Costs, Crowd, limits, need

COST = Costs(
    request_us=100.0, chunk_us=40.0, stream_kib=20.0, poll_us=70.0, poll_s=1.0, placement_us=30.0,
    placement_targets=50, redis_us=50.0, redis_every_s=0.1, redis_idle_s=1.0, postgres_us=30.0,
    call_bytes=650.0, step_ms=10.0, tick_bytes=300_000.0, tick_s=5.0, replica_prompt_s=1e-5,
    replica_output_s=1e-3,
)  # fmt: skip
CROWD = Crowd(people=864_000, requests_each=10.0, hour_factor=2.0, burst_factor=2.0)


def test_a_crowd_takes_what_its_units_cost():
    found = need(CROWD, COST)
    assert (found.mean_per_s, found.hour_per_s, found.burst_per_s) == (100.0, 200.0, 400.0)
    assert found.streams == pytest.approx(400 * 13.0)
    assert found.gateway_cores == pytest.approx(400 * (100 + 400 * 40) / 1e6)
    assert found.replicas == math.ceil(200 * (1500 * 1e-5 + 400 * 1e-3) / 0.7)
    assert found.rows_per_day == pytest.approx(8_640_000 * 2.2)
    assert found.ticks_per_day == 17_280
    assert found.polls_per_s == found.pods * found.replicas


def test_looks_at_engines_take_their_part_of_each_gateway_before_any_call():
    dear = msgspec.structs.replace(COST, poll_us=2_000.0)
    assert need(CROWD, dear).pods > need(CROWD, COST).pods
    endless = msgspec.structs.replace(COST, poll_us=1e6)
    assert need(CROWD, endless).pods < 1_000


def test_few_keys_are_asked_for_by_every_gateway_and_no_more():
    found = need(msgspec.structs.replace(CROWD, keys=1), COST)
    assert found.redis_per_s <= found.pods * 6 * 10
    many = need(msgspec.structs.replace(CROWD, keys=10**9), COST)
    assert many.redis_per_s == pytest.approx(400 * 6 * 10, rel=0.01)


def test_the_fullest_comes_first_and_says_at_how_many_people():
    found = limits(CROWD, COST)
    assert [one.use for one in found] == sorted((one.use for one in found), reverse=True)
    for one in found:
        assert one.people * one.use == pytest.approx(CROWD.people)
    lines = page.limits_table(found)
    assert [line.count("**") for line in lines[2:]] == [2, 2, 2, 0, 0, 0]


def test_what_was_not_measured_is_said_to_be():
    bare = msgspec.structs.replace(COST, postgres_us=0.0)
    assert "| not measured here | - |" in "\n".join(page.costs_table(bare, {}))
    assert limits(CROWD, bare)[-1].people == math.inf
    assert "not measured" in page.limits_table(limits(CROWD, bare))[-1]


def test_the_gateways_own_cpu_is_read_from_the_filled_page():
    request_us, chunk_us = page.from_benchmarks((ROOT / "docs" / "benchmarks.md").read_text())
    assert 10 < request_us < 1_000
    assert 1 < chunk_us < 1_000
    with pytest.raises(page.Unfilled, match="fill"):
        page.from_benchmarks("# nothing")


def test_a_simulated_fleet_keeps_its_bound_and_its_books():
    size = fleet_day.Size(models=6, replicas_most=40, mean=30.0, hours=0.5)
    found = fleet_day.run(size)
    assert found == msgspec.structs.replace(
        fleet_day.run(size), step_ms=found.step_ms, step_ms_most=found.step_ms_most
    )
    assert 0 < found.most <= 40
    assert found.own_share + found.api_share + found.lost_share == pytest.approx(1.0)
    assert found.decisions == 6 * 180
    assert found.cost < found.cost_api


def test_the_page_has_a_place_for_every_table():
    text = (ROOT / "docs" / "scale.md").read_text()
    for name in ("costs", "needs", "limits", "fleet"):
        assert f"<!-- figures: {name} -->" in text
        assert f"<!-- end: {name} -->" in text


def test_memory_of_a_stream_is_what_all_take_beyond_an_idle_gateway():
    checked = Checked(1_000, 998, 2, {}, "cut: x", 10, 1.0, 1.0)
    found = told("ballast", (100.0, 120.0), checked)
    assert (found.kib_per_stream, found.faults) == (20.5, 2)
