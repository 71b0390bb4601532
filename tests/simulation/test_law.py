"""The law, whatever fails and whoever leaves: tickets issued = released = attempt rows, exactly one
request row for each call, money owned, and nothing leaves without its record.

The real pipeline, admission, queue, routing and journal; targets that fail by lot; clients that
leave by lot. Time is the loop's own, but nothing waits longer than a few milliseconds.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import subprocess
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from models.capacity import PROFILES
from serving.accounting import charge
from serving.admission import Admission
from serving.allowances import Allowances
from serving.codecs.marks import Said, Trail
from serving.errors import Kind, UpstreamError
from serving.holding import Line
from serving.journal import Disk, Journal, JournalFull
from serving.ledger.frames import frames
from serving.ledger.segments import segments
from serving.ledger.sqlite import SqliteLedger
from serving.pipeline import Pipeline
from serving.records import (
    Block,
    Call,
    Caller,
    DataLabel,
    FleetView,
    LatencyClass,
    Offering,
    Overflow,
    Policy,
    Price,
    Replica,
    Residency,
    ResidencyLevel,
    Resume,
    Surface,
    Usage,
)
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd
from serving.settings import Retry
from serving.settings_rescue import Hedge, Rescue
from serving.stages import Stages
from serving.waiting import Queue

PRICE = Price("USD", 1_700_000, 5_300_000, 300_000, "test", "2026-01-01")
OWN = DataLabel("cn", "self", on_premises=True)
RENTED = DataLabel("us", "rented")
"""A machine of ours abroad: as forbidden to what must stay as any third party."""
MODELS = ("m", "n", "gone")
ROLE = b'data: {"id":"a","choices":[{"delta":{"role":"assistant"}}]}\n\n'
WORD = b'data: {"id":"a","choices":[{"delta":{"content":"word "}}]}\n\n'
ALL_ON = Rescue(inexact=True, hedge=Hedge(hour_max=Decimal("0.01"), after_s=0.001))
"""Rescues, exact and not, and second tries while their money lasts."""
_ids = itertools.count(1)


class Lot:
    """What happens to an attempt, drawn from the seed."""

    def __init__(self, seed: int, fault_share: float) -> None:
        self.random = random.Random(seed)
        self.fault_share = fault_share
        self.sent: list[str] = []
        """Requests whose bytes reached a target outside."""

    def stream(self, call: Call, target: Any, ticket: Any, deadline_s: float) -> Played:
        return Played(self, call, target)

    async def close(self) -> None:
        """Nothing to give back."""


class Played:
    """One answer that goes as the lot says."""

    def __init__(self, lot: Lot, call: Call, target: Any) -> None:
        self._lot = lot
        self._call = call
        self._target = target
        self._is_over = False
        draw = lot.random
        self._fails_at = draw.randrange(6) if draw.random() < lot.fault_share else -1
        self._kind = draw.choice(list(Kind))
        self._is_our_bug = draw.random() < 0.03
        self._at = 0
        self._resume = draw.random() < 0.5

    def resume(self) -> Resume | None:
        """Our own engines tell their ids, half of them."""
        if isinstance(self._target, Offering) or not self._resume:
            return None
        known = self._call.resume.trail.ids if self._call.resume is not None else ()
        ids = (*known, *range(self._at))
        return Resume(1, Trail(ids, Said(0, len(ids)))) if ids else None

    def __aiter__(self) -> Played:
        return self

    async def __anext__(self) -> Block:
        if self._is_over:
            raise StopAsyncIteration
        if not self._at and isinstance(self._target, Offering):
            self._lot.sent.append(self._call.request_id)
        draw = self._lot.random
        for _ in range(draw.randrange(3) if draw.random() < 0.8 else draw.randrange(60)):
            await asyncio.sleep(0)
        at, self._at = self._at, self._at + 1
        if at == self._fails_at:
            self._is_over = True
            if self._is_our_bug:
                raise RuntimeError("drawn by lot")
            status = draw.choice([0, 200, 400, 403, 429, 451, 503])
            body = draw.choice([b"", b"\xff", b'{"error":{"message":"no"}}', b'{"error":"no"}'])
            retry_s = draw.choice([None, 0.0, 0.01, 1e9])
            raise UpstreamError(
                self._kind, "by lot", retry_after_s=retry_s, sent=draw.random() < 0.8, body=body,
                status=status,
            )  # fmt: skip
        usage = Usage(7, 5, 2) if draw.random() < 0.8 else None
        if not self._call.stream:
            self._is_over = True
            return Block(b'{"choices":[]}', 1, usage, "stop", opens=True)
        if at < 4:
            return Block(WORD if at else ROLE, 1, None, None, opens=at == 1)
        self._is_over = True
        return Block(b"data: [DONE]\n\n", 1, usage, "stop")

    def abort(self) -> None:
        self._is_over = True


class Reader:
    """A client that reads slowly by lot and is answered at most once."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.is_closed = False
        self.started = 0
        self.ended = 0

    @property
    def is_paused(self) -> bool:
        return self._draw.random() < 0.2

    async def writable(self) -> None:
        await asyncio.sleep(0)

    def start(self, head: bytes) -> None:
        self.started += 1

    def write(self, data: bytes) -> None:
        assert self.started == 1 or not data
        assert not self.ended

    def end(self, data: bytes = b"") -> None:
        self.ended += 1

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        assert not self.started
        assert status != 200 or b'"error"' not in body
        assert 200 <= status < 600
        msgspec.json.decode(body)
        self.ended += 1


class Counted:
    """The observer's seat."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.attempts = 0

    def attempt(self, progress: Any, row: AttemptEnd) -> None:
        self.attempts += 1

    def request(self, progress: Any) -> None:
        self.requests[progress.call.request_id] += 1


class House:
    """A fleet that never changes, and its pipeline."""

    def __init__(
        self, journal: Journal, lot: Lot, queue: Queue | None = None, rescue: Rescue = ALL_ON
    ) -> None:
        self.admission, self.observer = Admission(), Counted()
        self.levels: dict[str, ResidencyLevel] = {}
        """By request: how far its data may travel."""
        self.queue = queue or Queue(8, 1 << 20)
        self.journal, self.lot = journal, lot
        profile = PROFILES["instant"]
        replicas = {
            "m": tuple(
                Replica(f"m@{i}", "m", "h", i, "", label, profile, 2, seed=i)
                for i, label in enumerate((OWN, OWN, RENTED))
            ),
            "n": (Replica("n@1", "n", "h", 9, "", OWN, profile, 1),),
        }
        surfaces = frozenset({Surface.CHAT})
        offerings = {
            name: tuple(
                Offering(
                    f"{p}/{name}", p, name, name, DataLabel("us", p), PRICE, surfaces, 999, 0.001,
                    prefix_member="partial" if p != "gamma" else "",
                )
                for p in ("alpha", "beta", "gamma")
            )
            for name in MODELS
        }  # fmt: skip
        self.view = FleetView(
            seq=1, observed_s=0.0, replicas=replicas, offerings=offerings,
            state=self.admission.state, hold_s_max=0.05,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        self.line = Line(self.queue, loop, self)
        backends = {Replica: lot, Offering: lot}
        self.pipeline = Pipeline(
            Stages(
                self, self.admission, Allowances(), self.line, backends, journal, self.observer,
                Retry(budget_min=10_000), loop, rescue=rescue,
            )
        )  # fmt: skip

    def call(self, draw: random.Random) -> tuple[Call, Caller]:
        now_s = asyncio.get_running_loop().time()
        tenant = draw.choice(["acme", "beta"])
        level = draw.choice([ResidencyLevel.ANYWHERE, ResidencyLevel.ANYWHERE,
                             ResidencyLevel.PREMISES])  # fmt: skip
        policy = Policy(
            Residency(level), draw.choice([Overflow.ALLOWED, Overflow.ALLOWED, Overflow.NEVER])
        )
        late_s = draw.choice([0.002, 0.05, 60.0, 60.0])
        raw = msgspec.Raw(b'[{"role":"user","content":"x"}]')
        call = Call(
            request_id=f"{next(_ids):032x}", surface=Surface.CHAT, tenant=tenant,
            model=draw.choice(MODELS), alias="m", fields={"messages": raw}, received_s=now_s,
            received_ms=1,
            first_token_by_s=now_s + late_s, complete_by_s=now_s + late_s,
            latency_class=LatencyClass.INTERACTIVE, prompt=bytes(raw), size=100, prompt_tokens=9,
            max_tokens=8, stream=draw.random() < 0.6, wants_usage=False,
            affinity=draw.getrandbits(32),
        )  # fmt: skip
        self.levels[call.request_id] = level
        return call, Caller("k", tenant, "p", policy)


def records_of(folder: Path) -> list[Record]:
    """All that was written, in order."""
    found: list[Record] = []
    for segment in segments(folder):
        found += frames(segment.path.read_bytes()).records
    return found


def check_law(house: House, calls: list[Call], rows: list[Record], tmp_path: Path) -> None:
    """The law over everything that happened."""
    begins = [row for row in rows if isinstance(row, AttemptBegin)]
    ends = {(row.request_id, row.attempt): row for row in rows if isinstance(row, AttemptEnd)}
    requests = [row for row in rows if isinstance(row, RequestEnd)]
    intents = {(row.request_id, row.attempt) for row in rows if isinstance(row, EgressIntent)}
    admission = house.admission
    assert admission.issued == admission.released == len(begins) == len(ends)
    assert house.observer.attempts == len(ends)
    assert {(row.request_id, row.attempt) for row in begins} == set(ends)
    assert sorted(row.request_id for row in requests) == sorted(c.request_id for c in calls)
    assert set(house.observer.requests.values()) <= {1}
    assert all(state.unfinished == 0 for state in admission.state.values())
    assert not any(admission.running(model) for model in MODELS)
    assert (house.queue.calls, house.queue.bytes) == (0, 0)
    tried = Counter(row.request_id for row in begins)
    assert all(row.attempts == tried[row.request_id] <= 3 for row in requests)
    for row in begins:
        end = ends[row.request_id, row.attempt]
        assert row.is_egress == ((row.request_id, row.attempt) in intents)
        if row.is_egress:
            assert house.levels[row.request_id] is ResidencyLevel.ANYWHERE, row
        expected = (
            charge(PRICE, end.usage)
            if "/" in row.target
            else charge(Price("", 0, 0, 0, "", ""), end.usage)
        )
        assert end.charge == expected
    assert set(house.lot.sent) <= {request_id for request_id, _ in intents}
    for row in requests:
        if row.outcome == "ok" and row.attempts:
            mine = [ends[row.request_id, n + 1] for n in range(row.attempts)]
            (won,) = [end for end in mine if end.outcome == "ok"]
            assert row.usage.completion_tokens in (
                won.usage.completion_tokens, sum(end.usage.completion_tokens for end in mine),
            ) or len(mine) > 1  # fmt: skip
    ledger = SqliteLedger.open(tmp_path / "ledger")
    ledger.apply(rows)
    assert ledger.law() == []
    ledger.close()


async def storm(house: House, seed: int, count: int) -> list[Call]:
    """Calls that come, fail and leave by lot; returns them once all have ended."""
    draw = random.Random(seed)
    calls: list[Call] = []
    tasks: list[asyncio.Task[Any]] = []
    readers: list[tuple[Reader, asyncio.Task[Any]]] = []

    def leave(reader: Reader, task: asyncio.Task[Any]) -> None:
        reader.is_closed = True
        task.cancel()

    for _ in range(count):
        call, caller = house.call(draw)
        reader = Reader(draw)
        task = asyncio.ensure_future(house.pipeline.serve(call, caller, reader))
        calls.append(call)
        tasks.append(task)
        readers.append((reader, task))
        await asyncio.sleep(0)
        if draw.random() < 0.3:
            asyncio.get_running_loop().call_later(draw.random() * 0.01, leave, reader, task)
        if draw.random() < 0.1:
            house.line.refreshed(house.view)
        for _ in range(0 if draw.random() < 0.8 else draw.randrange(40)):
            await asyncio.sleep(0)
    ended = asyncio.gather(*tasks, return_exceptions=True)
    for outcome in await asyncio.wait_for(ended, 60.0):
        assert not isinstance(outcome, Exception), outcome
    for reader, task in readers:
        assert reader.ended == (0 if task.cancelled() else 1), "answered once, unless gone"
    return calls


@pytest.fixture
def commit() -> str:
    """Said first, with the seed, so that a failure can be played again."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


@pytest.mark.parametrize("fault_share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(8))
def test_the_law_holds_whatever_fails_and_whoever_leaves(seed, fault_share, tmp_path, commit):
    print(f"seed {seed}, commit {commit}")

    async def main() -> None:
        journal = Journal.open(tmp_path / "j", 4 << 20, 1 << 16)
        house = House(journal, Lot(seed, fault_share))
        calls = await storm(house, seed, 150)
        rows = records_of(tmp_path / "j")
        check_law(house, calls, rows, tmp_path)
        journal.close()

    uvloop.run(main())


def test_the_law_holds_over_many_rescues_and_second_tries(tmp_path, commit):
    """The same, until each of them was drawn."""
    print(f"seed 5, commit {commit}")

    async def main() -> None:
        journal = Journal.open(tmp_path / "j", 4 << 20, 1 << 16)
        house = House(journal, Lot(5, 0.25))
        draw = random.Random(5)
        calls: list[Call] = []
        seen: Counter[str] = Counter()
        while not all(seen[reason] for reason in ("hedge", "rescue", "rescue:inexact")):
            assert len(calls) < 2000, seen
            for state in house.admission.state.values():
                state.open_until_s = 0.0
            calls += await storm(house, draw.getrandbits(32), 50)
            rows = records_of(tmp_path / "j")
            seen = Counter(row.reason for row in rows if isinstance(row, AttemptBegin))
        check_law(house, calls, rows, tmp_path)
        journal.close()

    uvloop.run(main())


@pytest.mark.parametrize("seed", range(6))
def test_the_law_holds_while_the_disk_comes_and_goes(seed, tmp_path, commit):
    """Refusals may go unwritten while the journal is full; attempts and their ends may not."""
    print(f"seed {seed}, commit {commit}")
    draw = random.Random(seed)
    is_full = False

    def write(fd: int, data: bytes) -> int:
        if is_full and os.lseek(fd, 0, os.SEEK_CUR) > 1 << 16:
            raise OSError(errno.ENOSPC, "full")
        return os.write(fd, data)

    def allocate(fd: int, offset: int, size: int) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "full")
        os.posix_fallocate(fd, offset, size)

    async def main() -> None:
        nonlocal is_full
        disk = Disk(write=write, allocate=allocate)
        journal = Journal.open(tmp_path / "j", 1 << 20, 1 << 18, disk)
        house = House(journal, Lot(seed, 0.3))
        calls: list[Call] = []
        for turn in range(6):
            is_full = turn % 2 == 1
            if is_full:
                # Something must be written beyond the point where the disk ends.
                while journal.can_begin:
                    try:
                        journal.append_end(*_filler())
                    except JournalFull:
                        break
            journal.probe()
            calls += await storm(house, draw.getrandbits(32), 40)
        is_full = False
        journal.probe()
        rows = [row for row in records_of(tmp_path / "j") if row.request_id != "filler"]
        written = {row.request_id for row in rows if isinstance(row, RequestEnd)}
        begun = {row.request_id for row in rows if isinstance(row, AttemptBegin)}
        assert begun <= written
        check_law(house, [call for call in calls if call.request_id in written], rows, tmp_path)
        journal.close()

    uvloop.run(main())


def _filler() -> tuple[Record, ...]:
    intent = EgressIntent("filler", 1, 1, "t", 1, "x" * 4000, "us", "p", "m")
    return (intent,)


def test_nothing_leaves_when_the_intent_cannot_be_made_durable(tmp_path):
    """The disk takes writes and refuses to sync: the provider must never hear of the call."""

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    async def main() -> None:
        journal = Journal.open(tmp_path / "j", 1 << 20, 1 << 16, Disk(fdatasync=fail))
        lot = Lot(1, 0.0)
        house = House(journal, lot)
        draw = random.Random(1)
        reader = Reader(draw)
        call, caller = house.call(draw)
        call = msgspec.structs.replace(
            call, model="gone", first_token_by_s=call.received_s + 60,
            complete_by_s=call.received_s + 60,
        )  # fmt: skip
        policy = Policy(Residency(ResidencyLevel.ANYWHERE), Overflow.ALLOWED)
        caller = msgspec.structs.replace(caller, policy=policy)
        house.levels[call.request_id] = ResidencyLevel.ANYWHERE
        await house.pipeline.serve(call, caller, reader)
        assert reader.ended == 1
        assert lot.sent == []
        rows = records_of(tmp_path / "j")
        (end,) = [row for row in rows if isinstance(row, AttemptEnd)]
        assert end.charge.micro == 0, "nothing was sent, nothing is owed"
        assert end.usage == Usage()
        (request,) = [row for row in rows if isinstance(row, RequestEnd)]
        assert (request.code, request.status) == ("journal_full", 503)
        check_law(house, [call], rows, tmp_path)
        journal.close()

    uvloop.run(main())


def test_nothing_begins_when_its_record_cannot_be_written(tmp_path):
    def fail(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    async def main() -> None:
        journal = Journal.open(tmp_path / "j", 1 << 20, 1 << 16, Disk(write=fail))
        lot = Lot(1, 0.0)
        house = House(journal, lot)
        await storm(house, 1, 20)
        assert lot.sent == []
        assert house.admission.issued == house.admission.released == 0
        assert records_of(tmp_path / "j") == []
        journal.close()

    uvloop.run(main())


def test_a_fault_while_calls_are_settled_leaves_no_client_waiting(tmp_path, caplog):
    """Neither our own bug in a counter nor a row too large to write may keep an answer back."""

    class Broken(Counted):
        def request(self, progress: Any) -> None:
            raise RuntimeError("our own bug")

    async def main() -> None:
        journal = Journal.open(tmp_path / "j", 1 << 20, 1 << 16)
        house = House(journal, Lot(3, 0.3))
        house.pipeline._stages = house.pipeline._stages._replace(observer=Broken())
        await storm(house, 3, 40)  # asserts that each is answered once
        assert house.admission.issued == house.admission.released
        journal.close()

    uvloop.run(main())
    assert "settle_fault" in caplog.text
