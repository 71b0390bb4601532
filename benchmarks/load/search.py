"""`capacity`: the highest rate within the goal, in one sentence, with the picture of its knee."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec
import uvloop

from benchmarks import telling
from benchmarks.load import capacity, flags, knee_page, report, results, schedule, traces
from benchmarks.load.capacity import Search, Tried
from benchmarks.load.crew import Order
from benchmarks.load.display import console, tell
from benchmarks.load.invalid import ANSWERS_MIN, FEW
from benchmarks.load.parser import Parser
from benchmarks.load.run import PAGES, driven, prepared, result_of, save
from benchmarks.load.seen import Shard
from benchmarks.load.summary import Summary, summary
from benchmarks.load.values import Scenario, ScenarioError
from benchmarks.load.wording import spoken, text, word
from models.worded import Worded, joined

FOUND = "capacity.json"


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = Parser("benchmarks.load capacity", __doc__)
    flags.add(parser)
    parser.add_argument("--share", type=float, default=0.95,
                        help="of the requests that must keep their goal")  # fmt: skip
    parser.add_argument("--least", type=float, default=0.01, help="lowest rate to try")
    parser.add_argument("--most", type=float, default=10_000.0, help="highest rate to try")
    parser.add_argument("--repeats", type=int, default=capacity.REPEATS, help="runs of a rate")
    parser.add_argument("--tolerance", type=float, default=capacity.TOLERANCE,
                        help="end when the bracket is so narrow, as a share")  # fmt: skip
    parser.add_argument("--answers", type=int, default=0,
                        help="end a run when so many are counted; 0 = never")  # fmt: skip
    given = parser.parse_args(argv)
    if not (0 < given.share <= 1 and 0 < given.least < given.most and given.repeats >= 1
            and 0 < given.tolerance < 1):  # fmt: skip
        parser.error("0 < share <= 1, 0 < least < most, repeats >= 1, 0 < tolerance < 1")
    if given.answers and given.answers < ANSWERS_MIN:
        template = "--answers: 0, or at least {least}: fewer decide nothing"
        parser.error(telling.tell(Worded("search.answers", template, least=ANSWERS_MIN), spoken()))
    return flags.guarded(lambda: _main(given, argv))


def _main(given: argparse.Namespace, argv: Sequence[str]) -> int:
    scenario, target = flags.scenario_of(given), flags.target_of(given)
    rows = traces.read(scenario.arrivals)
    least = _least(given, scenario)
    start = min(given.most, max(least, scenario.arrivals.rate))
    schedule.at_rate(scenario, start, rows)  # a closed loop is refused before anything is sent
    results.prepare(given.out)
    origin = flags.origin(["capacity", *argv])
    words, notes = uvloop.run(prepared(target, given.tokenizer))
    search = Search(given.share, start, least, given.most, given.tolerance, given.repeats)
    shards: list[Shard] = []
    best: tuple[Order, Summary, list[Shard]] | None = None
    is_stopped = False
    while (rate := search.next_rate()) is not None and not is_stopped:
        seed = given.seed + len(search.tried)
        asked = capacity.shortened(schedule.at_rate(scenario, rate, rows), rate, given.answers)
        order = Order(asked, seed, target, words, given.processes, rate, flags.texts_of(given))
        shards = uvloop.run(driven(order))
        found = summary(order.scenario, shards)
        is_stopped = found.is_partial
        number = len(search.tried) + 1
        console.print(text("run_at", spoken(), rate=f"{rate:.4g}", number=number))
        tell(found)
        if is_stopped:
            break
        search.tried.append(tried(rate, found, given.share))
        if best is None or search.good() == rate:
            best = order, found, shards
    answer = capacity.found(search)
    if best is None:
        return flags.STOPPED
    order, summed, shards = best
    result = result_of(order, summed, (notes, origin))
    save(given.out, result, shards)
    results.put(
        given.out / FOUND, msgspec.json.format(msgspec.json.encode(answer, enc_hook=str), indent=1)
    )
    for name, language in PAGES.items():
        page = knee_page.knee(result, answer, "zh" if language == "zh" else "en")
        results.put(given.out / f"capacity.{name.removeprefix('report.')}", page.encode())
    partial = word("search_stopped", spoken()) if is_stopped else ""
    say = capacity.sentence_zh if spoken() == "zh" else capacity.sentence
    print(partial + say(answer, target.model, report.goals(scenario)))
    if is_stopped:
        return flags.STOPPED
    return flags.INVALID if answer.limit or answer.rate is None else 0


def _least(given: argparse.Namespace, scenario: Scenario) -> float:
    """The lowest rate whose run decides anything. Raises ScenarioError."""
    least: float = max(given.least, ANSWERS_MIN / (scenario.duration_s - scenario.warmup_s))
    if least > given.most:
        template = (
            "below {rate}/s a run of {seconds} s has fewer than {least} requests, "
            "and decides nothing: raise --duration-s or --most"
        )
        seconds = f"{scenario.duration_s:g}"
        raise ScenarioError(Worded("search.few", template, rate=f"{least:.3g}", seconds=seconds,
                                   least=ANSWERS_MIN))  # fmt: skip
    return least


def tried(rate: float, found: Summary, share: float) -> Tried:
    """One run as the search sees it. Times count from when a request was due, so a late sender can
    only hide that a rate holds, never that it does not: a good run stays good, unless requests were
    not sent at all. Few answers are the target's failure, not the sender's."""
    total, machine = found.total, found.machine
    own = [why.worded() for why in found.whys if why.code != FEW]
    is_void = not total.sent or machine.not_sent > 0 or total.goodput < share
    return Tried(rate, total.goodput, total.kept_per_s, total.visible_ms.p95,
                 total.complete_ms.p95, joined(own) if is_void else "")  # fmt: skip
