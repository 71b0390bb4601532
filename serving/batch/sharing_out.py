"""One batch's lines between engines of ours and a batch price: what is known for `away`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.batch import away
from serving.batch.away import Home, Pace
from serving.batch.books import Books
from serving.batch.means import Means
from serving.batch.planning import Asked, Judged, Release, Standby
from serving.batch.values import Batch, Line, State
from serving.records import OWN, Caller, FleetView, Offering, Overflow
from serving.rules import may_use

MARK_S = 2.0
COUNT_S = 30.0
"""Between two looks into the store at how many lines are left."""


class SharingOut:
    """Of one batch that this process works on."""

    def __init__(self, means: Means, books: Books) -> None:
        self._means, self._books = means, books
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(self._loop.time())
        self._away: set[int] = set()
        self._home: set[int] = set()
        self._marks: dict[int, asyncio.Task[None]] = {}
        self._left, self._left_at_s = 0, float("-inf")
        self._hold_until_s, self._faults = 0.0, 0

    def model(self, batch: Batch) -> str:
        """Our name of its model."""
        found = self._means.calls.catalogue.find(batch.model)
        return batch.model if found is None else found.name

    async def releases(
        self, batch: Batch, caller: Caller, running: int, running_max: int
    ) -> tuple[Release, ...]:
        """What may start now."""
        means, now_s, view = self._means, self._loop.time(), self._means.view()
        model, policy = self.model(batch), caller.policy
        left_s = (batch.expires_ms - means.utc_ms()) / 1e3
        asked = Asked(
            model, batch.tenant, left_s, model in means.owned,
            policy.overflow is not Overflow.NEVER and not policy.is_load_test,
            running - len(self._away), running_max, means.waiting(model),
        )  # fmt: skip
        rows = _cheap(model, caller, view)
        if rows and now_s - self._left_at_s >= COUNT_S:
            counts = await self._books.ask(lambda store: store.counts(batch.id))
            self._left, self._left_at_s = counts.waiting + counts.running, now_s
        per_s = self._pace.per_s(now_s, means.settings.away_measure_s)
        home = Home(self._left - len(self._away), len(self._away), per_s)
        standby = Standby(rows, now_s)
        found = away.split(asked, home, standby, means.settings, view)
        if self._faults:  # one asks whether it is over
            most = 0 if self._away or now_s < self._hold_until_s else 1
            found = tuple(
                one._replace(lines=min(most, one.lines)) if is_away(one.pin) else one
                for one in found
            )
        return found

    def may_take(self, found: Release, line: Line) -> bool:
        """Whether a line may go there in its next run."""
        may_leave = away.may_try(line.run, self._means.settings) and not self.is_home_only(line)
        if found.is_rest:
            return not may_leave
        return may_leave or not is_away(found.pin)

    def is_home_only(self, line: Line) -> bool:
        """Whether a third party refused its content: known here, or since before."""
        return line.is_home_only or line.number in self._home

    def marker(self, batch: Batch, number: int) -> Callable[[], None]:
        """To be called when a third party refuses a line: that is written at once, for whoever runs
        the line next, this process or another."""

        def mark() -> None:
            if number not in self._marks:
                writing = self._books.keep_home(batch, number)
                self._marks[number] = self._loop.create_task(writing, name="batch-home")

        return mark

    async def marked(self, number: int) -> None:
        """Return once a line's mark is written, if it got one. Raises Lost."""
        mark = self._marks.pop(number, None)
        if mark is not None:
            await mark

    async def close(self) -> None:
        """Let marks under way be written, for a while."""
        if self._marks:
            _, late = await asyncio.wait(self._marks.values(), timeout=MARK_S)
            for mark in late:
                mark.cancel()
            await asyncio.gather(*self._marks.values(), return_exceptions=True)

    def began(self, number: int, pin: str) -> None:
        """A line is under way."""
        if is_away(pin):
            self._away.add(number)

    def ended(self, number: int, pin: str, judged: Judged) -> float:
        """A line came back; the seconds for which nothing may start at home."""
        now_s, is_done = self._loop.time(), judged.state is not State.WAITING
        if judged.is_home_only and not is_done:
            self._home.add(number)
        else:
            self._home.discard(number)
        self._left -= is_done
        if not is_away(pin):
            if is_done:
                self._pace.ended(now_s)
            return judged.hold_s
        self._away.discard(number)
        if is_done:
            self._faults = 0
        elif now_s >= self._hold_until_s:  # those that fail together count once
            self._hold_until_s = now_s + max(
                judged.hold_s, away.hold_s(self._faults, self._means.settings)
            )
            self._faults += 1
        return 0.0


def is_away(pin: str) -> bool:
    """Whether lines with that pin are at a batch price."""
    return pin not in ("", OWN)


def _cheap(model: str, caller: Caller, view: FleetView) -> tuple[Offering, ...]:
    """Batch prices that the key's own rules admit; what a call adds is asked of each line."""
    own = view.theirs.get(caller.tenant, {}) if view.theirs else {}
    rows = (*own.get(model, ()), *view.offerings.get(model, ()))
    residency = caller.policy.residency
    return tuple(
        row for row in rows
        if row.vendor and residency.admits(row.label) and may_use(row, caller)
    )  # fmt: skip
