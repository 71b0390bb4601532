"""Proof that slow streams pass whole: every event, once, in order, from the right stream.

The upstream numbers the content events of each stream and names the stream in each event; the
verdict on one stream is pure.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

import msgspec

from benchmarks.gateway.client import PROMPT, Broken, Target, connect, request

_SEPARATOR = b"\n\n"
_PREFIX = b"data: "
_DONE = b"[DONE]"
SPARE_S = 30.0
"""A stream may take so much longer than its timetable before it counts as stuck."""


class SlowStreams(NamedTuple):
    """How many streams at once, of how many content events, so many seconds apart."""

    streams: int
    tokens: int
    pace_s: float
    over_s: float = 0.0
    """Their starts are spread over so many seconds; 0 = over one pace."""
    prompt: str = PROMPT

    @property
    def limit_s(self) -> float:
        """When a stream is given up."""
        return self.tokens * self.pace_s + SPARE_S


class Checked(msgspec.Struct):
    """The verdict over all streams."""

    streams: int
    complete: int
    faults: int
    kinds: dict[str, int]
    """How often which fault: lost, reordered or doubled, mixed, cut, refused."""
    first_fault: str
    events: int
    gap_p50_s: float
    """The longest silence within a stream, median over streams; the timetable says `pace_s`."""
    gap_max_s: float


class _Delta(msgspec.Struct):
    content: str = ""


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    id: str
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Event).decode


def fault_of(body: bytes, tokens: int) -> tuple[str, str]:
    """(stream's name, what is wrong with it); an empty fault is a good stream."""
    events = [e.removeprefix(_PREFIX) for e in body.split(_SEPARATOR) if e]
    if not events or events[-1] != _DONE:
        return "", "cut: no [DONE]"
    try:
        parsed = [_decode(e) for e in events[:-1]]
    except msgspec.MsgspecError as error:
        return "", f"cut: {error}"
    names = {e.id for e in parsed}
    if len(names) != 1:
        return "", f"mixed: events of {len(names)} streams"
    name = names.pop()
    choices = [c for e in parsed for c in e.choices]
    texts = [c.delta.content for c in choices if c.finish_reason is None]
    expected = [f" tok{i}" for i in range(tokens)]
    if texts != expected:
        kind = "reordered or doubled" if set(texts) == set(expected) else "lost"
        return name, f"{kind}: {len(texts)} of {tokens} content events"
    if [c.finish_reason for c in choices if c.finish_reason] != ["stop"]:
        return name, "lost: the finish reason"
    return name, ""


async def slow_streams(target: Target, slow: SlowStreams) -> Checked:
    """Open all streams, their starts spread, and check each."""
    gap = (slow.over_s or slow.pace_s) / slow.streams
    found = await asyncio.gather(*(_one(target, slow, i * gap) for i in range(slow.streams)))
    names = Counter(name for name, fault, _, _ in found if not fault)
    faults = [fault for _, fault, _, _ in found if fault]
    faults += [f"mixed: stream {n} came {k} times" for n, k in names.items() if k > 1]
    gaps = sorted(seconds for _, fault, _, seconds in found if not fault) or [0.0]
    return Checked(
        streams=slow.streams,
        complete=slow.streams - len(faults),
        faults=len(faults),
        kinds=dict(Counter(fault.partition(":")[0] for fault in faults)),
        first_fault=faults[0] if faults else "",
        events=sum(events for _, _, events, _ in found),
        gap_p50_s=round(gaps[len(gaps) // 2], 3),
        gap_max_s=round(gaps[-1], 3),
    )


async def _one(target: Target, slow: SlowStreams, delay_s: float) -> tuple[str, str, int, float]:
    """(name, fault, events, longest silence in seconds) of one stream."""
    await asyncio.sleep(delay_s)
    try:
        client = await connect(target)
    except OSError as error:
        return "", f"refused: {error}", 0, 0.0
    try:
        async with asyncio.timeout(slow.limit_s):
            answer = await client.ask(request(target, is_stream=True, prompt=slow.prompt))
    except TimeoutError:
        return "", "cut: not ended in time", 0, 0.0
    except Broken as error:
        return "", f"cut: {error}", 0, 0.0
    finally:
        client.close()
    if answer.status != 200:
        return "", f"refused: status {answer.status} {answer.body[:120]!r}", 0, 0.0
    name, fault = fault_of(answer.body, slow.tokens)
    return name, fault, answer.body.count(_PREFIX), answer.gap_s
