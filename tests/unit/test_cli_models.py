"""`ballast models ...` at the terminal: tables for people, JSON for machines, refusals in words."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from ballast import quantities
from ballast.cli import app


def run(*words: str, code: int = 0):
    found = CliRunner().invoke(app, ["models", *words])
    assert found.exit_code == code, found.output
    return found


def as_json(*words: str, code: int = 0):
    return json.loads(run(*words, "--json", code=code).stdout)


def test_list_names_every_card_with_the_fewest_gpus():
    rows = {row["id"]: row for row in as_json("list")}
    assert len(rows) > 60
    assert rows["qwen3-32b"]["fewest"]["a100-80"] == "1 fp8"
    assert rows["glm-5"]["fewest"]["a100-80"] == "-"
    assert "qwen3-32b" not in run("list", "--family", "glm").stdout


def test_show_tells_one_card_and_takes_a_hub_s_name():
    assert "Qwen3-32B" in run("show", "Qwen/Qwen3-32B-FP8").stdout
    assert as_json("show", "qwen3-32b")["fewest"]["bf16"]["h100-80"] == "2 bf16"


def test_an_unknown_card_is_answered_with_near_names():
    assert "did you mean" in run("show", "qwen3-33b", code=1).stderr


def test_fit_gives_the_numbers_and_the_speed():
    found = as_json("fit", "qwen3-32b/fp8", "--gpu", "H100", "--concurrency", "32")
    assert found["fits"] is True
    assert found["memory"]["kv_tokens"] > 100_000
    assert found["speed"]["steady"]["limit"] == "none"
    text = run("fit", "qwen3-32b/fp8", "--gpu", "H100").stdout
    assert "= KV pool" in text
    assert "scaled from: calibration" in text


def test_fit_takes_the_first_variant_that_fits_when_none_is_named():
    assert as_json("fit", "qwen3-32b", "--context", "32k")["layout"]["variant"] == "fp8"


def test_fit_ends_with_one_and_the_reason_when_it_does_not_fit():
    assert (
        "the weights do not fit"
        in run("fit", "qwen3-235b-a22b/bf16", "--gpu", "h100-80", "--gpus", "4", code=1).stdout
    )
    assert as_json("fit", "glm-5", "--gpu", "a100-80", code=1)["fits"] is False


def test_fit_seats_several_models_or_says_by_how_much_it_is_short():
    words = ("qwen3-32b/fp8", "qwen3-14b/fp8:rare", "--gpu", "h100-80", "--concurrency", "4")
    plan = as_json("fit", *words)["plan"]
    assert [seat["is_rare"] for seat in plan["seats"]] == [False, True]
    assert "sleeps" in run("fit", *words).stdout
    short = run("fit", "qwen3-32b/bf16", "qwen3-14b/bf16", "--gpu", "a100-40", code=1)
    assert "GiB short" in short.stdout


def test_an_embedding_model_fits_and_has_no_tokens_to_time():
    assert as_json("fit", "qwen3-embedding-0.6b", "--gpu", "h100-80")["speed"] is None


def test_rank_is_cheapest_first_and_takes_the_user_s_own_price():
    words = ("rank", "qwen3-32b", "--ttft", "2", "--tpot", "50ms", "--day", "2026-11-21")
    choices = as_json(*words)["ranking"]["choices"]
    costs = [choice["cny_per_mtok"] for choice in choices]
    assert costs == sorted(costs)
    mine = as_json(*words, "--gpu", "h20", "--price", "h20=5")["ranking"]["choices"]
    assert {choice["layout"]["gpu"] for choice in mine} == {"h20-96"}
    assert mine[0]["price"]["source"] == "h20-96: named by you"
    assert "cheapest first" in run(*words).stdout


def test_rank_names_every_reason_when_nothing_serves():
    told = run("rank", "glm-5.2", "--gpu", "a100-80", code=1).stderr
    assert "nothing serves glm-5.2" in told
    assert "compute capability" in told


WRONG = {
    "a duration": ("rank", "qwen3-8b", "--ttft", "soon"),
    "a number of tokens": ("fit", "qwen3-8b", "--context", "long"),
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_wrong_quantity_is_refused_with_an_example(words):
    assert "; say " in run(*words, code=2).stderr.replace("\n", " ")


PROBLEMS = {
    "a price": (("rank", "qwen3-8b", "--price", "h100-80=cheap"), "is no price"),
    "a day": (("rank", "qwen3-8b", "--day", "soon"), "is no day"),
    "a GPU": (("fit", "qwen3-8b", "--gpu", "v100"), "not supported"),
    "a feature": (("fit", "qwen3-8b", "--feature", "magic"), "no feature"),
    "a folder": (("list", "--cards-dir", "/nonexistent-cards"), "no such folder"),
}


@pytest.mark.parametrize(("words", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_wrong_word_is_told_with_what_to_do(words, expected):
    assert expected in run(*words, code=1).stderr


def test_check_prints_the_summary_of_the_page():
    lines = [line.split("│") for line in run("check").stdout.splitlines() if "│" in line]
    told = {
        what.strip(): (points.strip(), within.strip()) for _, what, points, _, within, _ in lines
    }
    assert told["published, configuration fitted"] == ("16", "5%, met")
    assert told["published, extrapolated"] == ("9", "15%, missed")


@pytest.mark.parametrize(
    ("text", "expected"), [("50ms", 0.05), ("2", 2.0), ("1.5s", 1.5), ("200us", 2e-4), (2.0, 2.0)]
)
def test_durations_are_read_as_people_type_them(text, expected):
    assert quantities.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("4000", 4000), ("32k", 32_768), (8192, 8192)])
def test_token_counts_are_read_as_people_type_them(text, expected):
    assert quantities.tokens(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "k", "0"])
def test_what_is_no_number_of_tokens_is_refused(text):
    with pytest.raises(typer.BadParameter):
        quantities.tokens(text)


def test_fit_tells_the_flags_and_why_or_why_not():
    told = as_json("fit", "qwen3-32b/fp8", "--gpu", "h100-80", "--flags")
    said = {flag["name"]: flag for flag in told["arguments"]}
    assert {"--max-num-seqs", "--max-num-batched-tokens", "--tool-call-parser"} <= set(said)
    assert all(flag["reason"] for flag in said.values())
    refused = run("fit", "glm-5.2/fp8", "--gpu", "a100-80", "--gpus", "8", "--flags", code=1)
    assert "cannot start" in refused.output
