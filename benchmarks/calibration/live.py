"""How true predictions were of what a running gateway served meanwhile: two looks at its metrics.

`python -m benchmarks.calibration.live OPS_URL -- COMMAND ...` reads `/metrics` of the ops listener,
runs the command (a load, say), reads them again, and prints how often calls took how much of what
was predicted. It sends nothing itself and knows nothing of engines.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

FIRST, WHOLE = (
    "ballast_first_token_seen_to_predicted_ratio",
    "ballast_request_seen_to_predicted_ratio",
)
BEYOND = "ballast_beyond_predicted_p90"
WHAT = {FIRST: "first_token", WHOLE: "request"}
READ_S = 10.0
Key = tuple[str, str]
"""Model and tier."""


class Look(NamedTuple):
    """Counters at one moment."""

    buckets: Mapping[tuple[str, Key], dict[float, float]]
    """Calls with a ratio of at most so much, by metric."""
    beyond: Mapping[tuple[str, Key], float]
    """Calls that took longer than p90, by what."""


class Truth(NamedTuple):
    """Of one model, tier and kind of prediction."""

    calls: int
    median: float
    """Of seen / p50, interpolated within its bucket."""
    covered: float
    """Share of calls that took at most p90."""


def look(text: str) -> Look:
    """What an exposition says."""
    buckets: dict[tuple[str, Key], dict[float, float]] = {}
    beyond: dict[tuple[str, Key], float] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            key = one.labels.get("model", ""), one.labels.get("tier", "")
            if family.name in WHAT and one.name.endswith("_bucket"):
                bounds = buckets.setdefault((family.name, key), {})
                bounds[float(one.labels["le"])] = one.value
            elif family.name == BEYOND and one.name.endswith("_total"):
                beyond[one.labels["what"], key] = one.value
    return Look(buckets, beyond)


def truths(before: Look, after: Look) -> dict[tuple[str, Key], Truth]:
    """What was true between the two."""
    found: dict[tuple[str, Key], Truth] = {}
    for (metric, key), bounds in after.buckets.items():
        had = before.buckets.get((metric, key), {})
        counts = {bound: count - had.get(bound, 0.0) for bound, count in sorted(bounds.items())}
        calls = max(counts.values(), default=0.0)
        if calls:
            name = WHAT[metric], key
            late = after.beyond.get(name, 0.0) - before.beyond.get(name, 0.0)
            found[name] = Truth(round(calls), median(counts), 1.0 - late / calls)
    return found


def median(counts: Mapping[float, float]) -> float:
    """Of cumulated counts by upper bound."""
    half, below, low = max(counts.values()) / 2, 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= half:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (half - below) / max(1.0, count - below)
        below, low = count, bound
    return low


def line(name: tuple[str, Key], one: Truth) -> str:
    """For people."""
    what, (model, tier) = name
    return (
        f"{model} {tier} {what:<12} {one.calls:6} calls  median of seen / p50 - 1 "
        f"{one.median - 1.0:+7.1%}  <= p90 {one.covered:6.1%}"
    )


def main(argv: Sequence[str]) -> int:
    """Entry point: the command's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration.live", description=__doc__
    )
    parser.add_argument("ops", help="the gateway's ops listener, http://127.0.0.1:8081")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what to run meanwhile")
    given = parser.parse_args(argv)
    command = [*given.command]
    if command[:1] == ["--"]:
        command.pop(0)
    if not command or not given.ops.startswith(("http://", "https://")):
        parser.error("name the ops listener's URL, then -- and a command")
    before = look(_metrics(given.ops))
    code = subprocess.run(command, check=False).returncode
    for name, one in sorted(truths(before, look(_metrics(given.ops))).items()):
        print(line(name, one))
    return code


def _metrics(ops: str) -> str:
    url = f"{ops.rstrip('/')}/metrics"
    with urllib.request.urlopen(url, timeout=READ_S) as answer:
        return str(answer.read(), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
