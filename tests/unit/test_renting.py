"""The other ways to rent: a number told to a web service, a card for people."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web

from autoscale.acts import Act
from autoscale.actuators.advice import AdviceActuator, Looked
from autoscale.actuators.base import Order
from autoscale.actuators.webhook import Hook, WebhookActuator
from autoscale.advice import DAY_MS, Record, Term, learnt, reserved
from autoscale.briefing import policy_of
from autoscale.lease import Fence, Granted
from autoscale.machines import Bounds, Tags
from autoscale.policy import Plan, Policy, Pool
from autoscale.records import Decision, Hold, Samples, Scale, Supply
from autoscale.renting import renting
from serving.settings import Settings, SettingsError

AT_MS = 1_800_000_000_000
"""2027-01-15, 08:00 UTC."""
PRICE = 2_000_000
TAGS = Tags("d", "m", "od")
BOUNDS = Bounds(3, 2 * PRICE, PRICE, PRICE)
NO_HTTP = cast("aiohttp.ClientSession", None)


def order(decision: Decision, at_ms: int = AT_MS, **more: Any) -> Order:
    samples = Samples(at_ms, **more)
    return Order((decision,), samples, more.pop("policy", Policy(())))


def fence(token: int = 5) -> Fence:
    return Fence(Granted(token, 100.0), lambda: 0.0)


class Receiver:
    """Somebody's web service."""

    def __init__(self) -> None:
        self.status, self.answer = 200, '{"machines": 1}'
        self.headers: dict[str, str] = {}
        self.gate: asyncio.Event | None = None
        self.got: list[Mapping[str, Any]] = []
        self.signatures: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(json.loads(await request.read()))
        self.signatures.append(request.headers["x-ballast-signature"])
        signed = hmac.new(b"s3cret", await request.read(), hashlib.sha256).hexdigest()
        assert self.signatures[-1] == f"sha256={signed}"
        if self.gate is not None:
            await self.gate.wait()
        return web.Response(status=self.status, text=self.answer, headers=self.headers)


Say = Callable[[Decision, int], Awaitable[Act]]


def told(
    receiver: Receiver, folder: Path, work: Callable[[Say], Awaitable[None]],
    patience_s: float = 5.0,
) -> WebhookActuator:  # fmt: skip
    """Run `work` with a webhook that points at the receiver."""
    made: list[WebhookActuator] = []

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/", receiver.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (folder / "s").write_text("s3cret\n")
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/?key=in-the-query"
        actuator = WebhookActuator(Hook(TAGS, BOUNDS, url, folder / "s", 1, 5.0), patience_s)
        made.append(actuator)
        async with aiohttp.ClientSession() as session:

            async def say(decision: Decision, at_ms: int) -> Act:
                (act,) = await actuator.apply(order(decision, at_ms), fence(), session)
                return act

            await work(say)
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 30))
    return made[0]


def scale(count: int) -> Scale:
    return Scale("m", count, "r", {"od": count}, {"rate": float(count)})


def test_a_web_service_is_told_the_number_signed_within_bounds_and_again_each_minute(
    tmp_path: Path,
) -> None:
    receiver = Receiver()

    async def work(say: Say) -> None:
        assert (await say(Hold("m", "no data"), AT_MS)).outcome == "kept"
        assert receiver.got == []
        act = await say(scale(9), AT_MS)
        assert (act.outcome, act.wanted, act.seen) == ("asked", 2, 1)
        assert "9 wanted, our own bounds allow 2" in act.reason
        assert (await say(scale(9), AT_MS + 5_000)).outcome == "coming"
        await say(Hold("m", "no data"), AT_MS + 61_000)
        assert [one["machines"] for one in receiver.got] == [2, 2]
        assert receiver.got[0]["fence"] == 5
        assert receiver.got[0]["deployment"] == "d"

    told(receiver, tmp_path, work)


@pytest.mark.parametrize(
    ("status", "answer", "outcome", "words"),
    [(500, "", "unknown", "500"), (429, "", "unknown", "429"), (200, "<html>", "unknown", "JSON"),
     (200, '{"error": "no budget"}', "refused", "no budget"), (302, "", "unknown", "302")],
)  # fmt: skip
def test_a_web_service_that_does_not_take_it_is_told_again_at_the_next_tick(
    tmp_path: Path, status: int, answer: str, outcome: str, words: str
) -> None:
    receiver = Receiver()
    receiver.status, receiver.answer = status, answer

    async def work(say: Say) -> None:
        act = await say(scale(1), AT_MS)
        assert act.outcome == outcome
        assert words in act.reason
        assert "in-the-query" not in act.reason
        receiver.status, receiver.answer = 204, ""
        assert (await say(scale(1), AT_MS + 1)).outcome == "asked"

    told(receiver, tmp_path, work)


def test_a_receiver_that_hangs_holds_up_no_tick_and_is_asked_once(tmp_path: Path) -> None:
    receiver = Receiver()

    async def work(say: Say) -> None:
        receiver.gate = asyncio.Event()
        for tick in range(3):
            act = await say(scale(1), AT_MS + tick)
            assert (act.outcome, act.reason) == ("coming", "its receiver has not answered yet")
        receiver.gate.set()
        while act.outcome == "coming":
            act = await say(scale(1), AT_MS + 3)
        assert act.outcome == "asked"
        assert len(receiver.got) == 1

    told(receiver, tmp_path, work, patience_s=0.05)


def test_a_receiver_that_says_yes_and_never_delivers_is_told_as_stuck_and_short(
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    receiver.answer = '{"machines": 0}'
    late_ms = AT_MS + 960_000

    async def work(say: Say) -> None:
        outcomes = [(await say(scale(1), AT_MS + 60_000 * minute)).outcome for minute in range(17)]
        assert outcomes == ["asked"] + ["coming"] * 15 + ["stuck"]
        assert (await say(scale(1), late_ms)).reason == "it has 0 of 1 for 16 minutes"

    assert told(receiver, tmp_path, work).short(late_ms) == ("m/od",)

    async def delivered(say: Say) -> None:
        await work(say)
        receiver.answer = '{"machines": 1}'
        assert (await say(scale(1), late_ms + 60_000)).outcome == "kept"

    receiver.answer = '{"machines": 0}'
    assert told(receiver, tmp_path, delivered).short(late_ms + 60_000) == ()


def test_a_receiver_that_keeps_machines_is_told_as_money_lost(tmp_path: Path) -> None:
    receiver = Receiver()

    async def work(say: Say) -> None:
        for minute in range(17):
            act = await say(scale(0), AT_MS + 60_000 * minute)
        assert act.reason == "it has 1 of 0 for 16 minutes, and the rest cost money"

    assert told(receiver, tmp_path, work).short(AT_MS) == ()


def test_a_receiver_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.status, receiver.headers = 429, {"retry-after": "20"}

    async def work(say: Say) -> None:
        assert "told again in 20 s" in (await say(scale(1), AT_MS)).reason
        assert "asked us to wait" in (await say(scale(1), AT_MS + 15_000)).reason
        receiver.status = 200
        assert (await say(scale(1), AT_MS + 21_000)).outcome == "asked"
        assert len(receiver.got) == 2

    told(receiver, tmp_path, work)


def test_nothing_is_signed_with_an_empty_secret(tmp_path: Path) -> None:
    receiver = Receiver()

    async def work(say: Say) -> None:
        (tmp_path / "s").write_text("\n")
        act = await say(scale(1), AT_MS)
        assert act.outcome == "unknown"
        assert "is empty" in act.reason
        assert receiver.got == []

    told(receiver, tmp_path, work)


MONTH = Pool("month", terms="reserved", hour_micro=PRICE, most=3)
PLAN = Plan("m", 16, (MONTH, Pool("od", gpu="h100-80", hour_micro=PRICE, most=4)))


def test_a_reserved_machine_that_no_day_needed_is_to_be_returned_by_its_terms_end() -> None:
    record = Record()
    for tick in range(20 * 288):  # twenty days, each with an hour at 1.6 replicas
        at_ms = AT_MS + (tick - 20 * 288) * 300_000
        record = learnt(record, 1.6 if tick % 288 < 12 else 0.2, at_ms)
    line = reserved(PLAN, MONTH, record, Term(None, 2), AT_MS)
    assert line is not None
    assert line.text.startswith("return 2 machines of month before 2027-01-31: in 2")
    assert "never needed more than 2 of 3" in line.text
    assert line.saves_micro_a_month == round(PRICE * 730.5)
    named = reserved(PLAN, MONTH, record, Term(date(2027, 3, 1), 1), AT_MS)
    assert named is not None
    assert "one machine of month before 2027-03-01" in named.text


def test_a_record_of_a_few_days_gives_no_advice_and_a_brief_peak_is_no_need() -> None:
    last = AT_MS // DAY_MS
    few = Record(peaks=dict.fromkeys(range(last - 12, last + 1), 0.1))
    assert reserved(PLAN, MONTH, few, Term(None, 1), AT_MS) is None
    full = Record(peaks=dict.fromkeys(range(last - 13, last + 1), 2.9))
    assert reserved(PLAN, MONTH, full, Term(None, 1), AT_MS) is None
    record = learnt(Record(0.0, AT_MS, {}), 9.0, AT_MS + 10_000)
    assert record.peaks[(AT_MS + 10_000) // DAY_MS] < 0.2
    assert learnt(record, 9.0, AT_MS - 5).smooth == 9.0  # a clock set back begins anew


def at(year: int, month: int, day: int, hour: int) -> int:
    return round(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at_ms", "offset", "by"),
    [(at(2027, 1, 31, 15), 480, "2027-01-31"), (at(2027, 1, 31, 16), 480, "2027-02-28"),
     (at(2027, 2, 1, 3), -300, "2027-01-31"), (at(2028, 2, 1, 0), 0, "2028-02-29"),
     (at(2027, 12, 31, 23), 0, "2027-12-31"), (at(2027, 12, 31, 23), 60, "2028-01-31")],
)  # fmt: skip
def test_a_month_ends_at_the_operators_midnight(at_ms: int, offset: int, by: str) -> None:
    last = at_ms // DAY_MS
    record = Record(peaks={last - back: 0.5 for back in range(20)})
    plan = msgspec.structs.replace(PLAN, utc_offset_minutes=offset)
    line = reserved(plan, MONTH, record, Term(None, 1), at_ms)
    assert line is not None
    assert line.by == by


def test_days_long_past_and_days_ahead_are_no_record() -> None:
    last = AT_MS // DAY_MS
    old = {last - 62 - back: 0.5 for back in range(40)}
    ahead = {last + 1 + day: 0.5 for day in range(10)}
    recent = {last - back: 0.5 for back in range(13)}
    assert reserved(PLAN, MONTH, Record(peaks=old | ahead | recent), Term(None, 1), AT_MS) is None


def test_a_term_that_is_over_is_asked_for_and_no_return_is_advised() -> None:
    record = Record(peaks={AT_MS // DAY_MS - back: 0.5 for back in range(20)})
    line = reserved(PLAN, MONTH, record, Term(date(2027, 1, 14), 1), AT_MS)
    assert line is not None
    assert (line.do, line.machines, line.saves_micro_a_month) == ("keep", 0, 0)
    assert "term_ends 2027-01-14 is past" in line.text
    today = reserved(PLAN, MONTH, record, Term(date(2027, 1, 15), 1), AT_MS)
    assert today is not None
    assert today.do == "return"


def test_people_are_told_what_to_rent_on_a_card(tmp_path: Path) -> None:
    plan = Plan("m", 16, (PLAN.pools[1],))
    actuator = AdviceActuator((Looked("m", "od", 2, None),), tmp_path)
    actuator.begin({})

    def card(decision: Decision, ready: int) -> str:
        samples = Samples(AT_MS, supply={"m": Supply(ready)})
        asyncio.run(actuator.apply(Order((decision,), samples, Policy((plan,))), fence(), NO_HTTP))
        return (tmp_path / "advice.txt").read_text()

    assert card(Hold("m", "no data"), 1) == "nothing to rent or return\n"
    assert card(scale(2), 1) == "rent 2 machines of od (h100-80): 2 wanted, 1 there\n"
    assert card(Hold("m", "h"), 3) == "return 2 machines of od (h100-80): 2 wanted, 3 there\n"
    (line,) = json.loads((tmp_path / "advice.json").read_text())
    assert line["do"] == "return"
    assert json.loads((tmp_path / "demand.json").read_text())["m"]["at_ms"] == AT_MS


def settings(entry: dict[str, Any], **more: Any) -> Settings:
    pools = [{"name": "od", "model": "m", "hour": "2"},
             {"name": "month", "model": "m", "hour": "1", "terms": "reserved"}]  # fmt: skip
    entry = {"model": "m", "pool": "od", "max_rented": 2} | entry
    controller = {"scaling": {"pools": pools}, "acting": {"machines": [entry]}}
    return Settings.model_validate(
        {"deployment_id": "d", "models": [{"name": "m"}], "controller": controller} | more
    )


def test_prices_in_dollars_are_held_against_bounds_in_dollars_only(tmp_path: Path) -> None:
    given = settings({"by": "skypilot", "task": "t", "accelerators": "H100:1"})
    scaling = given.controller.scaling.model_copy(update={"currency": "CNY"})
    controller = given.controller.model_copy(update={"scaling": scaling})
    with pytest.raises(SettingsError, match=r"in US dollars, and .* is CNY"):
        made(given.model_copy(update={"controller": controller}), tmp_path)


def made(given: Settings, folder: Path) -> list[str]:
    policy = policy_of(given, date(2027, 1, 15))
    return [actuator.name for actuator in renting(given, policy, folder, dict)]


def test_each_way_to_rent_is_made_from_its_settings(tmp_path: Path) -> None:
    assert made(settings({"by": "exec", "argv": ["rent"]}), tmp_path) == ["machines/od"]
    assert made(settings({"by": "webhook", "url": "https://h/x"}), tmp_path) == ["webhook/od"]
    assert made(settings({"by": "advice", "pool": "month"}), tmp_path) == ["advice"]


@pytest.mark.parametrize(
    ("entry", "more", "words"),
    [
        ({"by": "exec", "argv": ["r"], "pool": "x"}, {}, "no pool 'x' of 'm'"),
        ({"by": "exec", "argv": ["r"], "pool": "month"}, {}, "use `advice`"),
        ({"by": "exec", "argv": ["r"]}, {"deployment_id": None}, "name deployment_id"),
        ({"by": "skypilot", "task": "t", "accelerators": "H100:1"}, {}, "pip install skypilot"),
    ],
)
def test_settings_that_cannot_rent_are_refused_by_name(
    tmp_path: Path, entry: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        made(settings(entry, **more), tmp_path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [({"by": "exec"}, "name argv"), ({"by": "webhook"}, "name url"),
     ({"by": "skypilot"}, "name task, accelerators"),
     ({"by": "exec", "argv": ["r"], "max_rented": 0}, "max_rented: say how many")],
)  # fmt: skip
def test_entries_that_lack_something_say_what(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(entry)


def test_two_writers_of_one_number_are_refused() -> None:
    one = {"model": "m", "pool": "od", "by": "advice"}
    with pytest.raises(ValueError, match="would write the same number"):
        Settings.model_validate({"controller": {"acting": {"machines": [one, one]}}})
