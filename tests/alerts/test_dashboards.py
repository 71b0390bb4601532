"""Dashboards ask of series that exist, in queries that Prometheus understands."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from deploy.grafana.__main__ import FOLDER, main, rendered
from deploy.grafana.panels import pages

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"^(DCGM_FI_(DEV|PROF)_\w+|up|ALERTS|ballast:[\w:]+)$")
"""NVIDIA's exporter, Prometheus's own, and what our rules record."""
QUERIES = [q for page in pages() for question in page.questions for q in question.queries.values()]


def plain(query):
    """Without Grafana's variables."""
    return query.replace("$__rate_interval", "5m").replace("$model", ".*")


def exported():
    """Names of series in the code: literals that begin with `ballast_`, with what their kinds add,
    and those made from a prefix and a table's names."""
    found = set()
    for folder in ("serving", "autoscale"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            found |= set(re.findall(r'"(ballast_[a-z_]+)"', text))
            for prefix in re.findall(r'f"(ballast_[a-z_]*)\{name\}"', text):
                names = {
                    node.value
                    for node in ast.walk(ast.parse(text))
                    if isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and re.fullmatch(r"[a-z_]+", node.value)
                }
                found |= {prefix + name for name in names}
    kinds = ("", "_total", "_bucket", "_sum", "_count")
    return {name + kind for name in found for kind in kinds}


def series_of(query):
    words = re.sub(r'"[^"]*"', "", plain(query))
    return set(re.findall(r"\b(ballast[a-z0-9_:]+|DCGM\w+|up)\b(?=\s*[\{\[\s/)<>=*]|$)", words))


def rule_queries():
    told = yaml.safe_load((FOLDER.parent / "rules.yaml").read_text("utf-8"))
    return [rule["expr"] for group in told["groups"] for rule in group["rules"]]


def test_the_files_in_the_chart_are_in_step_with_the_pages():
    assert main(["--check"]) == 0


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_parses(query):
    promql_parser.parse(plain(query))


def test_every_series_asked_for_is_one_that_the_code_exports():
    known = exported()
    asked = set().union(*map(series_of, QUERIES), *map(series_of, rule_queries()))
    assert len(asked) > 40
    assert {s for s in asked if s not in known and not ELSEWHERE.match(s)} == set()


def test_every_panel_has_a_place_of_its_own():
    for name, text in rendered().items():
        board = json.loads(text)
        places = [p["gridPos"] for p in board["panels"]]
        cells = [(p["x"] + i, p["y"]) for p in places for i in range(p["w"])]
        assert len(cells) == len(set(cells)), name
        assert all(p["x"] + p["w"] <= 24 for p in places), name
