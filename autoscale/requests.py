"""Requests one by one through the production `place`, `Admission` and `step`, on a virtual clock.

Every call is placed by the gateway's own routing over simulated engines and an API; the
controller's step sees what the gateway would report. Simplified: one gateway, a held queue in order
of arrival while an API is up (`request_line`), an API that is either there or known to be away,
answers of exactly the traced length.
"""

from __future__ import annotations

import heapq
import random
import zlib

import msgspec

from autoscale import calls, request_law
from autoscale.calls import MODEL, REPORT_S, TICK_S, Row, Setup, Tally, Want
from autoscale.engines import Sequence
from autoscale.request_api import Api
from autoscale.request_fleet import Fleet
from autoscale.request_line import Line
from serving.admission import Admission, Took
from serving.demand import could_serve, had_to_stay
from serving.errors import Kind
from serving.ready_times import ReadyTimes
from serving.records import Burst, Call, FleetView, Refuse, Run, Ticket, Usage, Wait
from serving.routing import place
from serving.settings import Model


class Requests:
    """One run over one trace."""

    def __init__(self, setup: Setup, want: Want, seed: int) -> None:
        self._setup, self._want = setup, want
        self._lots = random.Random(seed)  # noqa: S311 - reproducible draws, not secrets
        self._admission = Admission()
        self._fleet = Fleet(setup, self._lots)
        self._held = Line()
        self._open: dict[int, tuple[Ticket, Call, Row]] = {}
        self._events: list[tuple[float, int, str, str]] = []
        self._numbers = 0
        self._due_s: dict[str, float] = {}
        self._wanted = 0
        self._view = FleetView()
        self._replica, self._caller = calls.replica(setup), calls.caller()
        self._api = Api(setup, self._lots)
        self._labels = frozenset({self._api.offering(0.0).label})
        self._times = ReadyTimes([Model(name=MODEL, time_to_ready_s=setup.ready_s)])
        self.tally = Tally()

    def run(self, rows: list[Row]) -> Tally:
        """All rows, in order of time, until the last has its answer."""
        self._after(0.0, "tick", "")
        self._after(0.0, "report", "")
        self._see(0.0)
        turn = 0
        end_s = rows[-1].at_s if rows else 0.0
        while turn < len(rows) or self._open or self._held:
            if turn < len(rows) and rows[turn].at_s <= self._events[0][0]:
                row = rows[turn]
                turn += 1
                self.tally.calls += 1
                self._place(calls.call(row, turn, self._setup), row, row.at_s)
                continue
            at_s, _, kind, name = heapq.heappop(self._events)
            self._happen(at_s, kind, name, at_s <= end_s)
        request_law.finally_(rows, self.tally, self._admission, self._fleet)
        self.tally.api_micro = self._api.cash_micro()
        return self.tally

    def _after(self, at_s: float, kind: str, name: str) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (at_s, self._numbers, kind, name))

    def _happen(self, at_s: float, kind: str, name: str, goes_on: bool) -> None:
        if kind == "end":
            self._end(name, at_s)
        elif kind == "api":
            key, first_s = name.split()
            self._answered(int(key), float(first_s), at_s)
        elif kind == "until":
            self._serve_one(name, at_s)
        elif kind == "report":
            for target, engine in self._fleet.engines.items():
                self._admission.reported(target, engine.load(), at_s)
            if not self._fleet.serving:
                self._see(at_s)  # an engine that is expected comes nearer
            self._serve_held(at_s)
            self._after(at_s + REPORT_S, "report", "")
        elif kind == "ready":
            self._fleet.booting.remove(float(name))
            self._begin(f"r{self._numbers}", at_s)
            self._see(at_s)
            self._serve_held(at_s)
        elif kind == "dead":
            self._fleet.booting.remove(float(name))
        elif kind == "taken":
            self._take(name, at_s)
        elif goes_on:
            self._tick(at_s)

    def _begin(self, name: str, now_s: float) -> None:
        taken_s = self._fleet.begin(name, now_s)
        if taken_s is not None:
            self._after(taken_s, "taken", name)

    def _take(self, name: str, now_s: float) -> None:
        """A spot replica goes without notice; its calls begin anew elsewhere, where they can."""
        if name not in self._fleet.engines:
            return
        self.tally.taken += 1
        self._drop(name)
        self._see(now_s)
        lost = [key for key, (ticket, _, _) in self._open.items() if ticket.target.id == name]
        for key in lost:
            ticket, call, row = self._open.pop(key)
            self._admission.failed(ticket, Kind.CONNECT, None, now_s)
            self._admission.release(ticket, call)
            self._place(call, row, now_s, frozenset({name}))

    def _place(
        self, call: Call, row: Row, now_s: float, tried: frozenset[str] = frozenset()
    ) -> None:
        placement = place(call, self._caller, self._view, now_s, tried)
        if isinstance(placement, Wait):
            self._held.put(call, row)
            self._after(max(now_s, placement.until_s), "until", call.request_id)
        elif isinstance(placement, Refuse):
            is_bound = had_to_stay(call, self._caller, "", self._labels)
            calls.refused(self.tally, row, is_bound, could_serve(self._setup.profile, call))
        else:
            self._send(call, row, placement, now_s)

    def _send(self, call: Call, row: Row, placement: Run | Burst, now_s: float) -> None:
        ticket = self._admission.issue(call, placement, 1, now_s)
        key = int(call.request_id, 16)
        self._open[key] = (ticket, call, row)
        if isinstance(placement, Run):
            target = placement.target.id
            engine = self._fleet.engines[target]
            engine.add(Sequence(key, row.prompt, row.output), now_s)
            self._due(target)
            return
        if full_s := self._api.full_s(row, now_s):
            del self._open[key]
            self._admission.failed(ticket, Kind.RATE_LIMIT, full_s, now_s)
            self._admission.release(ticket, call)
            self._place(call, row, now_s, frozenset({placement.target.id}))
            return
        tally = self.tally
        calls.left(tally, row, could_serve(self._setup.profile, call))
        first_s = now_s + self._api.take(row, key, now_s)
        is_kept = first_s <= call.first_token_by_s
        tally.kept += is_kept and self._setup.token_s_max >= calls.API_TOKEN_S
        self._after(first_s + row.output * calls.API_TOKEN_S, "api", f"{key} {first_s!r}")

    def _due(self, name: str) -> None:
        """Note when an engine's next call ends; only the latest note counts."""
        at_s = self._fleet.engines[name].next_s()
        self._due_s[name] = at_s
        self._after(at_s, "end", name)

    def _answered(self, key: int, first_s: float, now_s: float) -> tuple[Ticket, Call, Row]:
        """A stream is over; the gateway learns from it."""
        ticket, call, row = self._open.pop(key)
        took = Took(max(0.0, first_s - ticket.issued_s), now_s - ticket.issued_s)
        self._admission.opened(ticket, ticket.issued_s + took.first_s, is_stream=True, call=call)
        self._admission.release(ticket, call)
        self._admission.settled(ticket, call, Usage(row.prompt, max(1, row.output)), took)
        self.tally.answered += 1
        return ticket, call, row

    def _end(self, name: str, now_s: float) -> None:
        engine = self._fleet.engines.get(name)
        if engine is None or self._due_s.get(name) != now_s:
            return  # an earlier guess, before the batch changed
        for one in engine.ended(now_s):
            ticket, call, row = self._answered(one.key, one.first_s, now_s)
            # An answer of one token has no time between tokens.
            token_s = (now_s - one.first_s) / (one.output - 1) if one.output > 1 else 0.0
            is_first = one.first_s <= call.first_token_by_s
            self.tally.kept += is_first and token_s <= self._setup.token_s_max
            if not is_first and had_to_stay(call, self._caller, ticket.reason, self._labels):
                calls.count(self.tally.late, 1, row.prompt, one.output)
            calls.count(self.tally.own, row.prompt, row.output)
        if engine.calls:
            self._due(name)
        elif name in self._fleet.draining:
            self._drop(name)
        self._serve_held(now_s)

    def _serve_held(self, now_s: float) -> None:
        """Place again what is held, until one must wait on."""
        while (first := self._held.next(self._view, now_s)) is not None:
            self._serve_one(first, now_s)
            if first in self._held:
                self._held.first(first)
                return

    def _serve_one(self, request_id: str, now_s: float) -> None:
        if (held := self._held.take(request_id)) is not None:
            self._place(*held, now_s)

    def _tick(self, now_s: float) -> None:
        tally, fleet = self.tally, self._fleet
        tally.rent_s += TICK_S * fleet.paid
        request_law.always(tally, self._admission, len(self._open), len(self._held))
        held = self._held.rows
        running, is_shut = self._admission.running(MODEL), self._api.is_away(now_s)
        demand = calls.demand_of(tally, running, held, is_shut=is_shut)
        self._wanted = self._want(now_s, demand, len(fleet.serving), self._wanted)
        while fleet.ordered < self._wanted:
            tally.starts += 1
            at_s, kind = fleet.order(now_s)
            self._after(at_s, kind, repr(at_s))
        if gone := {repr(at_s) for at_s in fleet.release(self._wanted)}:
            self._events = [e for e in self._events if e[3] not in gone]
            heapq.heapify(self._events)
        self._see(now_s)
        self._after(now_s + TICK_S, "tick", "")

    def _drop(self, name: str) -> None:
        self._fleet.drop(name)
        self._due_s.pop(name, None)

    def _see(self, now_s: float) -> None:
        """The fleet view that routing works on."""
        replicas = tuple(
            msgspec.structs.replace(self._replica, id=name, seed=zlib.crc32(name.encode()))
            for name in self._fleet.serving
        )
        offerings = () if self._api.is_away(now_s) else (self._api.offering(now_s),)
        for replica in replicas:
            self._admission.know(replica.id)
        if replicas:
            self._times.ready(MODEL, now_s)
        due, is_asleep = None, not self._fleet.booting
        if not replicas:
            due = self._times.expected(MODEL, now_s, is_asleep=is_asleep)
        self._view = FleetView(
            observed_s=now_s, replicas={MODEL: replicas}, offerings={MODEL: offerings},
            pending={MODEL: due} if due else {}, state=self._admission.state,
            margins=self._admission.margins, hold_s_max=self._setup.hold_s_max,
            held=self._held.counts,
        )  # fmt: skip
