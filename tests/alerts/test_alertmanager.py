"""Alertmanager's own files in the chart: read by `amtool`, and run by a real Alertmanager that
tells the bridge's robots once, in their language, and not what follows from news told already."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from contextlib import contextmanager

import aiohttp
import msgspec
import pytest
import yaml

from ballast.alerting.bridge import Bridge
from ballast.alerting.cards import Group, card
from ballast.alerting.settings import Alerting, Robot

pytestmark = pytest.mark.server
STARTS_S_MAX = 20


@pytest.fixture
def shipped(rules_file):
    return rules_file.parent / "alertmanager"


@pytest.fixture
def amtool(tool):
    path = tool("amtool", "prometheus-alertmanager")

    def run(*argv):
        done = subprocess.run(
            [path, *map(str, argv)], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_amtool_takes_the_configuration_with_its_templates(amtool, shipped):
    said = amtool("check-config", shipped / "alertmanager.yaml")
    assert "1 templates" in said
    assert "7 inhibit rules" in said


@pytest.mark.parametrize("severity", ["page", "ticket", "note", "none"])
def test_every_severity_goes_to_the_bridge(amtool, shipped, severity):
    asked = ("config", "routes", "test", f"severity={severity}", "alertname=X")
    said = amtool(*asked, "--config.file", shipped / "alertmanager.yaml")
    assert said.split() == ["ballast"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("status", ["firing", "resolved"])
@pytest.mark.parametrize("severity", ["page", "ticket", "note"])
def test_a_template_says_what_the_bridges_card_says(
    amtool, shipped, group, tmp_path, language, status, severity
):
    told = group(status=status, severity=severity, alerts=12) | {"receiver": "ballast"}
    data = tmp_path / "data.json"
    data.write_text(json.dumps(told))

    def render(name):
        text = f'{{{{ template "ballast.{language}.{name}" . }}}}'
        given = ("--template.glob", shipped / "*.tmpl", "--template.text", text)
        return amtool("template", "render", *given, "--template.data", data).rstrip("\n")

    expected = card(msgspec.convert(told, Group), language)
    assert render("title") == expected.title
    lines = render("text").split("\n")
    assert lines[0] == expected.lines[0]
    assert "10" in next(one for one in lines if "12" in one), "a large group is cut and says so"
    if status == "firing":
        assert lines[1] == expected.lines[1].replace("'", "`")
        assert lines[-1].startswith(f"{expected.silence}: http://alerts.example:9093/#/silences/")
        assert "%22BallastUnmetDemand%22" in lines[-1]


def test_what_inhibits_names_alerts_and_labels_that_the_rules_have(shipped, rules_file):
    rules = {
        rule["alert"]: rule["expr"]
        for one in yaml.safe_load(rules_file.read_text("utf-8"))["groups"]
        for rule in one["rules"]
        if "alert" in rule
    }
    records = {
        rule["record"]: rule["expr"]
        for one in yaml.safe_load(rules_file.read_text("utf-8"))["groups"]
        for rule in one["rules"]
        if "record" in rule
    }

    def labels(alert):
        text = rules[alert] + "".join(e for r, e in records.items() if r in rules[alert])
        kept = re.findall(r"by \(([^)]*)\)", text)
        return {"instance"} if "up{" in text else set(", ".join(kept).split(", "))

    config = yaml.safe_load((shipped / "alertmanager.yaml").read_text("utf-8"))
    for rule in config["inhibit_rules"]:
        asked = [*rule["source_matchers"], *rule["target_matchers"]]
        for name in re.findall(r"Ballast\w+", " ".join(asked)):
            assert name in rules
            assert set(rule["equal"]) <= labels(name), f"{name}: {rule}"


@contextmanager
def alertmanager(folder, shipped, port, bridge, slack):
    """A real one with the shipped files: other addresses, short waits, and one receiver more that
    takes its words from the templates."""
    config = yaml.safe_load((shipped / "alertmanager.yaml").read_text("utf-8"))
    config["templates"] = [str(shipped / "*.tmpl")]
    hook = config["receivers"][0]["webhook_configs"][0]
    hook["url"] = f"{bridge}/alerts"
    del hook["http_config"]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "200ms", "group_interval": "1s"}
    config["route"]["routes"].insert(0, {"receiver": "words", "continue": True})
    config["receivers"].append({"name": "words", "slack_configs": [{
        "api_url": slack, "channel": "x", "send_resolved": True,
        "title": '{{ template "ballast.en.title" . }}',
        "text": '{{ template "ballast.zh.text" . }}',
    }]})  # fmt: skip
    path = folder / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    argv = ["prometheus-alertmanager", f"--config.file={path}", f"--storage.path={folder}/am",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
            f"--web.external-url=http://127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            yield f"http://127.0.0.1:{port}/api/v2/alerts"
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


def firing(name, **labels):
    return {
        "labels": {"alertname": name, "severity": "page", **labels},
        "annotations": {"summary": f"{name} of {labels}", "action": "Look."},
    }


async def post(session, url, *alerts):
    """Hand alerts in as Prometheus does; waits until Alertmanager listens."""
    async with asyncio.timeout(STARTS_S_MAX):
        while True:
            try:
                async with session.post(url, json=list(alerts)) as reply:
                    assert reply.status == 200, await reply.text()
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


def test_a_real_alertmanager_tells_once_in_each_language_and_not_what_follows(
    tool, tmp_path, shipped, robots, listening, free_ports
):
    tool("prometheus-alertmanager")
    (port,) = free_ports(1)

    async def everything():
        async with robots() as played, aiohttp.ClientSession() as session:
            rows = []
            for language in ("zh", "en"):
                (tmp_path / language).write_text(f"{played.url}/{language}")
                rows.append(Robot(name=language, kind="feishu", url_file=tmp_path / language,
                                  language=language))  # fmt: skip
            bridge = Bridge(Alerting(robots=tuple(rows)), lambda: 0, (0.0,), {"feishu": 0.0})
            async with listening(bridge.app()) as url:
                work = asyncio.ensure_future(bridge.run(session))
                slack = f"{played.url}/slack"
                with alertmanager(tmp_path, shipped, port, url, slack) as api:
                    await told(session, api, played)
                work.cancel()
                await asyncio.wait([work])

    async def told(session, api, played):
        burn = {"model": "m", "class": "interactive"}
        cause = firing("BallastSloBurnFast", **burn)
        await post(session, api, cause, firing("BallastSloBurnSlow", **burn))
        await played.until(3)
        # Once more the same, and one that nothing explains: when that is told, the rest was due.
        await post(session, api, cause, firing("BallastSloBurnSlow", **burn))
        await post(session, api, firing("BallastSloBurnSlow", model="other", **{"class": "live"}))
        got = await played.until(6)
        by_path = {}
        for path, _, body in got:
            by_path.setdefault(path, []).append(json.dumps(body, ensure_ascii=False))
        assert {path: len(found) for path, found in by_path.items()} == {
            "/zh": 2, "/en": 2, "/slack": 2,
        }  # fmt: skip
        for found in by_path.values():
            assert "BallastSloBurnFast" in found[0]
            assert "BallastSloBurnSlow" in found[1]
            assert "'model': 'other'" in found[1].replace("’", "'")
            assert "'model': 'm'" not in found[1]
        assert "立即处理" in by_path["/zh"][0]
        assert "Alert (now)" in by_path["/en"][0]
        assert "Alert (now): BallastSloBurnFast" in by_path["/slack"][0]
        assert "处理：Look." in by_path["/slack"][0]

    asyncio.run(everything())
