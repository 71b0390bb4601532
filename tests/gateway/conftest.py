"""The real gateway among the fakes, all in one loop on loopback.

`stack` gives a factory: `async with stack(...) as s` starts a gateway as `serving.app` composes it,
with the fakes it is told of. `live` is the same as a process of its own, to be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
import yaml
from aiohttp import web

from serving import auth
from serving.app import Gateway
from serving.backends.account import Timers
from serving.backends.provider import ProviderBackend
from serving.fakes.engine import EngineSettings, start_engine
from serving.fakes.provider import ProviderSettings, start_provider
from serving.fakes.server import Served, serve
from serving.fakes.text import answer_text, seed_of
from serving.ledger.sqlite import SqliteLedger
from serving.ledger.store import opener
from serving.records import Offering
from serving.rows import RequestEnd
from serving.settings import Settings

WAIT_S = 60.0
"""Longest a whole test may take on a busy machine."""
PEPPER, SECRET, PROVIDER_KEY = b"p" * 32, "deployment-secret", "sk-provider"
DEPLOYMENT = "here"
MESSAGES = [{"role": "user", "content": "hello"}]
KEYS: dict[str, dict[str, Any]] = {
    "main": {"exposure": "full"},
    "other": {"tenant": "beta"},
    "never": {"overflow": "never"},
    "home": {"tenant": "home"},
    "load": {"is_load_test": True},
    "revoked": {"is_revoked": True},
    "quiet": {"exposure": "none"},
    "some": {"models": ["m2"]},
    "gateway": {"is_forwarder": True, "overflow": "allowed"},
    "patient": {"latency_class": "patient"},
    "patient-beta": {"latency_class": "patient", "tenant": "beta"},
}
_serial = itertools.count(1)


def row(
    name: str, jurisdiction: str = "us", rules: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A provider with prices whose sums show each part."""
    return {
        "id": name, "name": name, "jurisdiction": jurisdiction, "operator": name,
        "base_url": "http://unset", "api_key_env": "UNSET", "surfaces": ["chat"],
        "error_rules": list(rules),
        "models": [
            {"id": "big", "context_tokens": 65536, "currency": "USD", "input_per_mtok": "1.7",
             "output_per_mtok": "5.3", "cached_per_mtok": "0.3", "source": "test",
             "as_of": "2026-01-01"},
        ],
    }  # fmt: skip


def key_of(name: str) -> str:
    """The API key with this name."""
    return f"bl-{name}-key"


def text_of(messages: list[dict[str, Any]], tokens: int) -> str:
    """What both fakes answer."""
    raw = json.dumps(messages, separators=(",", ":"), ensure_ascii=False)
    return answer_text(seed_of(raw), tokens)


async def eventually(is_so: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Wait for something truthy that comes by itself; fails when it does not come in time."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while True:
        found = is_so()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert loop.time() < until_s, f"not within {within_s} s: {inspect.getsource(is_so)}"
        await asyncio.sleep(0.02)


class Reply:
    """One answer, read to its end."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI-shaped error; fails when it is anything else."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}, self.body
        assert set(self.json["error"]) >= {"message", "type", "param", "code"}, self.body
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        assert self.headers["content-type"].startswith("text/event-stream"), self.body
        rows = [e[5:].strip() for e in self.body.split(b"\n\n") if e.startswith(b"data:")]
        return ["[DONE]" if r == b"[DONE]" else json.loads(r) for r in rows]

    @property
    def text(self) -> str:
        """The answer's text, streamed or not."""
        if not self.headers["content-type"].startswith("text/event-stream"):
            return self.json["choices"][0]["message"]["content"]
        choices = [c for e in self.events if e != "[DONE]" for c in e.get("choices", ())]
        return "".join(c["delta"].get("content") or "" for c in choices)


class Recording:
    """A replica that answers well and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.served: Served = None  # type: ignore[assignment]

    async def start(self) -> Served:
        app = web.Application()
        app.router.add_get("/internal/load", self._load)
        app.router.add_post("/{path:.*}", self._answer)
        self.served = await serve(app, "127.0.0.1", 0)
        return self.served

    async def _load(self, request: web.Request) -> web.Response:
        return web.json_response({"w": 0, "r": 0, "q": 0, "kv": 0.0, "limit": 8})

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        message = {"role": "assistant", "content": "recorded"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        return web.json_response({"choices": [choice], "usage": usage})


class _Gateway(Gateway):
    """With short timers towards providers."""

    def _backends(self, closing: Any) -> Any:
        backends = super()._backends(closing)
        provider = backends[Offering]
        assert isinstance(provider, ProviderBackend)
        provider.timers = Timers(connect_s=5.0, first_content_s=0.7, stall_s=0.7)
        return backends


class Client:
    """Asks a gateway."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.url = self.ops = ""
        self.tree: dict[str, Any] = {}
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]

    def headers(self, key: str | None, more: Mapping[str, str]) -> dict[str, str]:
        named = {"content-type": "application/json"} | dict(more)
        if key is not None:
            named.setdefault("authorization", f"Bearer {key_of(key)}")
        return named

    async def post(self, path: str, body: Any, key: str | None = "main", **headers: str) -> Reply:
        """Send; underscores in header names stand for dashes."""
        named = self.headers(key, {k.replace("_", "-"): v for k, v in headers.items()})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = io.BytesIO(data)  # aiohttp warns of large bytes
        async with self.session.post(self.url + path, data=sent, headers=named) as response:
            return Reply(response.status, response.headers, await response.read())

    async def chat(self, key: str = "main", headers: Any = None, **body: Any) -> Reply:
        """A small chat."""
        return await self.post("/v1/chat/completions", chat(**body), key, **(headers or {}))

    @asynccontextmanager
    async def streaming(
        self, key: str = "main", **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream whose head has come; leaving early hangs up."""
        named = self.headers(key, {})
        path = f"{self.url}/v1/chat/completions"
        async with self.session.post(path, json=chat(stream=True, **body), headers=named) as got:
            yield got
            got.close()

    async def get(self, path: str, key: str | None = "main") -> Reply:
        """From the public listener, or from the ops one for its paths."""
        is_ops = not path.startswith("/v1")
        named = self.headers(key, {})
        async with self.session.get(
            (self.ops if is_ops else self.url) + path, headers=named
        ) as got:
            return Reply(got.status, got.headers, await got.read())

    async def signals(self, model: str = "m") -> dict[str, Any]:
        return (await self.get("/signals")).json["models"][model]

    def ledger(self) -> Any:
        """The ledger that the gateway's settings name, made if it is not there."""
        if self.tree.get("ledger", {}).get("url"):
            return contextlib.closing(opener(Settings.model_validate(self.tree))())
        return contextlib.closing(SqliteLedger.open(self.state / "ledger.sqlite"))

    async def rows(self, count: int) -> list[RequestEnd]:
        """The request rows, oldest first, once there are so many; the law is checked on them."""

        def read() -> list[RequestEnd]:
            with self.ledger() as ledger:
                found = ledger.requests(10_000)
                return found if len(found) >= count else []

        found = await eventually(read)
        assert len(found) == count, found
        with self.ledger() as ledger:
            assert ledger.law() == []
        return sorted(found, key=lambda r: (r.received_ms, r.request_id))

    def attempts(self, request_id: str) -> list[Any]:
        with self.ledger() as ledger:
            return ledger.attempts(request_id)


class Stack(Client):
    """A gateway in this loop, and its fakes."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.engines: list[Served] = []
        self.providers: dict[str, Served] = {}
        self._stop = asyncio.Event()
        self._task: asyncio.Task[int] | None = None

    async def start(self, settings: Settings) -> None:
        """Run the gateway until `stop`."""
        self._stop = asyncio.Event()
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.gateway = _Gateway(settings)
            self._task = asyncio.ensure_future(self.gateway.run(self._stop))
            await eventually(lambda: "\n" in said.getvalue() or self._task.done())
        if self._task.done():
            self._task.result()
        line = json.loads(said.getvalue())
        self.url, self.ops = line["url"], line["ops"]
        self.settings = settings

    async def restart(self, tree: dict[str, Any]) -> None:
        """Start with the settings of a file."""
        self.tree = tree
        await self.start(Settings.model_validate(tree))

    async def stop(self) -> None:
        """Drain and end."""
        self._stop.set()
        assert self._task is not None
        await self._task

    async def ready(self, replicas: int, model: str = "m") -> None:
        """Wait until the gateway sees so many engines."""

        async def seen() -> bool:
            fleet = (await self.get("/fleet")).json
            return len(fleet["models"][model]["replicas"]) == replicas

        await eventually(seen)

    async def control(self, served: Served, **faults: Any) -> None:
        """Tell a fake how to behave."""
        is_engine = served in self.engines
        url = served.url + ("/internal/control" if is_engine else "/__control")
        named = {"x-ballast-secret": SECRET}
        async with self.session.post(url, json=faults, headers=named) as response:
            assert response.status == 200, await response.text()

    async def seen(self, provider: str = "alpha") -> list[dict[str, Any]]:
        """What a provider recorded."""
        async with self.session.get(self.providers[provider].url + "/__requests") as response:
            return await response.json()

    async def load(self, engine: int = 0) -> dict[str, Any]:
        """An engine's own report."""
        url = self.engines[engine].url + "/internal/load"
        async with self.session.get(url, headers={"x-ballast-secret": SECRET}) as response:
            return await response.json()


def chat(**body: Any) -> dict[str, Any]:
    """A chat body."""
    return {"model": "m", "messages": MESSAGES, "max_tokens": 8} | body


def write_files(state: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Pepper, secrets and provider rows."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "pepper").write_bytes(PEPPER)
    (state / "secret").write_text(SECRET)
    (state / "provider-key").write_text(PROVIDER_KEY)
    (state / "providers").mkdir(exist_ok=True)
    for one in rows:
        path = state / "providers" / f"{one['id']}.yaml"
        path.write_text(yaml.safe_dump(one), encoding="utf-8")


def tree_of(
    state: Path, replicas: Sequence[str], providers: Mapping[str, str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings as a file would hold them. `changes` replaces groups by dotted name."""
    access = [
        {"id": name, "base_url": f"{url}/v1", "api_key_file": str(state / "provider-key")}
        for name, url in providers.items()
    ]
    keys = [
        {"id": name, "tenant": "acme", "hmac": auth.digest(PEPPER, key_of(name).encode()).hex()}
        | policy
        for name, policy in KEYS.items()
    ]
    models = [
        {"name": "m", "aliases": ["m-alias"], "profile": "instant", "context_tokens": 32768,
         "offerings": [f"{name}/big" for name in providers]},
        {"name": "m2", "profile": "instant"},
    ]  # fmt: skip
    tree: dict[str, Any] = {
        "deployment_id": DEPLOYMENT,
        "state_dir": str(state),
        "cache_dir": str(state / "cache"),
        "providers_dir": str(state / "providers"),
        "gateway": {"port": 0, "ops_port": 0, "drain_s": 5.0},
        "controller": {"url": "http://127.0.0.1:9"},  # nobody's: not one that runs here by chance
        "fleet": {
            "static": [{"model": "m", "url": url, "limit": 64} for url in replicas],
            "secret_file": str(state / "secret"), "poll_s": 0.1, "poll_timeout_s": 5.0,
        },
        "models": models,
        "tenants": [
            {"id": "acme", "residency": "anywhere"},
            {"id": "beta", "residency": "anywhere"},
            {"id": "home", "residency": "premises"},
        ],
        "keys": keys,
        "providers": access,
        "ledger": {"drain_s": 0.05, "segment_bytes": 1 << 20, "reserve_bytes": 1 << 16},
    }  # fmt: skip
    for dotted, value in changes.items():
        node = tree
        *parents, last = dotted.split(".")
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node.setdefault(parent, {})
        node[last] = value
    return tree


@asynccontextmanager
async def _stack(
    state: Path, engines: Sequence[EngineSettings | Recording], providers: Any, changes: Any,
    rows: Sequence[dict[str, Any]],
) -> AsyncIterator[Stack]:  # fmt: skip
    stack = Stack(state)
    async with contextlib.AsyncExitStack() as opened:
        for engine in engines:
            served = await (
                engine.start() if isinstance(engine, Recording) else start_engine(engine)
            )
            opened.push_async_callback(served.close)
            stack.engines.append(served)
        for name, settings in providers.items():
            served = await start_provider(settings)
            opened.push_async_callback(served.close)
            stack.providers[name] = served
        stack.session = await opened.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        write_files(state, [*map(row, providers), *rows])
        urls = {name: served.url for name, served in stack.providers.items()}
        tree = tree_of(state, [served.url for served in stack.engines], urls, changes)
        await stack.restart(tree)
        opened.push_async_callback(stack.stop)
        await stack.ready(len(stack.engines))
        yield stack


Check = Callable[[Stack], Awaitable[None]]


def engine(**changes: Any) -> EngineSettings:
    """An engine of model `m`."""
    return EngineSettings(**{"model": "m", "secrets": (SECRET,)} | changes)


def provider(**changes: Any) -> ProviderSettings:
    """A provider with our key."""
    return ProviderSettings(**{"key": PROVIDER_KEY, "output_tokens": 64} | changes)


SLOW = {"profile": "cpu-embedded", "time_scale": 0.5}
"""About 80 tokens a second, so that a stream is under way for a while."""


def started(state: Path, engines: Any, changes: Mapping[str, Any]) -> Any:
    """A stack for a test that runs more than it in one loop."""
    return _stack(state, engines, {}, changes, ())


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests of this folder build with; test modules import nothing from each other."""
    return SimpleNamespace(
        engine=engine, provider=provider, start_engine=start_engine, Recording=Recording,
        chat=chat, text_of=text_of,
        eventually=eventually, key_of=key_of, row=row, MESSAGES=MESSAGES, SLOW=SLOW, SECRET=SECRET,
        PROVIDER_KEY=PROVIDER_KEY, PEPPER=PEPPER, DEPLOYMENT=DEPLOYMENT, tree_of=tree_of,
        write_files=write_files, started=started,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Runs a check: `run(check, engines=[...], providers={...}, **{"gateway.queue": {...}})`."""

    def start(
        check: Check, *, engines: Any = (), providers: Any = None, rows: Any = (), **changes: Any
    ) -> None:
        async def main() -> None:
            state = tmp_path / f"state{next(_serial)}"
            async with (
                asyncio.timeout(WAIT_S),
                _stack(state, engines, providers or {}, changes, rows) as stack,
            ):
                await check(stack)

        uvloop.run(main())

    return start


class Live(Client):
    """A gateway as a process."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.process: asyncio.subprocess.Process = None  # type: ignore[assignment]

    async def start(self, tree: dict[str, Any]) -> None:
        """Start, and read where it listens."""
        self.tree = tree
        path = self.state / "settings.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        command = [sys.executable, "-m", "serving.app", "--config", str(path)]
        with (self.state / "stderr.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=dict(os.environ)
            )
        assert self.process.stdout is not None
        said = await self.process.stdout.readline()
        assert said, (self.state / "stderr.log").read_text()[-2000:]
        line = json.loads(said)
        self.url, self.ops = line["url"], line["ops"]

    async def ready(self) -> None:
        """Wait until the engine is seen."""

        async def is_seen() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                return bool((await self.get("/fleet")).json["models"]["m"]["replicas"])
            return False

        await eventually(is_seen)

    async def kill(self) -> None:
        """SIGKILL, and reap."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@pytest.fixture
def run_live(tmp_path: Path) -> Callable[..., None]:
    """Runs a check with a gateway process that is not yet started: `check(live, stack, tree)`;
    `stack` holds the fakes only."""

    def start(
        check: Any, *, engines: Any = (), providers: Any = None, wait_s: float = WAIT_S,
        **changes: Any,
    ) -> None:  # fmt: skip
        async def main() -> None:
            state = tmp_path / "live"
            live, stack = Live(state), Stack(state)
            async with asyncio.timeout(wait_s), contextlib.AsyncExitStack() as opened:
                for one in engines:
                    served = await start_engine(one)
                    opened.push_async_callback(served.close)
                    stack.engines.append(served)
                for name, one in (providers or {}).items():
                    served = await start_provider(one)
                    opened.push_async_callback(served.close)
                    stack.providers[name] = served
                live.session = stack.session = await opened.enter_async_context(
                    aiohttp.ClientSession()
                )
                write_files(state, [row(name) for name in stack.providers])
                urls = {name: served.url for name, served in stack.providers.items()}
                tree = tree_of(state, [served.url for served in stack.engines], urls, changes)
                opened.push_async_callback(live.kill)
                await check(live, stack, tree)

        uvloop.run(main())

    return start


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def book(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of every kind of ledger: `run(check, **book)`."""
    if request.param == "sqlite":
        return {}
    return {"ledger.url": request.getfixturevalue("new_database")()}
