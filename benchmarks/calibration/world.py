"""An engine under load on a virtual clock, with the gateway's own admission and prediction before
it. The engine is the scheduler of the fake one: continuous batching, paged memory, preemption."""

from __future__ import annotations

import math
import random

import msgspec

from models.capacity import Estimate, Profile
from serving.admission import Admission, Took
from serving.choice import IDLE, predict
from serving.fakes import scheduler
from serving.records import (
    Call,
    DataLabel,
    FleetView,
    LatencyClass,
    Replica,
    Run,
    Surface,
    Ticket,
    Usage,
)

MODEL = "m"
OFF = 0.3
"""Each coefficient is off by up to this, by itself."""
DRIFT_SPEED, DRIFT_LENGTH = 1.2, 1.3
"""From the middle on, steps take so much longer, and answers are so much longer."""
PROMPT_MEDIAN, PROMPT_SIGMA = 900.0, 1.0
OUTPUT_MEDIAN, OUTPUT_SIGMA = 250.0, 0.7
LENGTH_ERROR_SIGMA = 0.1
"""Of a prompt's length as estimated from its bytes."""
WIRE_S = 0.003
POLL_S = 1.0


class Seen(msgspec.Struct, frozen=True):
    """One call: what was predicted, and what came."""

    at_s: float
    said: Estimate
    first_s: float
    whole_s: float


class World:
    """An engine under load with a gateway before it."""

    def __init__(self, known: Profile, true: Profile, seed: int) -> None:
        self._lots = random.Random(seed)
        self._engine = scheduler.Scheduler(true)
        self._admission = Admission()
        label = DataLabel("cn", "self", on_premises=True)
        self._replica = Replica("r", MODEL, "h", 1, "", label, known, 1 << 20)
        self._admission.know("r")
        self._view = FleetView(
            replicas={MODEL: (self._replica,)}, state=self._admission.state, stale_s=10.0
        )
        self._open: dict[int, tuple[Ticket, Call, tuple[int, int]]] = {}
        self._first: dict[int, float] = {}
        self.seen: list[Seen] = []

    def run(self, calls: int, rate: float, drift: tuple[Profile, float]) -> list[Seen]:
        """So many calls at `rate` a second; half-way the engine becomes another one, and the rate
        with it."""
        now_s, next_s, poll_s, sent, end_s = 0.0, 0.0, 0.0, 0, math.inf
        step: scheduler.Step | None = None
        stretch = 1.0
        while sent < calls or self._open:
            now_s = min(next_s if sent < calls else math.inf, end_s, poll_s)
            if now_s == end_s and step is not None:
                self._commit(step, now_s)
                step, end_s = None, math.inf
            elif now_s == poll_s:
                self._admission.reported("r", self._engine.load(), now_s)
                poll_s += POLL_S
            else:
                if sent == calls // 2:
                    self._engine.profile, rate, stretch = drift[0], drift[1], DRIFT_LENGTH
                self._send(sent, now_s, stretch)
                sent += 1
                next_s = now_s + self._lots.expovariate(rate)
            if step is None:
                step = self._engine.plan()
                end_s = math.inf if step is None else now_s + step.duration_s
        return self.seen

    def _send(self, key: int, now_s: float, stretch: float) -> None:
        prompt, output = lengths(self._lots, stretch)
        told = max(1, round(prompt * self._lots.lognormvariate(0.0, LENGTH_ERROR_SIGMA)))
        call = Call(
            f"{key:032x}", Surface.CHAT, "t", MODEL, MODEL, {}, now_s, 0, now_s + 1e9, now_s + 1e9,
            LatencyClass.PATIENT, b"", 0, told, None, True, False, key,
        )  # fmt: skip
        state = self._view.state.get("r", IDLE)
        said = predict(call, self._replica, state, self._view, now_s)
        ticket = self._admission.issue(call, Run(self._replica, "local", said), 1, now_s)
        # As the engine's head does: it leaves before the call is taken in.
        self._admission.reported("r", self._engine.load(), now_s, told)
        self._engine.add(scheduler.Sequence(key, prompt))
        self._open[key] = (ticket, call, (prompt, output))

    def _commit(self, step: scheduler.Step, now_s: float) -> None:
        for sequence in self._engine.commit(step):
            ticket, call, (prompt, output) = self._open[sequence.key]
            at_s = now_s + WIRE_S
            if sequence.key not in self._first:
                self._first[sequence.key] = at_s - ticket.issued_s
                self._admission.opened(ticket, at_s, is_stream=True)
            if sequence.generated >= output:
                self._engine.remove(sequence.key)
                took = Took(self._first.pop(sequence.key), at_s - ticket.issued_s)
                del self._open[sequence.key]
                self._admission.release(ticket, call)
                self._admission.settled(ticket, call, Usage(prompt, output), took)
                assert ticket.estimate is not None
                self.seen.append(Seen(ticket.issued_s, ticket.estimate, *took))


def lengths(lots: random.Random, stretch: float) -> tuple[int, int]:
    """Tokens of a prompt and of its answer."""
    prompt = lots.lognormvariate(math.log(PROMPT_MEDIAN), PROMPT_SIGMA)
    output = lots.lognormvariate(math.log(OUTPUT_MEDIAN * stretch), OUTPUT_SIGMA)
    return max(1, min(32_000, round(prompt))), max(1, min(8_000, round(output)))


def capacity(true: Profile, stretch: float, calls: int = 6000) -> float:
    """Calls a second that the engine serves when some always wait."""
    lots, engine = random.Random(7), scheduler.Scheduler(true)
    output, now_s, ended, began_s = {}, 0.0, 0, 0.0
    for key in range(calls):
        prompt, output[key] = lengths(lots, stretch)
        engine.add(scheduler.Sequence(key, prompt))
    while ended < calls * 3 // 4:
        step = engine.plan()
        assert step is not None
        now_s += step.duration_s
        for sequence in engine.commit(step):
            if sequence.generated >= output[sequence.key]:
                engine.remove(sequence.key)
                ended += 1
                if ended == calls // 4:
                    began_s = now_s
    return (calls // 2) / (now_s - began_s)


def off(profile: Profile, seed: int) -> Profile:
    """The profile with each coefficient off by up to `OFF`."""
    lots = random.Random(seed)
    names = ("base_s", "per_sequence_s", "per_context_token_s", "per_prefill_token_s")
    return msgspec.structs.replace(
        profile, **{n: getattr(profile, n) * lots.uniform(1 - OFF, 1 + OFF) for n in names}
    )


def slower(profile: Profile) -> Profile:
    """After the drift."""
    names = ("base_s", "per_sequence_s", "per_context_token_s", "per_prefill_token_s")
    return msgspec.structs.replace(profile, **{n: getattr(profile, n) * DRIFT_SPEED for n in names})
