"""The controller as a whole, against gateways that answer, hang up or talk nonsense."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from autoscale.acts import Act
from autoscale.actuators.base import Order
from autoscale.actuators.dry_run import DryRun
from autoscale.app import ops, while_leading
from autoscale.controller import Controller, Parts
from autoscale.journal import Journal
from autoscale.lease import Fence
from autoscale.lease_file import FileLease
from autoscale.observe import Sources, merged, observe, supply_of
from autoscale.records import Supply
from serving.settings import Controller as ControllerSettings
from serving.settings import Gateway, Model, Settings

SIGNALS = {"instance": "g", "started": 1, "at": 2, "models": {"m": {"queued": 3}}}
FLEET = {"models": {"m": {"replicas": [{"breaker": "closed"}, {"breaker": "open"}]}}}


async def listen(app: web.Application) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, int(runner.addresses[0][1])


def gateway(signals: str, fleet: str) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=signals if request.path == "/signals" else fleet)

    app = web.Application()
    app.router.add_get("/{path}", answer)
    return app


def test_sources_that_fail_make_the_sample_partial() -> None:
    async def look() -> None:
        good, good_port = await listen(gateway(json.dumps(SIGNALS), json.dumps(FLEET)))
        bad, bad_port = await listen(gateway("nonsense", "{}"))
        urls = tuple(f"http://127.0.0.1:{port}" for port in (good_port, bad_port, 1))
        async with aiohttp.ClientSession() as session:
            samples = await observe(session, Sources(urls), 7, {})
        await good.cleanup()
        await bad.cleanup()
        assert samples.at_ms == 7
        assert [g.models["m"].queued for g in samples.gateways] == [3]
        assert samples.supply == {"m": Supply(ready=1)}
        assert [url in text for url, text in zip(urls[1:], samples.missing, strict=True)] == [
            True,
            True,
        ]

    asyncio.run(look())


def test_supply_is_the_most_that_any_gateway_sees() -> None:
    loading = supply_of({"models": {"m": {"replicas": [], "expected_in_s": 3.0}}})
    assert merged([loading, {"m": Supply(2)}]) == {"m": Supply(2, is_coming=True)}
    assert merged([]) is None


def test_a_tick_that_fails_is_counted_and_the_loop_goes_on(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    async def run() -> None:
        settings = Settings(
            models=(Model(name="m"),),
            gateway=Gateway(ops_port=1),
            controller=ControllerSettings(tick_s=0.001),
        )
        lease = FileLease(tmp_path / "lease", 60, asyncio.get_running_loop().time, lambda: 1)
        journal = Journal(blocked / "below")
        controller = Controller(settings, journal, Parts(lease, (DryRun(),)))
        runner, port = await listen(ops(controller))
        async with aiohttp.ClientSession() as session:
            loop = asyncio.create_task(controller.run(session))
            text = ""
            while 'ticks_total{outcome="failed"} 2' not in text:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                    text = await response.text()
                await asyncio.sleep(0)
            blocked.unlink()
            while 'ticks_total{outcome="ok"}' not in text:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                    text = await response.text()
            async with session.get(f"http://127.0.0.1:{port}/decisions") as response:
                told = await response.json()
            (decision,) = told["decisions"]
            assert told["standing"]["leads"]
            loop.cancel()
            await asyncio.wait([loop])
        await runner.cleanup()
        assert decision["decision"] == "hold"
        assert "no data" in decision["reason"]

    asyncio.run(asyncio.wait_for(run(), 30))


class Broken(DryRun):
    """An actuator with a bug."""

    name = "broken"

    async def apply(self, order: Order, fence: Fence, session: Any) -> tuple[Act, ...]:
        raise ZeroDivisionError


def test_what_others_did_is_journaled_though_one_actuator_has_a_bug(tmp_path: Path) -> None:
    async def run() -> None:
        settings = Settings(models=(Model(name="m"),), gateway=Gateway(ops_port=1))
        lease = FileLease(tmp_path / "lease", 60, asyncio.get_running_loop().time, lambda: 1)
        journal = Journal(tmp_path)
        controller = Controller(settings, journal, Parts(lease, (Broken(), DryRun())))
        async with aiohttp.ClientSession() as session:
            loop = asyncio.create_task(controller.run(session))
            while not controller.acts:
                await asyncio.sleep(0)
            loop.cancel()
            await asyncio.wait([loop])
        by_name = {act.actuator: act for act in controller.acts}
        assert by_name["broken"].outcome == "unknown"
        assert "ZeroDivisionError" in by_name["broken"].reason
        assert len(by_name) == 2

    asyncio.run(asyncio.wait_for(run(), 30))
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))
    assert b"ZeroDivisionError" in kept


def command(*settings: str) -> list[str]:
    return [sys.executable, "-m", "autoscale.app", *settings]


def test_the_process_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"state_dir: {tmp_path}\ncontroller: {{ops_port: 0}}\n")
    with subprocess.Popen(
        command("--config", str(config)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "listening"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def standing(url: str) -> dict[str, Any]:
    """What a controller says of its lease."""
    with urllib.request.urlopen(f"{url}/decisions", timeout=10) as response:
        told: dict[str, Any] = json.load(response)["standing"]
    return told


def until(url: str, leads: bool) -> dict[str, Any]:
    """Wait until a controller leads, or says that it does not after its first tick."""
    while (told := standing(url))["leads"] is not leads or not told["acts"]:
        time.sleep(0.05)
    return told


def test_a_second_controller_takes_over_when_the_first_is_killed(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"state_dir: {tmp_path}\nmodels: [{{name: m}}]\n"
        "gateway: {ops_port: 1}\ncontroller: {ops_port: 0, tick_s: 0.1}\n"
    )
    with ExitStack() as held:
        urls, processes = [], []
        for _ in range(2):
            process = held.enter_context(
                subprocess.Popen(
                    command("--config", str(config)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
            held.callback(process.kill)
            processes.append(process)
            assert process.stdout is not None
            urls.append(json.loads(process.stdout.readline())["url"])
            until(urls[-1], leads=len(urls) == 1)
        first, second = standing(urls[0]), standing(urls[1])
        assert f"process {processes[0].pid}" in second["reason"]
        assert {act["outcome"] for act in second["acts"]} == {"fenced"}
        processes[0].kill()
        assert until(urls[1], leads=True)["token"] > first["token"]


def test_settings_that_cannot_be_kept_exit_with_three(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("controller: {is_dry_run: false}")
    done = subprocess.run(command("--config", str(config)), capture_output=True, text=True)
    assert done.returncode == 3
    assert "is_dry_run" in done.stderr
    assert "fleet.serve_url" in done.stderr


def test_a_lease_shorter_than_three_ticks_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("controller: {tick_s: 10}")
    done = subprocess.run(command("--config", str(config)), capture_output=True, text=True)
    assert done.returncode == 3
    assert "controller.acting.lease.seconds" in done.stderr


def test_work_beside_the_ticks_runs_only_while_we_lead(tmp_path: Path) -> None:
    async def run() -> None:
        lease = FileLease(tmp_path / "lease", 60, asyncio.get_running_loop().time, lambda: 1)
        settings = Settings(models=(Model(name="m"),))
        controller = Controller(settings, Journal(tmp_path), Parts(lease, (DryRun(),)))
        begun = ended = 0

        async def work() -> None:
            nonlocal begun, ended
            begun += 1
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1

        task = asyncio.create_task(while_leading(controller, work))
        for turn in (1, 2):
            controller.lost.clear()
            controller.led.set()
            while begun < turn:
                await asyncio.sleep(0)
            controller.led.clear()
            controller.lost.set()
            while ended < turn:
                await asyncio.sleep(0)
        assert (begun, ended) == (2, 2)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(run(), 30))
