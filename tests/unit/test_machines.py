"""Renting machines from a provider that is slow, wrong, forgetful and dear."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest

from autoscale.acts import Act
from autoscale.actuators.base import Order
from autoscale.actuators.machines import Desk, MachinesActuator
from autoscale.actuators.machines_rule import Want, held, plan
from autoscale.actuators.orders_rule import own
from autoscale.lease import Fence, Granted
from autoscale.machine_book import BookFile
from autoscale.machines import (
    Book,
    Bounds,
    Create,
    Intent,
    Machine,
    Offer,
    ProviderError,
    Tags,
    ours,
)
from autoscale.policy import Policy, Pool
from autoscale.providers.exec_hook import ExecHook
from autoscale.records import Decision, Engines, Hold, Samples, Scale
from serving.fakes.machines import Made, Market

TICK_MS = 10_000
START_MS = 1_800_000_000_000
PRICE = 2_900_000
TAGS = Tags("d", "m", "od")
BOUNDS = Bounds(4, 4 * PRICE, PRICE, PRICE * 11 // 10)


class Direct:
    """The exec hook's protocol without its process."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def _ask(self, verb: str, **asked: Any) -> Any:
        answer = self.market.answer(msgspec.to_builtins({"verb": verb} | asked))
        if error := answer.get("error"):
            raise ProviderError(error["kind"], error["message"], error["retry_after_s"])
        return answer

    async def offers(self, tags: Tags, gpu: str, limit_s: float) -> tuple[Offer, ...]:
        return msgspec.convert(self._ask("offers", tags=tags)["offers"], tuple[Offer, ...])

    async def create(self, order: Create, limit_s: float) -> Machine:
        return msgspec.convert(self._ask("create", order=order)["machine"], Machine)

    async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
        return msgspec.convert(self._ask("list", tags=tags)["machines"], tuple[Machine, ...])

    async def terminate(self, machine: str, fence: int, limit_s: float) -> None:
        self._ask("terminate", machine=machine, fence=fence)


class Kept(BookFile):
    """A book in memory, for long runs."""

    book = Book()

    def read(self) -> Book:
        return self.book

    def write(self, book: Book) -> None:
        self.book = book


class Rented:
    """A pool and its provider, ticked by hand."""

    def __init__(self, folder: Path, bounds: Bounds = BOUNDS, file: BookFile | None = None) -> None:
        self.market = Market(now_ms=START_MS)
        self.bounds = bounds
        self.folder = folder
        self.file = file or BookFile(folder / "od.json")
        self.engines: dict[str, Engines] | None = None
        self.nodes: dict[str, frozenset[str]] = {}
        self.start(7)

    def start(self, token: int) -> None:
        """A controller's start, or its restart."""
        self.token = token
        desk = Desk(TAGS, Pool("od", hour_micro=PRICE), self.bounds, 1, 5.0)
        self.actuator = MachinesActuator(desk, Direct(self.market), self.file, lambda: self.nodes)
        self.actuator.begin({})

    def tick(self, wanted: int | None, times: int = 1) -> Act:
        """Ticks that decide the same; the last one's act. None: a Hold."""
        for _ in range(times):
            self.market.now_ms += TICK_MS
            decision: Decision = Hold("m", "h")
            if wanted is not None:
                decision = Scale("m", wanted, "r", {"od": wanted})
            samples = Samples(self.market.now_ms, engines=self.engines)
            fence = Fence(Granted(self.token, 100.0), lambda: 0.0)
            order = Order((decision,), samples, Policy(()))
            no_http = cast("aiohttp.ClientSession", None)
            (act,) = self.runner.run(self.actuator.apply(order, fence, no_http))
        return act

    @property
    def alive(self) -> int:
        return len(self.market.alive())


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    with asyncio.Runner() as runner:
        Rented.runner = runner
        yield


@pytest.fixture
def rented(tmp_path: Path) -> Rented:
    return Rented(tmp_path)


def test_what_is_wanted_is_ordered_once_and_given_back(rented: Rented) -> None:
    assert rented.tick(2).outcome == "coming"
    act = rented.tick(2, 10)
    assert (act.outcome, act.wanted, act.seen) == ("kept", 2, 2)
    assert rented.market.calls.count("create") == 2
    rented.tick(1, 3)
    assert rented.alive == 1
    rented.tick(0, 3)
    assert rented.alive == 0
    assert rented.tick(0).outcome == "kept"


def test_a_hold_ends_nothing_and_still_replaces_what_failed(rented: Rented) -> None:
    rented.tick(2, 10)
    rented.tick(None, 50)
    assert rented.alive == 2
    rented.market.alive()[0].is_ended = True  # a spot machine is taken away
    rented.tick(None, 20)
    assert rented.alive == 1  # missing for less than five minutes: lists are incomplete at times
    rented.tick(None, 20)
    assert rented.alive == 2


def test_an_order_without_an_answer_is_asked_again_under_its_token(rented: Rented) -> None:
    rented.market.faults["create"] = ["lost", "lost"]
    rented.tick(1, 20)
    assert rented.alive == 1
    assert rented.market.calls.count("create") >= 1
    assert len(rented.market.machines) == 1


def test_an_answer_without_an_id_is_found_by_its_token(rented: Rented) -> None:
    rented.market.faults["create"] = ["no_id"]
    rented.tick(1, 3)
    rented.tick(0, 3)
    assert rented.alive == 0


def test_a_machine_made_twice_is_given_back_at_once(rented: Rented) -> None:
    rented.market.faults["create"] = ["twice"]
    rented.tick(1, 3)
    assert len(rented.market.machines) == 2
    assert rented.alive == 1


def test_part_of_an_order_is_a_normal_result(rented: Rented) -> None:
    rented.market.available = 1
    act = rented.tick(3, 2)
    assert rented.alive == 1
    assert act.outcome == "refused"
    assert "the cheapest left costs 26.10/h" in act.reason
    rented.market.available = None
    rented.tick(3, 70)
    assert rented.alive == 3


def test_a_provider_without_machines_is_left_alone_for_a_while(rented: Rented) -> None:
    rented.market.faults["create"] = ["short"]
    act = rented.tick(1)
    assert act.outcome == "refused"
    assert "short" in act.reason
    assert rented.actuator.short(rented.market.now_ms)
    rented.tick(1, 5)
    assert rented.market.calls.count("create") == 1
    rented.tick(1, 60)
    assert rented.alive == 1
    assert not rented.actuator.short(rented.market.now_ms)


def test_a_machine_that_dies_at_its_start_is_replaced_later(rented: Rented) -> None:
    rented.market.faults["create"] = ["stillborn"]
    rented.tick(1, 10)
    assert rented.alive == 0
    assert rented.actuator.short(rented.market.now_ms) == ("m/od",)
    rented.tick(1, 80)
    assert rented.alive == 1


def test_an_end_that_is_ignored_is_asked_again_and_told_as_money_lost(rented: Rented) -> None:
    rented.tick(1, 10)
    rented.market.faults["terminate"] = ["ignored"] * 25
    act = rented.tick(0, 70)
    assert rented.alive == 1
    assert act.outcome == "stuck"
    assert "cost money" in act.reason
    rented.tick(0, 30)
    assert rented.alive == 0


def test_an_ignored_end_counts_against_the_bounds(tmp_path: Path) -> None:
    rented = Rented(tmp_path, msgspec.structs.replace(BOUNDS, machines_max=2))
    rented.tick(2, 10)
    rented.market.faults["terminate"] = ["ignored"] * 99
    rented.tick(1, 3)
    act = rented.tick(2, 3)
    assert rented.alive == 2
    assert "max_rented is 2" in act.reason


def test_number_and_money_are_bounded_whatever_was_decided(tmp_path: Path) -> None:
    rented = Rented(tmp_path, msgspec.structs.replace(BOUNDS, hour_micro_max=2 * PRICE))
    act = rented.tick(9, 10)
    assert rented.alive == 2
    assert act.outcome == "refused"
    assert "hour_max is 5.80" in act.reason


def test_a_price_that_rose_is_not_paid_and_said(rented: Rented) -> None:
    rented.tick(1, 10)
    rented.market.hour_micro = 2 * PRICE
    act = rented.tick(2, 3)
    assert rented.alive == 1
    assert "costs 5.80/h, and at most 3.19/h was decided with" in act.reason


@pytest.mark.parametrize("fault", ["busy", "away"])
def test_a_provider_that_does_not_answer_is_asked_for_nothing(rented: Rented, fault: str) -> None:
    rented.tick(2, 10)
    rented.market.faults["list"] = [fault] * 5
    calls = len(rented.market.calls)
    act = rented.tick(0, 5)
    assert act.outcome == "unknown"
    assert rented.alive == 2
    assert set(rented.market.calls[calls:]) == {"list"}


def test_a_create_that_is_refused_with_429_waits_as_told(rented: Rented) -> None:
    rented.market.faults["create"] = ["busy"]
    rented.tick(1)
    rented.tick(1, 4)
    assert rented.market.calls.count("create") == 1  # 45 s were asked for
    rented.tick(1, 2)
    assert rented.alive == 1


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000], ids=["back", "ahead"])
def test_a_clock_that_jumps_ends_nothing_and_blocks_nothing(rented: Rented, jump_ms: int) -> None:
    rented.tick(1, 10)
    rented.market.faults["create"] = ["short"]
    rented.tick(2)
    rented.market.now_ms += jump_ms
    rented.market.machines[0].since_ms += jump_ms  # the provider's clock is another
    rented.tick(2, 3)
    assert rented.alive == 2
    rented.tick(None, 20)
    assert len(rented.market.machines) == 2


def test_a_list_that_lacks_a_machine_rents_no_second_one(rented: Rented) -> None:
    rented.tick(2, 10)
    rented.market.faults["list"] = ["blind"] * 20
    rented.tick(2, 20)
    assert len(rented.market.machines) == 2


def test_a_restart_in_the_midst_of_an_order_orders_it_once(rented: Rented) -> None:
    rented.market.faults["create"] = ["lost"]
    rented.tick(1)
    rented.start(8)
    rented.tick(1, 10)
    assert len(rented.market.machines) == 1
    assert rented.alive == 1


def test_machines_of_a_lost_book_are_taken_in_or_given_back(rented: Rented) -> None:
    rented.tick(3, 10)
    (rented.folder / "od.json").write_text("not json")
    rented.start(8)
    rented.tick(None, 100)
    assert rented.alive == 3  # nothing was decided yet: nothing is touched
    rented.tick(2, 50)
    assert rented.alive == 3  # one too many may be an order that came late
    rented.tick(2, 20)
    assert rented.alive == 2
    assert len(rented.market.machines) == 3


def test_machines_of_others_are_never_touched(rented: Rented) -> None:
    other = Made("i-x", "t", "another deployment", "od", START_MS, PRICE)
    rented.market.machines.append(other)
    rented.tick(1, 100)
    rented.tick(0, 100)
    assert not other.is_ended


def test_a_list_of_the_whole_account_costs_nobody_else_a_machine(rented: Rented) -> None:
    others = [
        Made("i-x", "e-od-1800000000000-1", "e", "od", START_MS, PRICE),
        Made("i-y", "d-od-1800000000000-1", "d", "od", START_MS, PRICE, model="other"),
        Made("i-z", "", "", "", START_MS, PRICE),  # no tag at all
    ]
    rented.market.machines += others
    rented.market.faults["list"] = ["account"] * 300
    act = rented.tick(2, 70)
    assert (act.outcome, act.seen) == ("kept", 2)
    assert "3 listed without a token of ours and left alone" in act.reason
    rented.tick(0, 20)
    assert not any(other.is_ended for other in others)
    assert len(rented.market.alive()) == 1  # of another model of this deployment


def test_tokens_of_two_pools_never_begin_alike() -> None:
    pools = [Tags("a", "m", "b-c"), Tags("a-b", "m", "c"), Tags("a", "n", "b-c")]
    starts = [ours(tags) for tags in pools]
    assert not any(a.startswith(b) for a in starts for b in starts if a is not b)


def test_a_list_that_names_a_machine_twice_ends_none(rented: Rented) -> None:
    rented.market.faults["list"] = ["doubled"] * 30
    act = rented.tick(1, 20)
    assert (act.outcome, act.seen, rented.alive) == ("kept", 1, 1)


def test_a_machine_that_failed_is_given_back_as_long_as_it_is_listed(rented: Rented) -> None:
    rented.market.faults["create"] = ["stillborn"]
    rented.market.faults["terminate"] = ["ignored", "away"]
    rented.tick(1, 30)
    (made,) = rented.market.machines
    assert made.is_ended
    assert rented.market.calls.count("terminate") == 3


def test_a_machine_that_holds_replicas_has_not_failed_whatever_is_said_of_it() -> None:
    token = f"{ours(TAGS)}1-1"
    said = Machine("i-1", token, "failed", address="10.0.0.1")
    book = Book((Intent(token, START_MS, id="i-1", seen_ms=START_MS),), wanted=1)
    busy = frozenset({"10.0.0.1"})
    steps = plan(book, held((said,), busy), Want(1, busy=busy), BOUNDS, START_MS + TICK_MS)
    assert (steps.ends, steps.new) == ((), 0)
    steps = plan(book, held((said,), frozenset()), Want(1), BOUNDS, START_MS + TICK_MS)
    assert [machine for machine, _ in steps.ends] == ["i-1"]


def test_an_order_answered_with_another_machine_never_ends_that(rented: Rented) -> None:
    other = Made("i-x", "t", "e", "od", START_MS, PRICE)
    rented.market.machines.append(other)
    rented.market.faults["create"] = ["another"]
    rented.tick(1, 10)
    rented.tick(0, 10)
    assert rented.alive == 0
    assert not other.is_ended


def test_money_below_nothing_buys_no_room(tmp_path: Path) -> None:
    rented = Rented(tmp_path, msgspec.structs.replace(BOUNDS, hour_micro_max=2 * PRICE))
    rented.tick(1, 10)
    rented.market.machines[0].hour_micro = -9 * PRICE
    act = rented.tick(4, 10)
    assert rented.alive == 2
    assert "hour_max is 5.80" in act.reason


def test_an_offer_below_nothing_is_no_offer(rented: Rented) -> None:
    rented.market.hour_micro = -1
    act = rented.tick(1)
    assert (act.outcome, rented.alive) == ("refused", 0)
    assert "nothing more is offered" in act.reason


def test_a_machine_of_a_former_token_that_failed_is_ended_until_it_is_gone() -> None:
    failed = Machine("i-1", "d-od-3-1", "failed")
    book = Book((Intent("d-od-3-1", START_MS, id="i-1", seen_ms=START_MS),), wanted=0)
    for at_ms in (START_MS, START_MS + BOUNDS.retry_ms):
        mine, others = own((failed, Machine("i-2", "d-od-4-1")), book, ours(TAGS))
        steps = plan(book, mine, Want(0), BOUNDS, at_ms)
        assert [one for one, _ in steps.ends] == ["i-1"]
        assert others == 1
        book = steps.book
        assert book.intents == ()


def test_an_end_never_goes_out_without_an_id() -> None:
    nameless = Machine("", f"{ours(TAGS)}1-1", "failed")
    steps = plan(Book(wanted=0), (nameless,), Want(0), BOUNDS, START_MS)
    assert steps.ends == ()


def test_a_machine_with_replicas_stays_until_they_have_drained(rented: Rented) -> None:
    rented.tick(2, 10)
    rented.engines = {"m": Engines(target=1, running=1, stopping=1)}
    rented.tick(1, 30)
    assert rented.alive == 2
    rented.engines = {"m": Engines(target=1, running=1)}
    rented.tick(1, 3)
    assert rented.alive == 1


def test_a_write_under_an_older_lease_is_refused_by_who_counts_them(rented: Rented) -> None:
    rented.tick(1, 10)
    rented.market.fence = 9  # the next leader was there
    rented.tick(0, 3)
    assert rented.alive == 1


def test_a_provider_that_hangs_holds_up_no_tick_and_is_asked_once(rented: Rented) -> None:
    answer = asyncio.Event()
    asked = 0

    class Hanging(Direct):
        async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
            nonlocal asked
            asked += 1
            await answer.wait()
            return await super().list(tags, limit_s)

    desk = Desk(TAGS, Pool("od", hour_micro=PRICE), BOUNDS, 1, 5.0)
    file = Kept(rented.folder / "none")
    rented.actuator = MachinesActuator(desk, Hanging(rented.market), file, dict, patience_s=0.01)
    assert "still being asked" in rented.tick(1, 3).reason
    assert asked == 1
    answer.set()
    rented.tick(1, 3)
    assert rented.alive == 1
    answer.clear()
    rented.tick(1)
    rented.actuator.cease()
    assert rented.alive == 1


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_provider_does_the_bounds_hold_and_the_number_comes_right(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    rented = Rented(tmp_path, file=Kept(tmp_path / "none"))
    kinds = ["", "busy", "away", "lost", "short", "no_id", "twice", "stillborn", "ignored", "blind",
             "doubled", "account"]  # fmt: skip
    other = Made("i-x", "e-od-1-1", "another deployment", "od", START_MS, PRICE)
    rented.market.machines.append(other)
    wanted: int | None = 0
    for turn in range(400):
        if turn % 25 == 0:
            wanted = chance.choice([None, 0, 1, 2, 3, 9])
        if turn == 200:
            rented.start(8)
        for verb in ("offers", "create", "list", "terminate"):
            if verb != "create" or "twice" not in rented.market.faults.get(verb, []):
                rented.market.faults[verb] = [chance.choice(kinds)]
        rented.tick(wanted)
        running = [m for m in rented.market.alive() if m.client_token]
        assert len({m.client_token for m in running}) <= BOUNDS.machines_max
    rented.market.faults = {}
    rented.tick(2, 300)
    assert rented.alive == 2, f"seed {seed}"
    rented.tick(0, 300)
    assert rented.alive == 0, f"seed {seed}"
    assert not other.is_ended


def through(market: Market, folder: Path) -> ExecHook:
    """The fake as a program."""
    path = folder / "market.json"
    path.write_bytes(msgspec.json.encode(market))
    return ExecHook((sys.executable, "-m", "serving.fakes.machines", str(path)))


def test_a_program_of_the_operators_rents_and_gives_back(tmp_path: Path) -> None:
    async def run() -> None:
        hook = through(Market(now_ms=START_MS), tmp_path)
        (offer, _) = await hook.offers(TAGS, "", 20.0)
        assert offer.hour_micro == PRICE
        order = Create("t-1", TAGS, offer.id, PRICE, fence=3)
        first, again = await hook.create(order, 20.0), await hook.create(order, 20.0)
        assert first.id == again.id
        assert [m.client_token for m in await hook.list(TAGS, 20.0)] == ["t-1"]
        await hook.terminate(first.id, 3, 20.0)
        assert await hook.list(TAGS, 20.0) == ()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "limit_s", "words"),
    [("garbage", 20.0, "JSON"), ("short", 20.0, "short, as"), ("hang", 1.5, "no answer within")],
)
def test_a_program_that_fails_says_how(
    tmp_path: Path, fault: str, limit_s: float, words: str
) -> None:
    hook = through(Market(faults={"list": [fault]}), tmp_path)
    with pytest.raises(ProviderError, match=words):
        asyncio.run(hook.list(TAGS, limit_s))


def test_a_program_that_speaks_another_encoding_is_away(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_bytes(b'{"machines":[{"id":"\xff"}]}')
    with pytest.raises(ProviderError, match="utf-8") as raised:
        asyncio.run(ExecHook(("/bin/cat", str(said))).list(TAGS, 20.0))
    assert raised.value.kind == "away"


def test_a_program_that_is_not_there_is_away() -> None:
    with pytest.raises(ProviderError, match="No such file") as raised:
        asyncio.run(ExecHook(("/nonexistent/rent",)).list(TAGS, 1.0))
    assert raised.value.kind == "away"
