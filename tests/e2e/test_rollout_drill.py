"""The drill: a model, the gateways, an engine and the controller are replaced under load, by real
processes, and no call fails. Engines are simulated ones; the rest is what runs in production."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from serving import auth
from serving.fakes.engine import EngineSettings, start_engine
from serving.fakes.server import Served

PEPPER, SECRET, KEY, ADMIN = b"p" * 32, "deployment-secret", "bl-drill-key", "ba-drill-operator"
pytestmark = pytest.mark.timeout(400)
WAIT_S = 150.0
SLOW = 5.0
"""The slow canary's steps take so many times longer: its first tokens come after some 3 s."""
CHECKS = {"calls_min": 20, "hold_s": 0.5, "deadline_s": 60.0, "hard_calls_min": 5}


async def eventually(is_so: Any, what: str, within_s: float = 90.0) -> Any:
    """Wait for something truthy."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not (found := await is_so()):
        assert loop.time() < until_s, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Load:
    """Clients that ask one after the other, streamed and plain, and keep how each call ended."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._is_on = True
        self.ids: list[str] = []
        self.failed: list[str] = []
        self.targets: Counter[str] = Counter()
        self.again = 0
        """Connections that ended before an answer began: asked again, as the SDKs do."""

    async def client(self, number: int) -> None:
        turn = 0
        while self._is_on:
            turn += 1
            is_stream = turn % 2 == 0
            body = {
                "model": "chat", "max_tokens": 8, "stream": is_stream,
                "messages": [{"role": "user", "content": f"{number} {turn}"}],
            }  # fmt: skip
            head = {
                "authorization": f"Bearer {KEY}", "content-type": "application/json",
                "x-ballast-session": f"s{number}-{turn}",
            }  # fmt: skip
            await self._ask(json.dumps(body).encode(), head, is_stream)
            await asyncio.sleep(0.02)

    async def _ask(self, body: bytes, head: dict[str, str], is_stream: bool) -> None:
        for _ in range(3):
            try:
                async with self._session.post(self._url, data=body, headers=head) as answer:
                    self.ids.append(answer.headers.get("x-request-id", ""))
                    self.targets[answer.headers.get("x-ballast-target", "")] += 1
                    text = await answer.read()
                    is_whole = text.rstrip().endswith(b"data: [DONE]") or not is_stream
                    if answer.status != 200 or not is_whole or b'"error"' in text:
                        self.failed.append(f"{answer.status} {text[-200:]!r}")
                    return
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectorError,
                    ConnectionResetError, aiohttp.ClientOSError):  # fmt: skip
                self.again += 1
        self.failed.append("no connection")

    def stop(self) -> None:
        self._is_on = False


class Drill:
    """The processes, and what asks them."""

    def __init__(self, state: Path, ports: tuple[int, ...]) -> None:
        self.state = state
        self.public, self.ops, self.controller = ports[0], ports[1], ports[3]
        self.engines = ports[4:]
        self.first_token_s = 5.0
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]
        self.running: dict[str, asyncio.subprocess.Process] = {}
        self.served: list[Served] = []

    def settings(self) -> dict[str, Any]:
        a, b = self.engines[:2], self.engines[2:]
        return {
            "deployment_id": "drill", "state_dir": str(self.state),
            "cache_dir": str(self.state / "cache"),
            "gateway": {
                "port": self.public, "ops_port": self.ops, "pods": 2, "drain_s": 20.0,
                "classes": {
                    "interactive": {"first_token_s": self.first_token_s, "complete_s": 120.0},
                },
            },
            "fleet": {
                "static": [
                    {"model": model, "url": f"http://127.0.0.1:{port}", "limit": 64}
                    for model, ports in (("a", a), ("b", b)) for port in ports
                ],
                "secret_file": str(self.state / "secret"), "poll_s": 0.1,
            },
            "models": [
                {"name": "a", "aliases": ["chat"], "profile": "instant", "context_tokens": 8192},
                {"name": "b", "profile": "instant", "context_tokens": 8192},
            ],
            "tenants": [{"id": "acme", "residency": "premises"}],
            "keys": [{"id": "k", "tenant": "acme", "exposure": "full",
                      "hmac": auth.digest(PEPPER, KEY.encode()).hex()}],
            "administrators": [{"id": "ops", "role": "operator",
                                "hmac": auth.digest(PEPPER, ADMIN.encode()).hex()}],
            "ledger": {"drain_s": 0.05},
            "controller": {"ops_port": self.controller, "tick_s": 1.0},
            "rollout": {"tick_s": 0.1},
        }  # fmt: skip

    def write(self) -> None:
        self.state.mkdir(parents=True)
        (self.state / "pepper").write_bytes(PEPPER)
        (self.state / "secret").write_text(SECRET)
        path = self.state / "settings.yaml"
        path.write_text(yaml.safe_dump(self.settings()), encoding="utf-8")

    async def start(self, name: str, *command: str, **environ: str) -> None:
        """Start a process; it has said that it listens when this returns."""
        log = (self.state / f"{name}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, stdout=asyncio.subprocess.PIPE, stderr=log,
            env=dict(os.environ) | environ,
        )  # fmt: skip
        log.close()
        self.running[name] = process
        assert process.stdout is not None
        told = await process.stdout.readline()
        assert told, (self.state / f"{name}.log").read_text()[-2000:]

    async def gateway(self, index: int) -> None:
        await self.start(f"gateway{index}", "serving.app", "--config",
                         str(self.state / "settings.yaml"), BALLAST_GATEWAY__INDEX=str(index),
        )  # fmt: skip
        await eventually(lambda: self.sees(index, "a"), f"gateway {index} sees its engines")

    async def control_loop(self) -> None:
        await self.start("controller", "autoscale.app", "--config",
                         str(self.state / "settings.yaml"))  # fmt: skip

    async def engine(self, index: int, model: str, profile: str = "instant") -> None:
        await self.start(f"engine{index}", "serving.fakes.engine", "--port",
                         str(self.engines[index]), "--model", model, "--profile", profile,
                         "--secret-file", str(self.state / "secret"))  # fmt: skip

    async def near_engine(self, index: int, model: str) -> None:
        given = EngineSettings(model=model, port=self.engines[index], secrets=(SECRET,))
        self.served.append(await start_engine(given))

    async def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Signal a process and wait for its end."""
        process = self.running.pop(name)
        process.send_signal(number)
        return await asyncio.wait_for(process.wait(), WAIT_S)

    async def sees(self, index: int, model: str, address: str = "") -> Any:
        """A gateway's engines of a model; the one at an address, if named."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self.session.get(f"http://127.0.0.1:{self.ops + index}/fleet") as got:
                rows = (await got.json())["models"][model]["replicas"]
                return [r for r in rows if r["address"].endswith(address)]
        return []

    async def fault(self, index: int, **faults: Any) -> None:
        url = f"http://127.0.0.1:{self.engines[index]}/internal/control"
        async with self.session.post(url, json=faults, headers={"x-ballast-secret": SECRET}) as got:
            assert got.status == 200, await got.text()

    async def admin(self, method: str, path: str, **more: Any) -> Any:
        url = f"http://127.0.0.1:{self.ops}/admin/v1{path}"
        head = {"authorization": f"Bearer {ADMIN}"}
        async with self.session.request(method, url, headers=head, **more) as got:
            body = await got.json()
            assert got.status < 300, body
            return body

    async def rollout(self) -> dict[str, Any]:
        return (await self.admin("GET", "/rollouts"))["rollouts"][0]

    def rows(self) -> list[tuple[str, str, str]]:
        """Request rows: id, model, outcome."""
        return self.told("SELECT request_id, model, outcome FROM requests")

    def told(self, question: str) -> list[Any]:
        """What the ledger answers."""
        with contextlib.closing(sqlite3.connect(self.state / "ledger.sqlite")) as books:
            return books.execute(question).fetchall()


@asynccontextmanager
async def drill(
    state: Path, ports: tuple[int, ...], *, has_own_engines: bool = True,
    first_token_s: float = 5.0,
) -> AsyncIterator[Drill]:  # fmt: skip
    """Two gateways on one port, two engines of `a`, one of `b`, a controller. Without engines of
    their own processes: those run in this loop."""
    found = Drill(state, ports)
    found.first_token_s = first_token_s
    found.write()
    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(WAIT_S * 2), aiohttp.ClientSession(connector=connector) as session:
        found.session = session
        try:
            start = found.engine if has_own_engines else found.near_engine
            await asyncio.gather(*(start(n, m) for n, m in enumerate("aab")))
            await asyncio.gather(found.gateway(0), found.gateway(1), found.control_loop())
            yield found
        finally:
            for served in found.served:
                await served.close()
            for process in found.running.values():
                process.kill()
                await process.wait()


@asynccontextmanager
async def loaded(at: Drill, clients: int) -> AsyncIterator[Load]:
    """Clients at work; at the end all have had their last answer."""
    load = Load(f"http://127.0.0.1:{at.public}/v1/chat/completions", at.session)
    tasks = [asyncio.create_task(load.client(number)) for number in range(clients)]
    try:
        yield load
    finally:
        load.stop()
        await asyncio.gather(*tasks)


async def booked(at: Drill, load: Load) -> None:
    """The ledger has the client's calls, each once, and no other."""

    async def is_drained() -> bool:
        return len(at.rows()) >= len(load.ids)

    await eventually(is_drained, "the ledger has every call")
    rows = at.rows()
    assert sorted(row[0] for row in rows) == sorted(one.replace("-", "") for one in load.ids)


NEW = {"name": "chat", "new": "b", "steps": [25, 100], "checks": CHECKS}


async def rolled(at: Drill, *indexes: int) -> None:
    """Gateways replaced, one after the other: each drains while the other answers."""
    for index in indexes:
        assert await at.end(f"gateway{index}") == 0
        await at.gateway(index)


async def engine_rolled(at: Drill) -> None:
    """An engine of `b` replaced: the new one is there before the old one drains and ends, as Ray
    Serve does it."""
    await at.engine(3, "b")
    for index in (0, 1):
        await eventually(lambda i=index: at.sees(i, "b", str(at.engines[3])), "the new engine")
    await at.fault(2, drain=True)

    async def is_idle() -> bool:
        found = [await at.sees(i, "b", str(at.engines[2])) for i in (0, 1)]
        return all(not row.get("unfinished") for rows in found for row in rows)

    await eventually(is_idle, "the old engine has nothing left")
    assert await at.end("engine2") == 0


async def through(at: Drill) -> None:
    """A rollout from its start to its end, its controller killed under way."""
    told = await at.admin("POST", "/rollouts", json=NEW)
    assert told["words"] == "nothing is moved before an engine of the new model is there"

    async def moves() -> bool:
        return (await at.rollout())["percent"] > 0

    await eventually(moves, "the first step")
    await at.end("controller", signal.SIGKILL)
    await at.control_loop()

    async def is_done() -> bool:
        return (await at.rollout())["state"] == "done"

    await eventually(is_done, "the last step")


def test_model_controller_and_a_gateway_are_replaced_and_no_call_fails(tmp_path, free_ports):
    async def check() -> None:
        async with drill(tmp_path / "state", consecutive(free_ports), has_own_engines=False) as at:
            async with loaded(at, 3) as load:
                await through(at)
                await rolled(at, 0)
            assert load.failed == []
            models = Counter(row[1] for row in at.rows())
            assert models["a"] > 0
            assert models["b"] >= 40
            await booked(at, load)
            print(f"{len(load.ids)} calls, {dict(models)}, {load.again} connections asked again")

    asyncio.run(check())


@pytest.mark.full
def test_twice_through_everything_with_more_clients_and_no_call_fails(tmp_path, free_ports):
    async def check() -> None:
        async with drill(tmp_path / "state", consecutive(free_ports)) as at:
            async with loaded(at, 16) as load:
                await through(at)
                await engine_rolled(at)
                await rolled(at, 0, 1)
                await at.admin("POST", "/rollouts/chat/abort", params={"why": "back again"})
                await rolled(at, 0, 1)
            assert load.failed == []
            assert (await at.rollout())["state"] == "aborted"
            await booked(at, load)
            print(f"{len(load.ids)} calls, {load.again} connections asked again")

    asyncio.run(check())


@pytest.mark.full
def test_a_bad_canary_takes_itself_back(tmp_path, free_ports):
    async def check() -> None:
        async with drill(tmp_path / "state", consecutive(free_ports)) as at:
            async with loaded(at, 6) as load:
                await at.fault(2, fail_next=1_000_000)
                bad = {**NEW, "steps": [5, 100], "checks": CHECKS}
                await at.admin("POST", "/rollouts", json=bad)

                async def is_back() -> Any:
                    found = await at.rollout()
                    return found if found["state"] == "rolled_back" else None

                found = await eventually(is_back, "it is taken back", 90.0)
                assert found["percent"] == 0
                before = len(load.ids)

                async def goes_on() -> bool:
                    return len(load.ids) > before + 50

                await eventually(goes_on, "calls after it")
            late = Counter(row[1] for row in at.rows()[-20:])
            assert late["b"] == 0
            assert "hard bound" in found["reason"]
            print(f"{found['reason']}; {len(load.failed)} of {len(load.ids)} calls failed")
            assert load.failed == [], "the old model answered what the new one could not"
            await booked(at, load)

    asyncio.run(check())


@pytest.mark.full
def test_a_slow_canary_takes_itself_back(tmp_path, free_ports):
    async def check() -> None:
        ports = consecutive(free_ports)
        async with drill(tmp_path / "state", ports, first_token_s=1.0) as at:
            assert await at.end("engine2") == 0
            await at.engine(2, "b", "cpu-embedded")
            for index in (0, 1):
                await eventually(lambda i=index: at.sees(i, "b"), "the engine is seen again")
            await at.fault(2, slow=SLOW)
            async with loaded(at, 6) as load:
                await at.admin("POST", "/rollouts", json=NEW)

                async def is_back() -> Any:
                    found = await at.rollout()
                    return found if found["state"] == "rolled_back" else None

                found = await eventually(is_back, "it is taken back", 90.0)
            assert load.failed == []
            sides = at.told("SELECT route, count(*), avg(first_token_ms) FROM requests GROUP BY 1")
            print(f"{found['reason']}; {len(load.ids)} calls, none failed; {sides}")
            assert "late first token" in found["reason"] or "errors in" in found["reason"]
            await booked(at, load)

    asyncio.run(check())


def consecutive(free_ports: Any) -> tuple[int, ...]:
    """A public port, two ops ports beside each other, a controller's, four engines'."""
    for _ in range(50):
        ports = free_ports(8)
        first = ports[1]
        if first + 1 not in ports:
            return (ports[0], first, first + 1, *ports[3:])
    raise AssertionError("no ports")
