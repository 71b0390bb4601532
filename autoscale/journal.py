"""The controller's record: one JSON line per tick, inputs and outputs, in two bounded files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from autoscale.acts import Act, AskedOf
from autoscale.actuators import serve_rule
from autoscale.memory import Memory
from autoscale.policy import Policy
from autoscale.records import Decision, Hold, Tick
from autoscale.step import Outcome, step
from autoscale.windows import GAP_MS_MAX
from models.worded import packed

FILE_BYTES_MAX = 8 << 20
WHOLE_EACH = 240
"""Ticks between lines that hold memory and policy; the others lean on the line before."""
RECENT = 256


class Entry(msgspec.Struct, frozen=True):
    """One decision as `/decisions` shows it."""

    at_ms: int
    model: str
    decision: str
    reason: str
    replicas: int = -1
    """Wanted; -1: as it is."""
    said: Mapping[str, Any] | None = None
    """The reason by code and values (`models.worded`), for who tells it in another language; None
    for one that was read back from the file, which holds English alone."""


class Journal:
    """Appends ticks to `ticks.jsonl`; a full file becomes `ticks.old.jsonl`. Not durable."""

    def __init__(self, folder: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = folder / "ticks.jsonl"
        self._bytes_max = bytes_max
        self._since_whole = 0
        """Lines since one that stands alone; 0: the next one must."""
        self._policy: Policy | None = None
        self.recent: deque[Entry] = deque(maxlen=RECENT)

    def show(self, tick: Tick) -> None:
        """Keep a tick for `/decisions` only: it is not ours to write."""
        self._remember(tick)
        self._since_whole = 0

    def left(self, policy: Policy, at_ms: int) -> tuple[Memory, AskedOf]:
        """What the last leader on this folder knew at its end, found by replay. Nothing if it is
        too old, was under other settings, or cannot be read."""
        self._since_whole = 0
        try:
            ticks = read(self._path)
            *_, (last, outcome) = replayed(ticks)
        except (OSError, ValueError):  # no file, or no line in it that stands alone
            return Memory(), {}
        asked = asked_after(last)
        is_news = 0 <= at_ms - last.samples.at_ms <= GAP_MS_MAX
        known = [tick.policy for tick in ticks if tick.policy is not None]
        if not is_news or known[-1] != policy:
            return Memory(), {}
        return outcome.memory, asked

    def write(self, tick: Tick) -> None:
        """Append one tick, with memory and policy. Raises OSError when the disk refuses."""
        self._remember(tick)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._path.exists() and self._path.stat().st_size >= self._bytes_max:
            self._path.replace(self._path.with_suffix(".old.jsonl"))
            self._since_whole = 0
        if not self._since_whole or tick.policy != self._policy:
            self._since_whole, self._policy = WHOLE_EACH, tick.policy
        else:
            tick = msgspec.structs.replace(tick, policy=None, memory=None)
        since, self._since_whole = self._since_whole, 0  # a line that failed is leant on by none
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
            is_cut = file.read(1) not in (b"", b"\n")  # by a crash: it must not take ours along
            file.write(b"\n" * is_cut + msgspec.json.encode(tick, enc_hook=str) + b"\n")
        self._since_whole = since - 1

    def _remember(self, tick: Tick) -> None:
        """Keep decisions for `/decisions`; a repeated one only moves its time on."""
        for decision in tick.decisions:
            at_ms, why = tick.samples.at_ms, decision.reason
            wanted = -1 if isinstance(decision, Hold) else decision.replicas
            entry = Entry(at_ms, decision.model, words(decision), str(why), wanted, packed(why))
            last = next((e for e in reversed(self.recent) if e.model == entry.model), None)
            if last is not None and (last.decision, last.reason) == (entry.decision, entry.reason):
                self.recent.remove(last)
            self.recent.append(entry)


def words(decision: Decision) -> str:
    """`hold` or `scale to n`."""
    return "hold" if isinstance(decision, Hold) else f"scale to {decision.replicas}"


def read(path: Path) -> list[Tick]:
    """All ticks of one file, for replay. A line cut by a crash is left out: the next one stands
    alone. Raises msgspec.DecodeError for another that cannot be read, or OSError."""
    found: list[Tick] = []
    cut: msgspec.DecodeError | None = None
    for line in path.read_bytes().splitlines():
        try:
            tick = msgspec.json.decode(line, type=Tick)
        except msgspec.DecodeError as error:
            cut = error
            continue
        if cut is not None and tick.memory is None:
            raise cut
        cut = None
        found.append(tick)
    return found


def replay(ticks: Iterable[Tick]) -> Iterator[tuple[Tick, tuple[Decision, ...]]]:
    """Each tick beside what `step` decides on it today. Lines before the first that stands alone
    are left out."""
    for tick, outcome in replayed(ticks):
        yield tick, outcome.decisions


def replayed(ticks: Iterable[Tick]) -> Iterator[tuple[Tick, Outcome]]:
    """As `replay`, with what `step` would remember."""
    memory: Memory | None = None
    policy: Policy | None = None
    for tick in ticks:
        memory = memory if tick.memory is None else tick.memory
        policy = policy if tick.policy is None else tick.policy
        if memory is not None and policy is not None:
            outcome = step(tick.samples, memory, policy)
            memory = outcome.memory
            yield tick, outcome


def replayed_acts(tick: Tick) -> tuple[Act, ...]:
    """What the Serve actuator made of a tick, computed anew from what it knew and from the errors
    of its writes. Other actuators' acts are taken as they stand: they rest on what they saw."""
    return tuple(
        act if act.actuator != serve_rule.NAME else verdict.act
        for act, verdict in zip(tick.acts, _verdicts(tick), strict=True)
    )


def asked_after(tick: Tick) -> AskedOf:
    """What Serve had been asked for when the tick was over."""
    asked = dict(tick.asked or {})
    for act, verdict in zip(tick.acts, _verdicts(tick), strict=True):
        if act.actuator == serve_rule.NAME and verdict.asked is not None:
            asked[act.model] = verdict.asked
    return asked


def _verdicts(tick: Tick) -> list[serve_rule.Verdict]:
    """One for each act; empty ones for acts of other actuators."""
    decisions = {decision.model: decision for decision in tick.decisions}
    found = []
    for act in tick.acts:
        if act.actuator != serve_rule.NAME:
            found.append(serve_rule.Verdict(act, None))
            continue
        old = (tick.asked or {}).get(act.model)
        seen = (tick.samples.engines or {}).get(act.model)
        extra = tick.samples.leaving.get(act.model, 0)
        decision, at_ms = decisions[act.model], tick.samples.at_ms
        verdict = serve_rule.judge(decision, seen, old, at_ms, extra)
        kind = act.outcome if act.error else ""
        found.append(serve_rule.settled(verdict, old, kind, act.error))
    return found
