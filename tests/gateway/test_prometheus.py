"""A real Prometheus reads the running gateway with our rules and dashboards; a real Alertmanager
passes an alert on to the bridge, which tells a robot."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from ballast.alerting.bridge import Bridge
from ballast.alerting.settings import Alerting, Robot
from deploy.grafana.panels import pages

FILES = Path(__file__).parents[2] / "deploy/helm/ballast/files"
QUERIES = [q for page in pages() for question in page.questions for q in question.queries.values()]
ELSEWHERE = re.compile(
    r"ballast_(controller|canary|audit|grant|guard|budget|refused|unparsed|queue_wait|inter_token)|DCGM"
)
"""What one gateway with one engine and one provider has nothing of: the controller, GPUs, credits,
canaries; nobody waited, was refused, masked or bound by a budget. All else must answer."""
pytestmark = pytest.mark.server


@contextmanager
def process(*argv: str):
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


def at_once(folder: Path) -> Path:
    """The rules with no time to wait: what is tested here is the way, not the patience."""
    told = yaml.safe_load((FILES / "rules.yaml").read_text("utf-8"))
    for group in told["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return path


def prometheus(folder: Path, port: int, target: str, alertmanager: int) -> list[str]:
    told = {
        "global": {"scrape_interval": "300ms", "scrape_timeout": "300ms",
                   "evaluation_interval": "300ms"},
        "rule_files": [str(at_once(folder))],
        "scrape_configs": [
            {"job_name": "ballast-gateway", "static_configs": [{"targets": [target]}]}
        ],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        },
    }  # fmt: skip
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip


def alertmanager(folder: Path, port: int, bridge: str) -> list[str]:
    hook = {"url": f"{bridge}/alerts", "send_resolved": True}
    told = {
        "route": {"receiver": "ballast", "group_by": ["alertname"], "group_wait": "100ms",
                  "group_interval": "1s"},
        "receivers": [{"name": "ballast", "webhook_configs": [hook]}],
    }  # fmt: skip
    path = folder / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return ["prometheus-alertmanager", f"--config.file={path}", f"--storage.path={folder}/am",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
            f"--web.external-url=http://127.0.0.1:{port}", "--log.level=error"]  # fmt: skip


def test_an_open_breaker_is_scraped_judged_routed_and_told(run, kit, tmp_path, tool, free_ports):
    tool("prometheus")
    tool("prometheus-alertmanager")
    cards: asyncio.Queue[dict] = asyncio.Queue()

    async def take(request):
        cards.put_nowait(await request.json())
        return web.json_response({"code": 0})

    async def listen(app, opened):
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        opened.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def check(stack) -> None:
        async with AsyncExitStack() as opened:
            await told(stack, opened)

    async def told(stack, opened) -> None:
        robot_app = web.Application()
        robot_app.router.add_post("/hook", take)
        robot_url = await listen(robot_app, opened)
        (tmp_path / "url").write_text(f"{robot_url}/hook")
        robot = Robot(name="duty", kind="feishu", url_file=tmp_path / "url", language="en")
        bridge = Bridge(Alerting(robots=(robot,)), lambda: 0)
        bridge_url = await listen(bridge.app(), opened)
        telling = asyncio.ensure_future(bridge.run(stack.session))
        opened.callback(telling.cancel)
        reader, router = free_ports(2)
        base = f"http://127.0.0.1:{reader}/api/v1"

        async def answer(query: str) -> list[dict]:
            try:
                asked = query.replace("$__rate_interval", "10s").replace("$model", ".*")
                async with stack.session.get(f"{base}/query", params={"query": asked}) as reply:
                    if reply.status == 503:
                        return []  # it still starts
                    said = await reply.json()
            except aiohttp.ClientConnectionError:
                return []
            assert said["status"] == "success", said
            return said["data"]["result"]

        target = stack.ops.removeprefix("http://")
        with (
            process(*alertmanager(tmp_path, router, bridge_url)),
            process(*prometheus(tmp_path, reader, target, router)),
        ):
            assert (await stack.chat(stream=True)).status == 200
            await kit.eventually(lambda: answer("ballast_requests_total"))
            await stack.control(stack.engines[0], fail_next=3, status=500)
            for _ in range(3):
                assert (await stack.chat(stream=True)).status == 200
            card = await asyncio.wait_for(cards.get(), 30)
            assert "BallastBreakerOpen" in json.dumps(card)
            for query in QUERIES:  # a rate takes two scrapes of a series that has just begun
                if not ELSEWHERE.search(query):
                    await kit.eventually(lambda asked=query: answer(asked))

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})
