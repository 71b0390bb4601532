"""What the suites of this folder share: every Backend with a target that plays along, every ledger
with its database."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from models.capacity import PROFILES, Load
from models.provider import Provider
from serving.backends.account import Account, Timers
from serving.backends.base import Backend, BlockStream
from serving.backends.echo import EchoBackend
from serving.backends.provider import ProviderBackend
from serving.backends.replica import ReplicaBackend
from serving.codecs import openai
from serving.directory.base import DirectoryStore
from serving.directory.postgres import PostgresDirectory
from serving.directory.sqlite import SqliteDirectory
from serving.fakes.engine import EngineSettings, start_engine
from serving.fakes.provider import ProviderSettings, start_provider
from serving.fakes.server import Served
from serving.ledger.address import address
from serving.ledger.base import Ledger
from serving.ledger.postgres import PostgresLedger
from serving.ledger.sqlite import SqliteLedger
from serving.records import (
    Call,
    DataLabel,
    LatencyClass,
    Offering,
    Price,
    Replica,
    Surface,
    Target,
    Ticket,
)
from serving.settings import Ledger as LedgerSettings
from serving.wire.pool import Pool

WAIT_S = 15.0
KEY, SECRET = "sk-provider", "deployment-secret"
_ROW = Provider.model_validate(
    {
        "id": "fake", "name": "Fake", "jurisdiction": "us", "operator": "Fake Inc",
        "base_url": "http://fake", "api_key_env": "X", "surfaces": ["chat", "completions"],
        "models": [{"id": "big", "context_tokens": 8192, "source": "here", "as_of": "2026-01-01"}],
        "error_rules": [{"kind": "account_dead", "code": "1113"}],
    }
)  # fmt: skip
_ids = itertools.count(1)


class Subject:
    """One backend under test."""

    def __init__(self, name: str, backend: Backend, target: Target, served: Served | None) -> None:
        self.name, self.backend, self.target, self.served = name, backend, target, served
        self.loads: list[Load] = []
        self.servers: list[asyncio.Server] = []
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]

    def call(self, surface: Surface = Surface.CHAT, **changes: Any) -> Call:
        """A call as the listener would make it."""
        body: dict[str, Any] = {"model": "m", "max_tokens": 8, **changes}
        if surface is Surface.CHAT:
            body.setdefault("messages", [{"role": "user", "content": "hello"}])
        else:
            body.setdefault("prompt", "hello")
        raw = json.dumps(body, separators=(",", ":")).encode()
        parsed = openai.parse(surface, raw)
        now_s = asyncio.get_running_loop().time()
        return Call(
            request_id=f"{next(_ids):032x}", surface=surface, tenant="acme", model="m", alias="m",
            fields=parsed.fields, received_s=now_s, received_ms=0, first_token_by_s=now_s + WAIT_S,
            complete_by_s=now_s + WAIT_S, latency_class=LatencyClass.INTERACTIVE,
            prompt=parsed.prompt, size=len(raw), prompt_tokens=5, max_tokens=parsed.max_tokens,
            stream=parsed.stream, wants_usage=parsed.wants_usage, affinity=0,
        )  # fmt: skip

    def stream(
        self, call: Call, within_s: float = WAIT_S, target: Target | None = None
    ) -> BlockStream:
        """The answer to a call."""
        target = target or self.target
        now_s = asyncio.get_running_loop().time()
        facts = {
            "request_id": call.request_id, "attempt": 1, "target": target, "reason": "test",
            "issued_s": now_s, "prompt_tokens": 5, "completion_tokens": 8, "predicted_first_s": 0.0,
            "is_egress": not target.label.on_premises, "estimate": None,
        }  # fmt: skip
        ticket = Ticket(**{name: facts[name] for name in Ticket.__struct_fields__})
        return self.backend.stream(call, target, ticket, now_s + within_s)

    def moves_to(self, server: asyncio.Server) -> None:
        """The provider stands there from now on; the server is closed at the end at the latest,
        for a loop with an open one never closes."""
        self.servers.append(server)
        self.has_port(server.sockets[0].getsockname()[1])

    def has_port(self, port: int) -> None:
        """The provider answers at this port of loopback from now on."""
        assert isinstance(self.backend, ProviderBackend)
        assert isinstance(self.target, Offering)
        account = self.backend.account(self.target, self.call())
        object.__setattr__(account, "base_url", f"http://127.0.0.1:{port}")

    async def running(self) -> int:
        """Requests the upstream works on; always 0 for an echo."""
        assert self.served is not None
        if self.name == "replica":
            url, headers = f"{self.served.url}/internal/load", {"x-ballast-secret": SECRET}
            async with self.session.get(url, headers=headers) as response:
                load = await response.json()
                return int(load["r"] + load["w"])
        return sum(row["outcome"] == "open" for row in await self.seen())

    async def seen(self) -> list[dict[str, Any]]:
        """What the fake provider recorded."""
        assert self.served is not None
        async with self.session.get(f"{self.served.url}/__requests") as response:
            return await response.json()

    async def control(self, **faults: Any) -> None:
        """Tell the fake how to behave."""
        assert self.served is not None
        path = "/internal/control" if self.name == "replica" else "/__control"
        headers = {"x-ballast-secret": SECRET}
        url = self.served.url + path
        async with self.session.post(url, json=faults, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def eventually(self, is_so: Callable[[], Awaitable[bool]], within_s: float) -> bool:
        """Whether a state comes about in time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while not await is_so():
            if loop.time() > until_s:
                return False
            await asyncio.sleep(0.02)
        return True


def _replica(served: Served, prefix: str = "/m/m") -> Replica:
    label = DataLabel("cn", "self", on_premises=True)
    profile = PROFILES["instant"]
    return Replica("m@r", "m", "127.0.0.1", served.port, prefix, label, profile, 8)


def _offering() -> Offering:
    return Offering(
        "fake/big", "fake", "m", "big", DataLabel("us", "Fake Inc"), Price("USD", 1, 1, 1, "", ""),
        frozenset({Surface.CHAT, Surface.COMPLETIONS}), 8192, 1.0,
    )  # fmt: skip


@asynccontextmanager
async def _made(name: str, is_slow: bool) -> AsyncIterator[Subject]:
    if name == "echo":
        words = ("one", " two", " three", *[" more"] * (60 if is_slow else 0))
        yield Subject(name, EchoBackend(words, 0.05 if is_slow else 0.0), _offering(), None)
    elif name == "replica":
        settings = EngineSettings(
            model="m", prefix="/m/m", secrets=(SECRET,),
            profile="cpu-embedded" if is_slow else "instant",
        )  # fmt: skip
        served = await start_engine(settings)
        loads: list[Load] = []
        backend = ReplicaBackend(
            Pool(2.0, 16), lambda: SECRET.encode(), lambda _target, load, *_: loads.append(load)
        )
        subject = Subject(name, backend, _replica(served), served)
        subject.loads = loads
        yield subject
    else:
        served = await start_provider(ProviderSettings(key=KEY, itl_ms=50.0 if is_slow else 0.0))
        account = Account(_ROW, f"{served.url}/v1", KEY)
        timers = Timers(connect_s=5.0, first_content_s=1.0, stall_s=1.0)
        yield Subject(name, ProviderBackend({"fake": account}, "me", timers), _offering(), served)


Check = Callable[[Subject], Awaitable[None]]


@pytest.fixture
def against() -> Callable[..., None]:
    """Runs a check against a fresh backend in a fresh loop: `against(name, check)`."""

    def run(name: str, check: Check, *, is_slow: bool = False) -> None:
        async def main() -> None:
            async with _made(name, is_slow) as subject, aiohttp.ClientSession() as session:
                subject.session = session
                try:
                    async with asyncio.timeout(WAIT_S):
                        await check(subject)
                finally:
                    for server in subject.servers:
                        server.close()
                    await subject.backend.close()
                    if subject.served is not None:
                        await subject.served.close()

        uvloop.run(main())

    return run


class Books:
    """One kind of ledger: as many empty ones as wanted, each opened as often as wanted."""

    def __init__(self, kind: str, make: Callable[[], str], closing: contextlib.ExitStack) -> None:
        self.kind = kind
        self._make = make
        self._closing = closing

    def place(self) -> str:
        """Where an empty ledger can be made."""
        return self._make()

    def open(self, place: str, is_to_read: bool = False) -> Ledger:
        """The ledger there, closed with the test."""
        ledger: Ledger
        if self.kind == "sqlite":
            path = Path(place)
            ledger = SqliteLedger.open_to_read(path) if is_to_read else SqliteLedger.open(path)
        else:
            settings = LedgerSettings(url=place)
            where = address(settings, is_read_only=is_to_read)
            at = PostgresLedger.to_read if is_to_read else PostgresLedger.at
            ledger = at(where, settings)
        self._closing.callback(ledger.close)
        return ledger

    def new(self) -> Ledger:
        """An empty ledger."""
        return self.open(self.place())


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Every kind of ledger."""
    serial = itertools.count(1)
    make: Callable[[], str] = lambda: str(tmp_path / f"ledger{next(serial)}")  # noqa: E731
    if request.param == "postgres":
        make = request.getfixturevalue("new_database")
    with contextlib.ExitStack() as closing:
        yield Books(request.param, make, closing)


@pytest.fixture
def ledger(books: Books) -> Ledger:
    """An empty ledger of every kind."""
    return books.new()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], DirectoryStore]]:
    """Opens the same store as often as asked."""
    opened: list[DirectoryStore] = []
    is_file = request.param == "sqlite"
    settings = LedgerSettings(url="" if is_file else request.getfixturevalue("new_database")())

    def make() -> DirectoryStore:
        if is_file:
            return SqliteDirectory.open(tmp_path / "directory.sqlite")
        return PostgresDirectory.at(address(settings), settings)

    def open_one() -> DirectoryStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
