"""The rules as Prometheus reads them, and robots that answer like the real ones."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy/helm/ballast/files"


@pytest.fixture(scope="session")
def rules_file():
    return FILES / "rules.yaml"


class Robots:
    """One server that plays all three: keeps what it was sent, answers what it is told to."""

    def __init__(self):
        self.got = []
        self.answers = []
        """Taken one by one; then all is well."""
        self.came = asyncio.Event()

    async def take(self, request):
        self.got.append((request.path, dict(request.query), await request.json()))
        self.came.set()
        status, body = self.answers.pop(0) if self.answers else (200, {"code": 0, "errcode": 0})
        told = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=told)

    async def until(self, count):
        """Wait until so many cards came, and return them."""
        while len(self.got) < count:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 20)
        return self.got


@asynccontextmanager
async def serving(app):
    """The address of an app that runs meanwhile."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def robots():
    @asynccontextmanager
    async def run():
        played = Robots()
        app = web.Application()
        app.router.add_post("/{name:.*}", played.take)
        async with serving(app) as url:
            played.url = url
            yield played

    return run


@pytest.fixture(scope="session")
def listening():
    return serving


@pytest.fixture
def group():
    def build(status="firing", severity="page", alerts=1, key="{}:{a}", **labels):
        common = {"alertname": "BallastUnmetDemand", "severity": severity, **labels}
        one = [
            {
                "status": status,
                "labels": common | {"model": f"m{i}"},
                "annotations": {"summary": f"m{i} is refused", "action": "Raise `most`."},
                "fingerprint": f"f{i}",
            }
            for i in range(alerts)
        ]
        return {
            "version": "4",
            "status": status,
            "groupKey": key,
            "alerts": one,
            "commonLabels": common,
            "externalURL": "http://alerts.example:9093",
        }

    return build
