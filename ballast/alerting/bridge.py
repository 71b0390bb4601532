"""The bridge's process: takes Alertmanager's posts, queues them, tells each robot in its own time.

A full queue answers 503, so Alertmanager keeps the news and tries again; a robot that is away or
asks to slow down is tried again for a while, then its news is dropped, counted, and told with the
next post.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, generate_latest

from ballast.alerting import settings as given
from ballast.alerting.cards import Group, Kind, card, payload
from ballast.alerting.settings import Alerting, Robot, Secrets
from ballast.alerting.signing import signed
from ballast.alerting.telling import Told, heard
from serving.unreadable import UNREADABLE

QUEUE_MAX = 100
"""Groups that wait for one robot."""
BODY_MAX = 1 << 20
SEND_S = 10.0
TRIES_S = (1.0, 4.0, 15.0, 60.0)
"""Waits between tries of one card."""
PACE_S: Mapping[Kind, float] = {"feishu": 0.6, "dingtalk": 3.0, "wecom": 3.0}
"""Between cards: the robots take 100, 20 and 20 a minute (sources: `cards`)."""
_log = logging.getLogger("ballast.alerting")


class RobotError(Exception):
    """A robot did not take a card; says why, never its address."""


class Bridge:
    """Owns the queues and the tasks that empty them."""

    def __init__(
        self,
        settings: Alerting,
        utc_ms: Callable[[], int],
        waits_s: tuple[float, ...] = TRIES_S,
        pace_s: Mapping[Kind, float] = PACE_S,
    ) -> None:
        self._settings = settings
        self._utc_ms = utc_ms
        self._waits_s, self._pace_s = waits_s, pace_s
        self._token = given.line(settings.token_file, "token_file") if settings.token_file else ""
        self._secrets = {robot.name: given.secrets(robot) for robot in settings.robots}
        self._queues: dict[str, asyncio.Queue[Group]] = {
            robot.name: asyncio.Queue(QUEUE_MAX) for robot in settings.robots
        }
        self._told = Told(settings.repeat_s)
        self.registry = CollectorRegistry()
        self._count = Counter("ballast_alerts_told", "Groups by robot and what became of them",
                              ["robot", "result"], registry=self.registry)  # fmt: skip

    def app(self) -> web.Application:
        """`POST /alerts` for Alertmanager, `/livez`, `/metrics`."""
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_post("/alerts", self._post)
        app.router.add_get("/livez", _livez)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for robot in self._settings.robots:
                tasks.create_task(self._tell(session, robot), name=f"robot-{robot.name}")

    async def _post(self, request: web.Request) -> web.Response:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._token and not hmac.compare_digest(shown.encode(), self._token.encode()):
            return web.Response(status=401, text="show the token of `token_file` as a bearer token")
        try:
            group = msgspec.json.decode(await request.read(), type=Group)
        except UNREADABLE as error:
            return web.Response(status=400, text=f"no Alertmanager webhook of version 4: {error}")
        now_s, is_full = time.monotonic(), False
        for robot in self._settings.robots:
            part = heard(group, robot)
            if part is None or not self._told.is_new(robot.name, part, now_s):
                continue
            try:
                self._queues[robot.name].put_nowait(part)
            except asyncio.QueueFull:
                self._count.labels(robot.name, "queue_full").inc()
                is_full = True
                continue
            self._told.telling(robot.name, part, now_s)
        if is_full:
            return web.Response(status=503, text="a robot is slower than its news; send it again")
        return web.Response(text="queued")

    async def _metrics(self, _: web.Request) -> web.Response:
        head = {"content-type": "text/plain; version=0.0.4"}
        return web.Response(body=generate_latest(self.registry), headers=head)

    async def _tell(self, session: aiohttp.ClientSession, robot: Robot) -> None:
        queue = self._queues[robot.name]
        while True:
            group = await queue.get()
            told = card(group, robot.language)
            result = await self._tell_one(session, robot, payload(robot.kind, told))
            self._count.labels(robot.name, result).inc()
            if result != "told":
                self._told.failed(robot.name, group)
            await asyncio.sleep(self._pace_s[robot.kind])

    async def _tell_one(
        self, session: aiohttp.ClientSession, robot: Robot, body: dict[str, Any]
    ) -> str:
        for wait_s in (*self._waits_s, None):
            try:
                await _send(session, robot.kind, self._secrets[robot.name], body, self._utc_ms())
            except (RobotError, aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = str(error) if isinstance(error, RobotError) else type(error).__name__
                extra = {"robot": robot.name, "reason": reason, "again_in_s": wait_s}
                _log.warning("robot_did_not_take_it", extra=extra)
            else:
                return "told"
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        return "dropped"


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text='{"status":"ok"}', content_type="application/json")


async def _send(
    session: aiohttp.ClientSession, kind: Kind, secrets: Secrets, body: dict[str, Any], utc_ms: int
) -> None:
    """One try. Raises RobotError, or what aiohttp raises."""
    url, sent = signed(kind, secrets.url, secrets.secret, body, utc_ms)
    timeout = aiohttp.ClientTimeout(total=SEND_S)
    async with session.post(url, json=sent, timeout=timeout, allow_redirects=False) as reply:
        if reply.status != 200:
            raise RobotError(f"status {reply.status}")
        raw = await reply.content.read(65536)
    try:
        said = msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE:
        raise RobotError("its answer is no JSON") from None
    # All three answer 200 and say in the body whether they took it.
    code = said.get("code", said.get("errcode", said.get("StatusCode")))
    if code != 0:
        raise RobotError(f"code {code}: {str(said.get('msg') or said.get('errmsg') or '')[:200]}")
