"""`ballast poc run`: traffic that was, replayed to an API and to own engines at once.

Both sides get the same texts at the same moments through this deployment's gateway: the API by a
canary's key that is pinned to one offering, under a budget of its own; own engines by a load-test
key, which never leaves. Keys and budget are made for the run and taken back after it; those of a
run that was killed, by the next one.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ballast import bench, poc_keys, poc_left, running
from ballast.admin_client import Client, keep
from ballast.ledger_trace import HEADER
from ballast.messages import Said
from ballast.poc_keys import SIDES
from ballast.poc_plan import Plan
from ballast.problem import ProblemError
from ballast.with_parent import die_with_parent
from serving.records import Price
from serving.settings import Settings

DRAIN_S = 120.0
"""For the answers under way when all is sent; also the timeout of one."""
START_S = 60.0
"""For the load generator to begin and to write its files."""
END_S = 10.0
POLL_S = 0.2
TRACE, SCENARIO, LOG = "trace.csv", "scenario.yaml", "log.txt"


class Order(NamedTuple):
    """What is replayed, and to whom."""

    plan: Plan
    price: Price
    """Of the API."""
    model: str
    target: str
    """Offering, as `provider/model`."""
    own_model: str
    tenant: str
    spend_micro: int
    seed: int
    out: Path


def folder(order: Order, side: str) -> Path:
    """Where a side's results lie."""
    return order.out / side


def seconds_max(order: Order) -> float:
    """After which a run that has not ended is stopped."""
    return order.plan.seconds + 2 * DRAIN_S + START_S


def run(
    settings: Settings, client: Client, order: Order, told: Callable[[Said], None]
) -> None:  # fmt: skip
    """Send all of it, and wait. Raises ProblemError; whatever happens, keys and budget go."""
    if not bench.is_here():
        raise ProblemError(Said("poc.run.no_bench"), Said("poc.run.in_checkout"))
    _write(order)
    state, seconds = settings.state_dir.expanduser(), seconds_max(order)
    poc_left.take_back(client, state, told)
    with poc_left.marked(state, seconds) as under:
        wanted = poc_keys.Wanted(
            order.tenant, order.spend_micro, order.price.currency, seconds, under.mark
        )
        with poc_keys.lent(client, wanted, told) as keys:
            argvs = []
            for side in SIDES:
                file = under.keys / side
                keep(file, keys[side])
                argvs.append(_argv(running.base_url(settings), order, side, file))
            minutes = f"{order.plan.seconds / 60:.1f}"
            told(Said("poc.run.under_way", out=order.out, minutes=minutes))
            _both(argvs, order)


def scenario(order: Order) -> dict[str, Any]:
    """One for both sides; the API's price stands in it, for both sides' tokens."""
    length = {"median": 1}
    price, plan = order.price, order.plan
    return {
        "title": f"PoC: {len(plan.rows)} requests replayed", "title_zh": "PoC：重放的请求",
        "arrivals": {"kind": "trace", "source": str((order.out / TRACE).resolve()),
                     "speed": plan.speed},
        "duration_s": plan.seconds + 1.0, "drain_s": DRAIN_S, "timeout_s": DRAIN_S,
        "kinds": [{"name": "replayed", "prompt": length, "output": length}],
        "price": {
            "currency": price.currency, "input_per_mtok": price.input_micro_per_mtok / 1e6,
            "output_per_mtok": price.output_micro_per_mtok / 1e6,
            "cached_per_mtok": price.cached_micro_per_mtok / 1e6,
            "source": f"{order.target}: {price.source}, {price.as_of}",
        },
    }  # fmt: skip


def _write(order: Order) -> None:
    try:
        for side in SIDES:
            folder(order, side).mkdir(parents=True, exist_ok=True)
        with (order.out / TRACE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEADER)
            writer.writerows((f"{at_s:.3f}", prompt, out) for at_s, prompt, out in order.plan.rows)
        text = yaml.safe_dump(scenario(order), allow_unicode=True, sort_keys=False)
        (order.out / SCENARIO).write_text(text, "utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise ProblemError(Said("evidence.cannot", why=why), Said("evidence.make_room")) from None


def _argv(url: str, order: Order, side: str, key: Path) -> list[str]:
    """Texts are counted by bytes for both: a tokenizer of one side would give the other other
    texts."""
    of = ["--model", order.model, "--pin", order.target] if side == "api" else [
        "--model", order.own_model]  # fmt: skip
    return [
        sys.executable, "-m", bench.MODULE, "run", str(order.out / SCENARIO), "--url", url, *of,
        "--key-file", str(key), "--out", str(folder(order, side)), "--seed", str(order.seed),
        "--tokenizer", "bytes", "--processes", "1",
    ]  # fmt: skip


def _both(argvs: Sequence[Sequence[str]], order: Order) -> None:
    """Start both and wait for both; one that fails ends the other."""
    runs: list[tuple[str, subprocess.Popen[bytes]]] = []
    with_us = die_with_parent()
    until_s = time.monotonic() + seconds_max(order)
    try:
        for side, argv in zip(SIDES, argvs, strict=True):
            with (folder(order, side) / LOG).open("wb") as log:
                child = subprocess.Popen(  # noqa: S603
                    argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                    preexec_fn=with_us,
                )  # fmt: skip
            runs.append((side, child))
        while any(child.poll() is None for _, child in runs):
            for side, child in runs:
                if child.poll():
                    raise _failed(order, side)
            if time.monotonic() > until_s:
                raise _failed(order, runs[0][0])
            time.sleep(POLL_S)
        for side, child in runs:
            if child.returncode:
                raise _failed(order, side)
    except KeyboardInterrupt:
        raise ProblemError(Said("poc.run.interrupted"), Said("poc.run.again")) from None
    finally:
        for _, child in runs:
            _end(child)


def _failed(order: Order, side: str) -> ProblemError:
    log = folder(order, side) / LOG
    lines = log.read_text("utf-8", errors="replace").split("\n") if log.exists() else []
    told = [line.strip() for line in lines if line.strip()]
    wrong = [line for line in told if line.startswith("error:")]
    why = (wrong or told or ["-"])[-1]
    what = Said("poc.run.failed", side=Said(f"poc.side.{'local' if side == 'own' else side}"),
                why=why)  # fmt: skip
    return ProblemError(what, Said("poc.run.see_log", log=log))


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
