"""The steps of an acceptance, in their order; each tells a status, words and what it found."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.acceptance import child, verdict
from benchmarks.acceptance.values import State, Status
from benchmarks.load import probing, results
from benchmarks.load.capacity import Found, sentence
from benchmarks.load.report import goals
from benchmarks.load.search import FOUND
from benchmarks.load.wire import Connections, Failed, Target, TargetError
from models import profiles
from models.capacity import Profile
from models.worded import Worded, joined, of

PROBE, COEFFICIENTS, SEARCH, VERDICT = "probe", "coefficients", "search", "verdict"
NAMES = (PROBE, COEFFICIENTS, SEARCH, VERDICT)
MEASURE_SHARE = 0.85
"""Of the step's time that measuring may take: the rest is for the closed loop after it."""
ASK_S = 60.0


class Ground(NamedTuple):
    """What a step needs."""

    given: argparse.Namespace
    target: Target
    out: Path
    state: State
    budget_s: float


class Did(msgspec.Struct, frozen=True):
    """What came of a step."""

    status: Status
    words: str
    found: dict[str, Any] = {}


def probe(ground: Ground) -> Did:
    """Is it there, does it take the key, and does it answer once. Raises TargetError."""
    notes = asyncio.run(probing.probe(ground.target))
    took_s, tokens = asyncio.run(_once(ground.target))
    found = {"notes": notes, "first_answer_s": round(took_s, 3), "tokens": tokens}
    template, seconds = "answers in {seconds} s", f"{took_s:.2f}"
    words = Worded("acceptance.answers", template, seconds=seconds)
    return Did("done", joined([words, *notes]), found)


async def _once(target: Target) -> tuple[float, int]:
    """Seconds of one short answer, and its tokens. Raises TargetError."""
    connections = Connections(target)
    loop = asyncio.get_running_loop()
    body = msgspec.json.encode({
        "model": target.model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}],
    })  # fmt: skip
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    data = target.head("POST", f"{target.base}/chat/completions", head).encode("latin-1") + body
    began_s = loop.time()
    try:
        status, answer = await connections.whole(data, began_s + ASK_S)
    except Failed as failed:
        template, why = "{url}: a first answer did not come: {why}", of(failed)
        raise TargetError(
            Worded("acceptance.no_answer", template, url=target.url, why=why)
        ) from None
    finally:
        connections.close()
    if status != 200:
        told = answer[:160].decode("utf-8", "replace")
        template = "{url}: a first answer is refused ({status}): {told}"
        raise TargetError(
            Worded("acceptance.refused", template, url=target.url, status=status, told=told)
        )
    try:
        tokens = int(msgspec.json.decode(answer)["usage"]["completion_tokens"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        tokens = 0
    return loop.time() - began_s, tokens


def coefficients(ground: Ground) -> Did:
    """Step times of the live engine by `ballast models profile`, fitted from what was measured."""
    given, target = ground.given, ground.target
    url = f"{target.url.rstrip('/').removesuffix('/v1')}/v1"
    words = ["models", "profile", url, "--model", target.model, "--json",
             "--budget", f"{ground.budget_s * MEASURE_SHARE:.0f}",
             "--sequences", str(given.sequences), "--context", str(given.context)]  # fmt: skip
    words += ["--key-env", given.key_env] if given.key_file is None and target.key else []
    words += ["--secret-file", str(given.secret_file)] if given.secret_file else []
    if (named := profiles.NAME.fullmatch(given.card)) is not None:
        card = f"{named['card']}/{named['variant']}"
        words += ["--card", card, "--gpu", named["gpu"], "--tensor", named["tensor"]]
        words += ["--version", given.engine_version, "--into", str(ground.out / "cards")]
    ended = child.run("ballast", words, ground.budget_s, ground.out / "coefficients.log")
    if ended.code or ended.is_over:
        return Did("failed", _why(ended))
    learnt = msgspec.json.decode(ended.out)
    template = (
        "{points} points explained within {error} on average: {base} ms a step, {sequence} us a "
        "sequence, {prompt} ms a thousand tokens of prompt"
    )
    words_of = Worded(
        "acceptance.fitted", template, points=learnt["points"],
        error=f"{learnt['mean_error']:.1%}", base=f"{learnt['base_ms']:.2f}",
        sequence=f"{learnt['per_sequence_ms'] * 1e3:.0f}",
        prompt=f"{learnt['per_kilo_prefill_ms']:.1f}",
    )  # fmt: skip
    return Did("done", words_of, {"learnt": learnt})


def search(ground: Ground) -> Did:
    """The highest rate within the goal, by `bench capacity`."""
    given, folder = ground.given, ground.out / "capacity"
    words = ["capacity", given.scenario, "--url", given.url, "--model", given.model,
             "--out", str(folder), "--key-env", given.key_env, "--repeats", str(given.repeats),
             "--tolerance", str(given.tolerance), "--share", str(given.share),
             "--most", str(given.most), "--seed", str(given.seed),
             "--answers", str(given.answers)]  # fmt: skip
    first = given.rate or given.rate_wanted or None
    for name, value in {
        "rate": first, "duration_s": given.duration_s, "warmup_s": given.warmup_s,
        "drain_s": given.drain_s,
    }.items():  # fmt: skip
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    for name in ("tokenizer", "ca_file", "key_file"):
        value = getattr(given, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    (folder / FOUND).unlink(missing_ok=True)
    ended = child.run("benchmarks.load", words, ground.budget_s, ground.out / "search.log")
    try:
        found = msgspec.json.decode((folder / FOUND).read_bytes(), type=Found)
        result = results.read(folder)[0]
    except (OSError, msgspec.DecodeError, results.ResultsError):
        return Did("failed", _why(ended))
    total = result.summary.total
    told = {"rate": found.rate, "above": found.above, "runs": len(found.tried),
            "output_tokens_per_s": total.tokens_per_s if found.rate else 0.0,
            "is_narrow": not ended.is_over}  # fmt: skip
    words_of = sentence(found, given.model, goals(result.scenario))
    if ended.is_over:
        template = "{sentence} (its time was over: the bracket is wider than asked)"
        words_of = Worded("acceptance.over", template, sentence=words_of)
    if found.rate is None:
        return Did("failed", words_of, told)
    return Did("done", words_of, told)


def judge(ground: Ground) -> Did:
    """Money, and the engine against its card. Takes no time of the engine."""
    given, state = ground.given, ground.state
    rent = verdict.Rent(given.gpu_hour, given.gpus, given.currency)
    learnt = state.step(COEFFICIENTS).found.get("learnt")
    profile = card(given.card)
    rows = verdict.compared(profile, learnt) if profile is not None and learnt else []
    rate = state.step(SEARCH).found.get("rate")
    is_good, why = verdict.judged(rows, rate, given.rate_wanted)
    if profile is not None and not learnt:
        template = "the card was not compared: no coefficients"
        is_good, why = False, joined([Worded("acceptance.not_compared", template), why])
    rented_s = time.time() - state.began_s
    each = verdict.per_mtok(rent, state.step(SEARCH).found.get("output_tokens_per_s", 0.0))
    found = {
        "is_accepted": is_good, "compared": msgspec.to_builtins(rows, enc_hook=str),
        "steps_cost": verdict.cost(rent, state.spent_s), "rent_cost": verdict.cost(rent, rented_s),
        "rented_s": round(rented_s, 1), "currency": rent.currency, "per_mtok": each,
    }  # fmt: skip
    told = Worded("acceptance.refused_it", "not accepted: {why}", why=why)
    if is_good:
        told = Worded("acceptance.accepted", "accepted: {why}", why=why)
    return Did("done" if is_good else "failed", told, found)


def card(name: str) -> Profile | None:
    """The profile named; None where none is. Raises ProfileError."""
    return profiles.named(name) if name else None


def _why(ended: child.Ended) -> str:
    """In one line."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.tail)
    last = next((line.strip() for line in reversed(plain.splitlines()) if line.strip()), "")
    words: str = last[:200] or Worded("acceptance.silent", "silent")
    code = Worded("acceptance.exit", "exit {code}: {words}", code=ended.code, words=words)
    over = [Worded("acceptance.time_over", "its time was over")] if ended.is_over else []
    return joined([*over, code])


RUNS: dict[str, Callable[[Ground], Did]] = {
    PROBE: probe, COEFFICIENTS: coefficients, SEARCH: search, VERDICT: judge,
}  # fmt: skip
