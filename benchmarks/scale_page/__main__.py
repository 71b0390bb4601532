"""`python -m benchmarks.scale_page`: measured costs of one unit, carried to a million people.

Measures what is cheap to measure (about three minutes, on loopback), takes the gateway's own CPU
from docs/benchmarks.md, and prints the tables of docs/scale.md; `--fill` writes them there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.gateway import machine
from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.report import filled
from benchmarks.scale_page import fleet_day, measure, page
from benchmarks.scale_page.carry import Costs, Crowd, limits, need
from benchmarks.scale_page.measure import Figure
from models.capacity import PROFILES
from serving.limits.sharing import RATES_EVERY_S
from serving.limits.slice import IDLE_S

from autoscale.work import of_profile  # isort: skip

PROFILE = "qwen3-32b-fp8-h100"
POLL_S, TICK_S = 1.0, 5.0
"""Defaults of `fleet.poll_s` and `controller.tick_s`."""
TARGETS = 50
FLAGS = ("people", "requests_each", "burst_factor", "prompt_tokens", "output_tokens", "keys",
         "models")  # fmt: skip


def costs(benchmarks: str, crowd: Crowd) -> tuple[Costs, dict[str, str]]:
    """Everything measured, and the spread of each in words."""
    request_us, chunk_us = page.from_benchmarks(benchmarks)
    _say("placement")
    found: dict[str, Figure | None] = {"placement_us": measure.placement(TARGETS)}
    _say("looks at engines")
    found["poll_us"] = measure.looks()
    _say("Redis")
    found["redis_us"] = measure.redis_ask()
    _say("PostgreSQL")
    found["postgres_us"] = measure.postgres_call()
    _say("open streams")
    found["stream_kib"] = measure.stream_kib()
    _say("controller")
    found["step_ms"], tick_bytes = measure.controller(crowd.models, 500, 20)
    work = of_profile(PROFILES[PROFILE], 64)
    spread = {name: f"{one.low:,.4g} to {one.high:,.4g}" for name, one in found.items() if one}
    spread |= {"request_us": "docs/benchmarks.md", "chunk_us": "docs/benchmarks.md"}
    medians = {name: one.median if one else 0.0 for name, one in found.items()}
    return Costs(
        request_us=request_us, chunk_us=chunk_us, poll_s=POLL_S, placement_targets=TARGETS,
        redis_every_s=RATES_EVERY_S, redis_idle_s=IDLE_S, call_bytes=measure.call_bytes(),
        tick_bytes=tick_bytes, tick_s=TICK_S, replica_prompt_s=work.prompt_token_s,
        replica_output_s=work.output_token_s, **medians,
    ), spread  # fmt: skip


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale_page", description=__doc__)
    plain = Crowd()
    for name in FLAGS:
        value = getattr(plain, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--hours", type=float, default=6.0, help="of the simulation")
    parser.add_argument("--fill", action="store_true", help="write the tables into docs/scale.md")
    parser.add_argument("--benchmarks", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scale.md")
    given = parser.parse_args(argv)
    crowd = Crowd(**{name: getattr(given, name) for name in FLAGS})
    if min(getattr(crowd, name) for name in FLAGS) <= 0 or given.hours <= 0:
        parser.error("all of these are above 0")
    where = machine.provenance(argv, ROOT, {}, "benchmarks.scale_page")
    try:
        cost, spread = costs(given.benchmarks.read_text("utf-8"), crowd)
    except (OSError, page.Unfilled) as error:
        print(f"{given.benchmarks}: {error}", file=sys.stderr)
        return 2
    size = fleet_day.Size(models=crowd.models, hours=given.hours)
    _say(f"simulation of {size.models} models, {size.hours:g} hours")
    origin = (f"`{where.command}`, {where.at}, commit {where.commit[:12]}; {where.cpu_model}, "
              f"{where.cores} cores, load average before {where.load_before[0]:.1f}.")  # fmt: skip
    tables = {
        "costs": [*page.costs_table(cost, spread), "", origin],
        "needs": page.needs_table(crowd, need(crowd, cost)),
        "limits": page.limits_table(limits(crowd, cost)),
        "fleet": page.fleet_lines(size, fleet_day.run(size)),
    }
    print("\n\n".join("\n".join(lines) for lines in tables.values()))
    print(msgspec.json.encode(cost).decode(), file=sys.stderr)
    if given.fill:
        text = given.page.read_text("utf-8")
        for name, lines in tables.items():
            text = filled(text, name, "\n".join(lines))
        given.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
