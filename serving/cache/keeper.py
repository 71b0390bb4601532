"""The cache as the pipeline uses it: after the guard, and when an answer is there.

A thin rim: what is kept under which key, and how answers are cut and joined, is decided in the pure
modules. Tenants whose inputs or answers the guard reads are never cached: what it would say today
is not what it said then. A kill switch and a key's residency hold for what is kept as for anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from serving.cache import inputs, keys
from serving.cache.inputs import Inputs, Row
from serving.cache.settings import CacheSettings
from serving.cache.shared import Shared
from serving.cache.shelf import Shelf
from serving.errors import OwnError
from serving.placement.fitness import weights as whose
from serving.progress import Progress, Tail
from serving.records import Charge, FleetView, Outcome, Surface, Usage
from serving.rows import AttemptEnd
from serving.rules import stopped

_T = TypeVar("_T")
_SURFACES = frozenset({Surface.EMBEDDINGS, Surface.RERANK})
_PROVEN = frozenset({"own", "same"})
"""Whose whole answers are kept: a key names the model's weights, so other ones must not be found
there, and an owner's word does not prove them."""
_pack = msgspec.msgpack.Encoder().encode


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer as it is kept."""

    body: bytes
    usage: Usage
    charge: Charge


class Plan(msgspec.Struct, frozen=True):
    """What is to be done with a call's answer."""

    keys: tuple[bytes, ...]
    inputs: Inputs | None = None
    """None of a whole answer."""
    known: dict[int, Row] = {}
    unknown: tuple[int, ...] = ()


_row = msgspec.json.Decoder(Row).decode  # its members are JSON as it came
_pack_row = msgspec.json.Encoder().encode
_whole = msgspec.msgpack.Decoder(Whole).decode


class Cache:
    """Of one process, before one of all processes if there is one."""

    def __init__(
        self, settings: CacheSettings, weights: Mapping[str, bytes],
        view: Callable[[], FleetView], clock: Callable[[], float], shared: Shared | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._weights = weights
        self._view = view
        self._clock = clock
        self._shared = shared
        self._inputs = Shelf(settings.inputs_bytes_max, settings.inputs_ttl_s)
        self._answers = Shelf(settings.answers_bytes_max, settings.answers_ttl_s)

    async def find(self, progress: Progress) -> Tail | None:
        """The answer, if all of it is known; else the call may be cut down to what is not."""
        call = progress.call
        is_pooled = call.surface in _SURFACES
        if progress.verdict is not None or not self._may(progress, is_pooled=is_pooled):
            return None
        if (stops := self._view().stops) is not None and stopped(call, stops):
            return None  # placement refuses it
        if is_pooled:
            return await self._find_inputs(progress)
        mark = keys.base(call, progress.caller, self._weights[call.model], ("model",)).digest()
        progress.cache = Plan((mark,))
        kept = _read((await self._get(self._answers, [mark]))[0], _whole)
        if kept is None:
            return None
        return _hit(progress, kept.body, kept.usage, kept.charge)

    def _may(self, progress: Progress, *, is_pooled: bool) -> bool:
        if is_pooled:
            is_measured = bool(progress.call.pin) and not progress.call.batch
            return bool(self._settings.inputs_bytes_max) and not is_measured
        return keys.may_keep(progress.call, self._settings)

    async def _find_inputs(self, progress: Progress) -> Tail | None:
        call = progress.call
        asked = inputs.read(call)
        if asked is None:
            return None
        without = (*asked.beside, "model")
        base = keys.base(call, progress.caller, self._weights[call.model], without)
        marks = tuple(_mark(base, one) for one in asked.each)
        found = await self._get(self._inputs, marks)
        known = {place: row for place, data in enumerate(found) if (row := _read(data, _row))}
        unknown = tuple(place for place in range(len(marks)) if place not in known)
        progress.cache = Plan(marks, asked, known, unknown)
        if unknown:
            if known or asked.top_n is not None:
                progress.call = inputs.reduced(call, asked, unknown)
            return None
        tokens = sum(row.tokens for row in known.values())
        body = inputs.joined(call, asked, known, {}, tokens)
        return _hit(progress, body, Usage(tokens, 0, tokens), saved(known.values()))

    async def kept(self, progress: Progress, tail: Tail) -> Tail:
        """Keep what a good answer taught, and join it with what was known."""
        plan, attempt = progress.cache, progress.attempt
        if plan is None or not progress.attempts or tail.status != 200 or tail.is_stream:
            return tail
        if plan.inputs is None:
            is_short = len(tail.body) <= self._settings.answer_bytes_max
            if is_short and attempt is not None and whose(attempt.ticket.target) in _PROVEN:
                whole = Whole(tail.body, progress.usage, _charge(progress))
                await self._put(self._answers, [(plan.keys[0], _pack(whole))])
            return tail
        return await self._join(progress, plan, plan.inputs, tail)

    async def _join(self, progress: Progress, plan: Plan, asked: Inputs, tail: Tail) -> Tail:
        call = progress.call
        rows = inputs.rows(call, tail.body, len(plan.unknown))
        is_whole = not plan.known and asked.top_n is None
        if rows is None:
            if is_whole:
                return tail
            raise OwnError("upstream_unavailable", "the target answered for other inputs")
        fresh = _shares(
            asked, plan.unknown, rows, (progress.usage.prompt_tokens, _charge(progress))
        )
        await self._put(
            self._inputs, [(plan.keys[place], _pack_row(row)) for place, row in fresh.items()]
        )
        if is_whole:
            return tail
        cached = sum(row.tokens for row in plan.known.values())
        head = inputs.head_of(call, tail.body)
        body = inputs.joined(call, asked, {**plan.known, **fresh}, head, cached)
        progress.saved = saved(plan.known.values())
        told = progress.usage
        progress.usage = msgspec.structs.replace(
            told, prompt_tokens=told.prompt_tokens + cached,
            cached_tokens=told.cached_tokens + cached,
        )  # fmt: skip
        said = b"x-ballast-cache: %d/%d\r\n" % (len(plan.known), len(asked.each))
        return Tail(200, body, tail.head + said if plan.known else tail.head, is_stream=False)

    async def _get(self, shelf: Shelf, marks: Sequence[bytes]) -> list[bytes | None]:
        now_s = self._clock()
        found = [shelf.get(mark, now_s) for mark in marks]
        if self._shared is not None and None in found:
            missing = [place for place, one in enumerate(found) if one is None]
            there = await self._shared.get([marks[place] for place in missing])
            for place, one in zip(missing, there, strict=True):
                if one is not None:
                    found[place] = one
                    shelf.put(marks[place], one, now_s)
        return found

    async def _put(self, shelf: Shelf, values: Sequence[tuple[bytes, bytes]]) -> None:
        now_s = self._clock()
        for mark, value in values:
            shelf.put(mark, value, now_s)
        if self._shared is not None:
            is_inputs = shelf is self._inputs
            given = self._settings
            ttl_s = given.inputs_ttl_s if is_inputs else given.answers_ttl_s
            self._shared.put(values, ttl_s)


def _read(data: bytes | None, decode: Callable[[bytes], _T]) -> _T | None:
    """What was kept; None where it is not there, or is of another version's making."""
    try:
        return None if data is None else decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _mark(base: hashlib.blake2b, part: bytes) -> bytes:
    mark = base.copy()
    mark.update(part)
    return mark.digest()


def _hit(progress: Progress, body: bytes, usage: Usage, charge: Charge) -> Tail:
    """The call ends here: a request row, no attempt, nothing spent."""
    progress.reason = "cache"
    progress.usage = msgspec.structs.replace(usage, cached_tokens=usage.prompt_tokens)
    progress.saved = charge
    progress.ended(Outcome.OK, 200, "")
    head = progress.head() + b"x-ballast-cache: hit\r\n"
    return Tail(200, body, head, is_stream=False)


def _charge(progress: Progress) -> Charge:
    """What the attempt that answered cost."""
    for row in progress.rows:  # of a second try that lost the row stands here too
        if isinstance(row, AttemptEnd) and row.outcome == Outcome.OK:
            return row.charge
    return Charge()


def _shares(
    asked: Inputs, places: Sequence[int], rows: Sequence[dict[str, msgspec.Raw]],
    spent: tuple[int, Charge],
) -> dict[int, Row]:  # fmt: skip
    """A row of each input; targets tell tokens and money of all together, so by length."""
    tokens, charge = spent
    whole = sum(len(asked.each[place]) for place in places) or 1
    found, given = {}, [0, 0]
    seen = 0
    for place, members in zip(places, rows, strict=True):
        seen += len(asked.each[place])
        upto = tokens * seen // whole, charge.micro * seen // whole
        found[place] = Row(members, upto[0] - given[0], upto[1] - given[1], charge.currency)
        given = list(upto)
    return found


def saved(rows: Iterable[Row]) -> Charge:
    """What computing them cost, where it was in one currency."""
    paid = [row for row in rows if row.currency]
    if len({row.currency for row in paid}) != 1:
        return Charge()
    return Charge(paid[0].currency, sum(row.micro for row in paid))
