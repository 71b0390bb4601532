"""From Alertmanager's webhook to the robots: once, signed, in the reader's language, never lost in
silence."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import urllib.parse

import aiohttp
import msgspec
import pytest

from ballast.alerting.__main__ import serve
from ballast.alerting.bridge import Bridge
from ballast.alerting.cards import ALERTS_MAX, WECOM_BYTES_MAX, Group, card, payload
from ballast.alerting.settings import Alerting, Robot, load, secrets
from ballast.alerting.signing import signed
from ballast.alerting.telling import GROUPS_MAX, Told, heard
from ballast.problem import ProblemError

PACE = dict.fromkeys(("feishu", "dingtalk", "wecom"), 0.0)


def parsed(told):
    return msgspec.convert(told, Group)


def test_a_card_says_what_is_wrong_what_to_do_and_where_to_silence_it(group):
    told = card(parsed(group()), "zh")
    assert told.title == "告警 (立即处理): BallastUnmetDemand"
    assert told.lines == ("m0 is refused", "处理：Raise 'most'.")
    url = urllib.parse.unquote(told.silence_url)
    assert url.startswith("http://alerts.example:9093/#/silences/new?filter=")
    assert 'alertname="BallastUnmetDemand"' in url


def test_what_is_over_asks_for_nothing(group):
    told = card(parsed(group(status="resolved")), "en")
    assert told.title == "Resolved: BallastUnmetDemand"
    assert told.lines == ("m0 is refused",)


def test_a_large_group_is_cut_and_says_so(group):
    told = card(parsed(group(alerts=ALERTS_MAX + 7)), "en")
    assert told.lines[-1] == "7 more"


@pytest.mark.parametrize("kind", ["feishu", "dingtalk", "wecom"])
def test_a_label_can_draw_neither_link_nor_line_nor_mention(group, kind):
    evil = group()
    evil["alerts"][0]["annotations"] = {
        "summary": "x\n\n[pay](http://evil.example) <at id=all></at> **now**"
    }
    text = str(payload(kind, card(parsed(evil), "en")))
    assert "<at" not in text
    assert "](http://evil" not in text
    assert "x  ［pay］" in text


def test_wecom_never_gets_more_than_it_takes(group):
    big = group(alerts=ALERTS_MAX)
    for alert in big["alerts"]:
        alert["annotations"] = {"summary": "很" * 5000}
    content = payload("wecom", card(parsed(big), "zh"))["markdown"]["content"]
    assert len(content.encode()) <= WECOM_BYTES_MAX
    assert content.endswith(")")


def test_feishu_signs_in_the_body_and_dingtalk_in_the_address():
    def mac(key, message):
        return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()

    url, body = signed("feishu", "https://f.example/h", "s3", {"a": 1}, 1_700_000_000_123)
    assert url == "https://f.example/h"
    assert body == {"timestamp": "1700000000", "sign": mac(b"1700000000\ns3", b""), "a": 1}
    url, body = signed("dingtalk", "https://d.example/h?k=1", "s3", {"a": 1}, 1_700_000_000_123)
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert query == {"k": "1", "timestamp": "1700000000123",
                     "sign": mac(b"s3", b"1700000000123\ns3")}  # fmt: skip
    assert body == {"a": 1}


def test_the_same_news_is_told_once_until_it_is_time_to_repeat_it(group):
    told, firing = Told(repeat_s=60.0), parsed(group())
    assert told.is_new("r", firing, 0.0)
    told.telling("r", firing, 0.0)
    assert not told.is_new("r", firing, 59.0)
    assert told.is_new("r", firing, 60.0)
    assert told.is_new("r", parsed(group(alerts=2)), 1.0)
    assert told.is_new("other", firing, 1.0)


def test_only_who_heard_of_the_start_hears_of_the_end(group):
    told, over = Told(repeat_s=0.0), parsed(group(status="resolved"))
    assert not told.is_new("r", over, 0.0)
    told.telling("r", parsed(group()), 0.0)
    assert told.is_new("r", over, 1.0)
    told.telling("r", over, 1.0)
    assert not told.is_new("r", over, 2.0)


def test_what_is_remembered_is_bounded(group):
    told = Told(repeat_s=1e9)
    for number in range(GROUPS_MAX + 1):
        told.telling("r", parsed(group(key=str(number))), 0.0)
    assert told.is_new("r", parsed(group(key="0")), 1.0)
    assert not told.is_new("r", parsed(group(key=str(GROUPS_MAX))), 1.0)


def test_a_robot_hears_only_of_what_it_is_there_for(group, tmp_path):
    robot = Robot(name="r", kind="wecom", url_file=tmp_path, severities=("page",))
    assert heard(parsed(group(severity="note")), robot) is None
    assert heard(parsed(group(severity="page")), robot) is not None


@pytest.fixture
def settings(tmp_path):
    def build(url, **more):
        (tmp_path / "token").write_text("t0ken\n")
        rows = []
        for kind in ("feishu", "dingtalk", "wecom"):
            (tmp_path / kind).write_text(f"{url}/{kind}\n")
            rows.append(Robot(name=kind, kind=kind, url_file=tmp_path / kind, language="zh"))
        return Alerting(robots=tuple(rows), token_file=tmp_path / "token", **more)

    return build


@pytest.fixture
def bridge(robots, listening, settings):
    """Run `talk(post, robots, bridge)` against a bridge between a poster and the robots."""

    def run(talk, waits_s=(0.0,), **more):
        async def all_of_it():
            async with robots() as played, aiohttp.ClientSession() as session:
                made = Bridge(settings(played.url, **more), lambda: 0, waits_s, PACE)
                async with listening(made.app()) as url:

                    async def post(told, token="t0ken"):
                        head = {"authorization": f"Bearer {token}"}
                        async with session.post(url + "/alerts", json=told, headers=head) as reply:
                            return reply.status, await reply.text()

                    work = asyncio.ensure_future(made.run(session))
                    await talk(post, played, made)
                    work.cancel()
                    await asyncio.wait([work])

        asyncio.run(all_of_it())

    return run


def test_all_three_robots_are_told(bridge, group):
    async def talk(post, played, made):
        assert (await post(group()))[0] == 200
        cards = {path: body for path, _, body in await played.until(3)}
        assert cards["/feishu"]["card"]["header"]["template"] == "red"
        assert cards["/dingtalk"]["actionCard"]["title"].startswith("告警")
        assert "BallastUnmetDemand" in cards["/wecom"]["markdown"]["content"]

    bridge(talk)


def test_a_robot_that_says_no_in_a_200_is_tried_again(bridge, group):
    async def talk(post, played, made):
        played.answers = [(200, {"errcode": 45009, "errmsg": "too often"})] * 3
        await post(group())
        assert len(await played.until(6)) == 6

    bridge(talk)


def test_news_that_no_try_could_tell_is_counted_and_told_with_the_next_post(bridge, group):
    async def talk(post, played, made):
        played.answers = [(500, {})] * 3
        await post(group())
        await played.until(3)

        def dropped():
            return sum(
                made.registry.get_sample_value(
                    "ballast_alerts_told_total", {"robot": r, "result": "dropped"}
                ) or 0 for r in PACE
            )  # fmt: skip

        while dropped() < 3:
            await asyncio.sleep(0)
        await post(group())
        assert len(await played.until(6)) == 6

    bridge(talk, waits_s=())


def test_a_wrong_token_and_nonsense_are_refused_by_name(bridge, group):
    async def talk(post, played, made):
        assert (await post(group(), token="guess"))[0] == 401
        status, said = await post({"alerts": 3})
        assert status == 400
        assert "version 4" in said
        assert played.got == []

    bridge(talk)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("robots: []", "robots"),
        ("robots: [{name: a, kind: slack, url_file: x}]", "kind"),
        ("robots: [{name: a, kind: wecom, url_file: x}]\nhost: 0.0.0.0", "token_file"),
        ("robots: [{name: a, kind: wecom, url_file: x}, {name: a, kind: wecom, url_file: x}]",
         "same name"),
        ("robots: [{name: a, kind: wecom, url_file: x, colour: red}]", "colour"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(tmp_path, text, named):
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    with pytest.raises(ProblemError, match=named):
        load(path)


def test_a_robots_address_is_never_in_an_error(tmp_path):
    path = tmp_path / "url"
    path.write_text("http://robot.example/hook?key=s3cret")
    robot = Robot(name="a", kind="wecom", url_file=path)
    with pytest.raises(ProblemError) as caught:
        secrets(robot)
    assert "s3cret" not in caught.value.what


def test_an_answer_in_another_encoding_ends_neither_robot_nor_bridge(bridge, group):
    async def talk(post, played, made):
        played.answers = [(200, b'{"errcode":1,"errmsg":"\xc3\xbb\xd3\xd0"}')] * 6
        await post(group())
        await played.until(6)
        await post(group(key="other"))
        assert len(await played.until(9)) == 9

    bridge(talk)


def test_a_bridge_whose_robots_stopped_ends_and_says_why(settings, monkeypatch):
    async def broken(self, session):
        raise ZeroDivisionError

    monkeypatch.setattr(Bridge, "run", broken)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(
            asyncio.wait_for(serve(settings("http://127.0.0.1:1", port=0), asyncio.Event()), 20)
        )
