"""Flags that the commands share, and how failures leave: one line on standard error, an exit code.

0 done   1 done, but invalid, or a demanded goodput was missed   2 flags, scenario or trace
3 target   4 results cannot be written or read   130 stopped by Ctrl-C, with a partial report
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.machine import Provenance, provenance
from benchmarks.load.crew import CrewError
from benchmarks.load.results import ResultsError
from benchmarks.load.schemas import checks
from benchmarks.load.values import Scenario, ScenarioError, checked, load
from benchmarks.load.wire import Target, TargetError
from benchmarks.load.wording import spoken, text, word
from benchmarks.telling import tell
from models.worded import Worded, of

INVALID, USAGE, TARGET, RESULTS, STOPPED = 1, 2, 3, 4, 130
PROCESSES_MAX = 256
RATELESS = ("trace", "ledger", "closed")


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of `run` and `capacity`."""
    parser.add_argument("scenario", help="YAML file, or a packaged scenario's name")
    parser.add_argument("--url", required=True, help="base URL, with or without /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--key-env", default="LOAD_TEST_KEY", metavar="NAME",
                        help="variable that holds the API key, best a load-test key")  # fmt: skip
    parser.add_argument("--key-file", type=Path, help="file that holds the API key, instead")
    parser.add_argument("--forwarder", action="store_true",
                        help="a trusted forwarder's key: send each kind's feature")  # fmt: skip
    parser.add_argument("--pin", default="", metavar="TARGET",
                        help="provider/model that alone may answer; canaries' keys")  # fmt: skip
    parser.add_argument("--ca-file", default="", help="certificates to trust, for https")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--same-texts", action="store_true",
                        help="of the seed alone: the target's cache may know them")  # fmt: skip
    parser.add_argument("--processes", type=int, default=0, help="0 = as many as the rate needs")
    parser.add_argument("--tokenizer", default="", metavar="WHAT",
                        help="qwen:MODEL, a checkpoint's folder, bytes")  # fmt: skip
    parser.add_argument("--rate", type=float, help="conversations a second, instead of the file's")
    parser.add_argument("--size", help="rate of one of the scenario's sizes: poc, beta, scale")
    parser.add_argument("--duration-s", type=float, help="instead of the file's")
    parser.add_argument("--warmup-s", type=float, help="instead of the file's")
    parser.add_argument("--drain-s", type=float, help="instead of the file's")
    parser.add_argument("--trace", help="FILE[@FROM-UNTIL] to take the arrivals from")
    parser.add_argument("--ledger", help="settings file whose ledger to take the arrivals from")
    parser.add_argument("--speed", type=float, help="of trace or ledger")
    parser.add_argument("--concurrency", type=int, help="closed loop with so many at a time")


def scenario_of(given: argparse.Namespace) -> Scenario:
    """The file's scenario with the flags' changes. Raises ScenarioError."""
    _agree(given)
    scenario = load(given.scenario)
    arrivals, change = scenario.arrivals, msgspec.structs.replace
    if given.size is not None:
        if given.size not in scenario.sizes:
            known = [*scenario.sizes] or Worded("scenario.no_sizes", "none")
            template = "--size {size}: this scenario has {known}"
            raise ScenarioError(Worded("scenario.size", template, size=given.size, known=known))
        arrivals = change(arrivals, rate=scenario.sizes[given.size])
    if given.rate is not None:
        arrivals = change(arrivals, rate=given.rate)
    if given.concurrency is not None:
        arrivals = change(arrivals, kind="closed", concurrency=given.concurrency)
    if given.trace:
        arrivals = change(arrivals, kind="trace", source=given.trace)
    if given.ledger:
        arrivals = change(arrivals, kind="ledger", source=given.ledger)
    if given.speed is not None:
        if arrivals.kind not in ("trace", "ledger"):
            template = "--speed: of a trace or a ledger; arrivals here are {kind}"
            raise ScenarioError(Worded("scenario.no_speed", template, kind=arrivals.kind))
        arrivals = change(arrivals, speed=given.speed)
    changes = {
        name: value for name in ("duration_s", "warmup_s", "drain_s")
        if (value := getattr(given, name)) is not None
    }  # fmt: skip
    scenario = checked(change(scenario, arrivals=arrivals, **changes))
    checks(scenario)  # a schema that is none, or cannot be checked here, is refused before a run
    return scenario


def with_rate(given: argparse.Namespace, scenario: Scenario) -> Scenario:
    """The scenario of one run, if a rate that was asked for means something in it: a search begins
    at it whatever arrives. Raises ScenarioError."""
    kind = scenario.arrivals.kind
    if (given.rate is not None or given.size is not None) and kind in RATELESS:
        template = "--rate, --size: arrivals of kind {kind} have no rate; {instead}"
        instead = "--concurrency" if kind == "closed" else "--speed"
        raise ScenarioError(Worded("scenario.no_rate", template, kind=kind, instead=instead))
    return scenario


def texts_of(given: argparse.Namespace) -> str:
    """What makes this run's texts its own."""
    return "" if given.same_texts else secrets.token_hex(8)


def target_of(given: argparse.Namespace) -> Target:
    """Where to send. Raises TargetError."""
    key = os.environ.get(given.key_env, "")
    if given.key_file is not None:
        try:
            key = given.key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            template, file = "--key-file {file}: {why}", given.key_file
            raise TargetError(Worded("target.key_file", template, file=file, why=error)) from None
    if not (key.isascii() and (not key or key.isprintable())):
        template = "the key holds characters that no header may carry"
        raise TargetError(Worded("target.key_chars", template))
    if not (given.pin.isascii() and (not given.pin or given.pin.isprintable())):
        template = "--pin holds characters that no header may carry"
        raise TargetError(Worded("target.pin_chars", template))
    return Target(given.url, key, given.model, given.ca_file, given.pin, given.forwarder)


def _agree(given: argparse.Namespace) -> None:
    """Flags of which one would silently do nothing. Raises ScenarioError."""
    kinds = [name for name in ("trace", "ledger", "concurrency") if getattr(given, name)]
    rates = [name for name in ("rate", "size") if getattr(given, name) is not None]
    for pair in (kinds[:2], rates):
        if len(pair) == 2:
            template = "--{one} and --{other}: name one of them, the other would do nothing"
            raise ScenarioError(Worded("scenario.both", template, one=pair[0], other=pair[1]))
    if not 0 <= given.processes <= PROCESSES_MAX:
        template = "--processes: from 0 to {most}"
        raise ScenarioError(Worded("scenario.processes", template, most=PROCESSES_MAX))


def origin(argv: Sequence[str]) -> Provenance:
    """Where figures come from; the key is no flag, so the command may be told."""
    made = provenance(argv, ROOT, {})
    return msgspec.structs.replace(made, command=made.command.replace(".gateway", ".load", 1))


def guarded(work: Callable[[], int]) -> int:
    """Run a command; known failures become one line and a code."""
    try:
        return work()
    except ScenarioError as error:
        return _fail(of(error), USAGE)
    except TargetError as error:
        return _fail(of(error), TARGET)
    except ResultsError as error:
        return _fail(of(error), RESULTS)
    except CrewError as error:
        return _fail(of(error), INVALID)
    except KeyboardInterrupt:
        print(word("stopped", spoken()), file=sys.stderr)
        return STOPPED


def _fail(words: str, code: int) -> int:
    print(text("error", spoken(), words=tell(words, spoken())), file=sys.stderr)
    return code
