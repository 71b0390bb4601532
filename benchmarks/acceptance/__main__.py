"""`ballast bench acceptance`: one rented GPU hour spent well, on one engine.

Looks at the target, fits the step times of its card, searches the highest rate within a scenario's
goals, says what that cost and whether the engine is what its card says. Each step has a bound of
its own within `--minutes`; after each the state is written, so the same command goes on where it
was stopped. Ctrl-C leaves a report marked PARTIAL. Nothing else should use the engine meanwhile.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.acceptance import page, steps, values
from benchmarks.acceptance.child import Stopped
from benchmarks.acceptance.steps import COEFFICIENTS, NAMES, PROBE, SEARCH, VERDICT, Did, Ground
from benchmarks.acceptance.values import Asked, Different, State, Step
from benchmarks.load import flags, results, schemas
from benchmarks.load import values as scenarios
from benchmarks.load.parser import Parser
from benchmarks.load.values import ScenarioError
from benchmarks.load.wording import Language, spoken
from benchmarks.telling import tell
from models.profiles import ProfileError
from models.worded import Worded, of, packed, unpacked

REPORTS: Final[dict[str, Language]] = {"acceptance.md": "en", "acceptance.zh.md": "zh"}
LEAST_S = 5.0
"""A step is not begun with less."""
ALWAYS = (PROBE, VERDICT)
"""Done again on each try: cheap, and true of now."""


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    given = _parser().parse_args(argv)
    # A job's end and a shell that starts it in the background (SIGINT is ignored there) as Ctrl-C.
    was = {number: signal.signal(number, signal.default_int_handler)
           for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    try:
        return flags.guarded(lambda: _main(given))
    finally:
        for number, handler in was.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    made = Parser("benchmarks.load acceptance", __doc__)
    flags.add(made)
    made.add_argument("--card", default="", metavar="NAME",
                      help="what it should be, as qwen3-32b/fp8@1xh100-80")  # fmt: skip
    made.add_argument("--minutes", type=float, default=60.0, help="for all steps together")
    made.add_argument("--coefficients-s", type=float, default=720.0, help="bound of that step")
    made.add_argument("--search-s", type=float, default=2400.0, help="bound of that step")
    made.add_argument("--gpu-hour", type=float, default=0.0, help="rent of one GPU for an hour")
    made.add_argument("--gpus", type=int, default=1)
    made.add_argument("--currency", default="USD")
    made.add_argument("--rate-wanted", type=float, default=0.0, help="less is not accepted")
    made.add_argument("--share", type=float, default=0.95, help="of requests within their goals")
    made.add_argument("--repeats", type=int, default=1, help="runs of a rate in the search")
    made.add_argument("--tolerance", type=float, default=0.1, help="of the search's bracket")
    made.add_argument("--answers", type=int, default=150, help="counted in a run of the search")
    made.add_argument("--most", type=float, default=1_000.0, help="highest rate to try")
    made.add_argument("--sequences", type=int, default=64, help="most at once, for coefficients")
    made.add_argument("--context", type=int, default=8192, help="tokens, for coefficients")
    made.add_argument("--engine-version", default="unknown", help="for the record")
    made.add_argument("--secret-file", type=Path, help="the engines' secret")
    return made


def _main(given: argparse.Namespace) -> int:
    target = flags.target_of(given)
    _ = target.address
    schemas.checks(scenarios.load(given.scenario))
    if given.minutes <= 0 or given.gpu_hour < 0 or given.gpus < 1:
        template = "--minutes above 0, --gpu-hour not below 0, --gpus at least 1"
        raise ScenarioError(Worded("acceptance.bounds", template))
    asked = Asked(url=given.url, model=given.model, scenario=given.scenario, card=given.card)
    results.prepare(given.out)
    try:
        steps.card(given.card)
        state = values.read(given.out, asked)
    except (ProfileError, Different) as error:
        raise ScenarioError(of(error)) from None
    fresh = tuple(Step(name=name) for name in NAMES)
    state = state or State(asked=asked, began_s=time.time(), steps=fresh)
    ground = Ground(given, target, given.out, state, 0.0)
    return _through(ground)


def _through(ground: Ground) -> int:
    """All steps that are still to do."""
    is_stopped = False
    for name in NAMES:
        state = ground.state
        if is_stopped and name != VERDICT:
            break
        if state.step(name).status == "done" and name not in ALWAYS:
            before = state.step(name)
            words = unpacked(before.said, before.words)
            _say(name, Worded("acceptance.before", "was done before: {words}", words=words))
            continue
        budget_s = _budget(ground, name)
        if budget_s < LEAST_S and name != VERDICT:
            minutes = f"{ground.given.minutes:g}"
            why = Worded("acceptance.no_time", "no time left of {minutes} minutes", minutes=minutes)
            did, took_s = Did("stopped", why), 0.0
        else:
            did, took_s = _one(ground._replace(budget_s=budget_s), name)
        is_stopped = is_stopped or did.status == "stopped"
        changed = Step(name=name, status=did.status, seconds=state.step(name).seconds + took_s,
                       words=did.words, said=packed(did.words), found=did.found)  # fmt: skip
        ground = ground._replace(state=state.with_step(changed))
        _write(ground)
        template, seconds = "{mark} in {seconds} s: {words}", f"{took_s:.0f}"
        _say(name, Worded("acceptance.ended", template, mark=page.MARKS[did.status],
                          seconds=seconds, words=did.words))  # fmt: skip
    print(page.report(ground.state, spoken()))
    if is_stopped:
        return flags.STOPPED
    return int(any(step.status != "done" for step in ground.state.steps))


def _one(ground: Ground, name: str) -> tuple[Did, float]:
    """One step, and how long it took. Raises TargetError of the first look only."""
    began_s = time.monotonic()
    _say(name, Worded("acceptance.most", "at most {seconds} s", seconds=f"{ground.budget_s:.0f}"))
    try:
        did = steps.RUNS[name](ground)
    except (Stopped, KeyboardInterrupt):
        did = Did("stopped", Worded("acceptance.ctrl_c", "by Ctrl-C"))
    return did, round(time.monotonic() - began_s, 1)


def _budget(ground: Ground, name: str) -> float:
    """Seconds of a step: its bound, within what is left of all."""
    given = ground.given
    own = {COEFFICIENTS: given.coefficients_s, SEARCH: given.search_s}.get(name, steps.ASK_S)
    return float(max(0.0, min(own, given.minutes * 60 - ground.state.spent_s)))


def _write(ground: Ground) -> None:
    values.write(ground.out, ground.state)
    for name, language in REPORTS.items():
        results.put(ground.out / name, page.report(ground.state, language).encode())


def _say(name: str, words: str) -> None:
    colon = "：" if spoken() == "zh" else ": "
    print(f"{name}{colon}{tell(words, spoken())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
