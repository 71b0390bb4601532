"""The simulated engine held against every published point: `python -m benchmarks.scaling.points`.

A closed loop of as many callers as were measured, in steady state; a burst of all prompts at once.
The profile is what the capacity model says of that card, GPU and layout, so an error here is the
model's and the simulator's together; docs/capacity.md has the model's alone. What a prompt costs
beside its tokens, which a profile has no place for, is laid on its tokens: all are of one length.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean, median
from typing import NamedTuple

from msgspec.structs import replace

from autoscale.engines import Engine, Sequence
from models import measured, profiles, sizing, validation
from models.capacity import Profile
from models.measured import Burst, Point, Subject

ROUNDS = 6
"""Answers of each caller; the first is not steady."""
GAP_S = 0.05
"""Between the callers' first calls."""


class Seen(NamedTuple):
    """A point beside its simulation; errors as shares, simulated / measured - 1."""

    name: str
    what: str
    simulated: float
    measured: float

    @property
    def error(self) -> float:
        """Of the simulation."""
        return self.simulated / self.measured - 1.0


def loop(one: Profile, callers: int, prompt: int, output: int) -> tuple[float, float, float]:
    """Seconds to first token and per token in the median of a closed loop's steady answers, and
    its output tokens a second."""
    engine, keys, firsts, tokens = Engine(one, 0.0), callers, [], []
    asked_s = {key: key * GAP_S for key in range(callers)}
    for key in range(callers):
        engine.add(Sequence(key, prompt, output), key * GAP_S)
    began_s = now_s = 0.0
    for done in range(ROUNDS * callers):
        now_s = engine.next_s()
        for ended in engine.ended(now_s):
            if done >= callers:
                firsts.append(ended.first_s - asked_s[ended.key])
                tokens.append((now_s - ended.first_s) / max(1, output - 1))
            else:
                began_s = now_s
            asked_s[keys] = now_s
            engine.add(Sequence(keys, prompt, output), now_s)
            keys += 1
    return median(firsts), median(tokens), len(firsts) * output / (now_s - began_s)


def burst(one: Profile, prompt: int, output: int, count: int) -> float:
    """Requests a second when all prompts come at once."""
    engine, done, now_s = Engine(one, 0.0), 0, 0.0
    for key in range(count):
        engine.add(Sequence(key, prompt, output), 0.0)
    while done < count:
        now_s = engine.next_s()
        done += len(engine.ended(now_s))
    return count / now_s


def seen() -> Iterator[Seen]:
    """All that can be compared: times where they were published, else the rate."""
    known, all_ = sizing.load(), measured.load()
    for point in all_.points:
        if not point.not_compared and point.concurrency is not None:
            yield from _point(known, point, point.concurrency)
    for one in all_.bursts:
        yield _burst(known, one)


def _point(known: sizing.Knowledge, point: Point, callers: int) -> Iterator[Seen]:
    profile = profile_of(known, point, callers)
    first_s, token_s, rate = loop(profile, callers, point.prompt_tokens, point.output_tokens)
    name = f"{_name(point)}, {callers}"
    if point.per_token_ms is not None:
        yield Seen(name, "token ms", token_s * 1e3, point.per_token_ms)
    elif point.output_tokens_per_s is not None:
        yield Seen(name, "tokens/s", rate, point.output_tokens_per_s)
    if point.first_token_ms is not None:
        yield Seen(name, "first ms", first_s * 1e3, point.first_token_ms)


def _burst(known: sizing.Knowledge, one: Burst) -> Seen:
    profile = profile_of(known, one, one.requests)
    rate = burst(profile, one.prompt_tokens, one.output_tokens, one.requests)
    return Seen(f"{_name(one)}, all at once", "requests/s", rate, one.requests_per_s)


def profile_of(known: sizing.Knowledge, one: Subject, callers: int) -> Profile:
    """The engine that was measured."""
    layout, prompt = validation.layout_of(known, one, callers), one.prompt_tokens
    model = sizing.model_of(known, layout)
    prompt_token_s = model.prefill_s(prompt) + model.per_prompt_s / max(1, prompt)
    profile = profiles.profile_for(known, layout)
    return replace(profile, per_prefill_token_s=prompt_token_s / layout.data)


def _name(one: Point | Burst) -> str:
    what = f"{one.card} {one.variant}, {one.tensor} x {one.gpu}, {one.engine}"
    return f"{what}, {one.prompt_tokens}/{one.output_tokens}"


def main() -> None:
    """Print them, and the mean error of each kind."""
    rows = list(seen())
    for row in rows:
        print(f"| {row.name} | {row.what} | {row.simulated:.3g} / {row.measured:.3g} |"
              f" {row.error:+.1%} |")  # fmt: skip
    for what in sorted({row.what for row in rows}):
        sizes = [abs(row.error) for row in rows if row.what == what]
        print(f"{what}: {len(sizes)}, mean {mean(sizes):.1%}, median {median(sizes):.1%}")


if __name__ == "__main__":
    main()
