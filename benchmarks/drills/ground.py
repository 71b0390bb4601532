"""The ground of a drill: a folder, settings, and every part as a process of its own on loopback."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import yaml

from benchmarks.drills import clock, papers
from benchmarks.drills.papers import PROVIDER_KEY, SECRET, Reached
from benchmarks.drills.values import MODEL, Provider, Topology
from benchmarks.gateway import processes
from benchmarks.gateway.processes import Started
from benchmarks.ledger.server import QUICK, PostgresServer
from benchmarks.lifetimes import bound
from benchmarks.redis_server import RedisServer
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
REMEMBERED = 1000
SOCKET = ".s.PGSQL.5432"
"""PostgreSQL's, in its folder."""


class Ground:
    """Owns the processes, which end with the thread that started them. Blocking: called off the
    load's loop, always by the same thread."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        self.topology, self.folder = topology, folder
        self.engines: list[Started | None] = []
        self.engine_urls: list[str] = []
        self.providers: dict[str, Started] = {}
        self.provider_urls: dict[str, str] = {}
        self.gateways: list[Started | None] = []
        self.urls: list[str] = []
        self.ops: list[str] = []
        self.redis: RedisServer | None = None
        self.postgres: PostgresServer | None = None
        self.links: list[Started] = []
        self._held = contextlib.ExitStack()
        self._ports: list[int] = []
        self._reached: list[Reached] = []

    def start(self) -> None:
        """Everything, in the order in which it is needed. Raises StartFailed."""
        topology = self.topology
        papers.write(self.folder, list(topology.providers))
        if topology.has_redis:
            self.redis = RedisServer(self.folder, is_bound=True)
            self._held.callback(self.redis.stop)
            self.redis.start()
        if topology.has_postgres:
            self.postgres = PostgresServer(QUICK)
            self._held.callback(self.postgres.close)
            self.postgres.make()
            self.postgres.create("drill")
        for number, engine in enumerate(topology.engines):
            port = processes.free_port()
            self._ports.append(port)
            self.engine_urls.append(f"http://127.0.0.1:{port}")
            self.engines.append(None)
            if engine.starts:
                self._begin_engine(number)
        for name, provider in topology.providers.items():
            self._start_provider(name, provider)
        self._hear()
        for number in range(topology.gateways):
            self._reached.append(self._linked(number) if topology.has_links else self._direct())
            self.gateways.append(None)
            self.urls.append("")
            self.ops.append("")
            self.start_gateway(number)

    def stop(self) -> None:
        """Everything, gateways first."""
        for link in self.links:  # a stopped one would not hear SIGTERM
            link.process.send_signal(signal.SIGCONT)
        for one in (*self.gateways, *self.providers.values(), *self.engines, *self.links):
            if one is not None:
                one.stop()
        self._held.close()

    def start_engine(self, number: int) -> None:
        """An engine at its address. Raises StartFailed."""
        self._begin_engine(number)
        started = self.engines[number]
        assert started is not None
        started.line()

    def _begin_engine(self, number: int) -> None:
        engine = self.topology.engines[number]
        flags = {
            "port": self._ports[number], "model": MODEL, "profile": engine.profile,
            "time-scale": engine.time_scale, "output-tokens": engine.output_tokens,
            "max-num-seqs": engine.max_num_seqs, "max-queued-reqs": engine.max_queued_reqs,
            "secret-file": self.folder / "secret",
        }  # fmt: skip
        self.engines[number] = self._begin("engine", f"engine{number}", flags)

    def start_gateway(self, number: int) -> None:
        """A gateway; at its old ports if it ran before. Raises StartFailed."""
        path = self.folder / f"gateway{number}.yaml"
        path.write_text(yaml.safe_dump(self.tree(number)), "utf-8")
        command = [sys.executable, "-m", "serving.app", "--config", str(path)]
        log = self.folder / f"gateway{number}.log"
        if self.topology.has_own_clock:
            command = clock.wound(command, self.folder)
        started = processes.start(bound(command), log, ROOT)
        self.gateways[number] = started
        said = started.line()
        self.urls[number], self.ops[number] = str(said["url"]), str(said["ops"])

    def kill(self, kind: str, number: int) -> None:
        """SIGKILL, as the kernel or a node's end would."""
        many = self.engines if kind == "engine" else self.gateways
        started = many[number]
        assert started is not None, f"{kind}:{number} is not running"
        started.process.kill()
        started.process.wait(processes.END_S_MAX)
        if started.process.stdout is not None:
            started.process.stdout.close()
        many[number] = None

    def control(self, kind: str, name: str, how: Mapping[str, Any]) -> None:
        """Tell a fake how to behave."""
        if kind == "engine":
            asked(self.engine_urls[int(name)] + "/internal/control", how)
        else:
            asked(self.provider_urls[name] + "/__control", how)

    def count(self, provider: str) -> int:
        """Requests that a provider saw; it remembers a thousand."""
        seen = len(asked(self.provider_urls[provider] + "/__requests"))
        assert seen < REMEMBERED, "more requests than the fake provider remembers: ask for less"
        return seen

    def tree(self, number: int) -> dict[str, Any]:
        """A gateway's settings, as its file holds them."""
        state = self.folder / f"state{number}"
        state.mkdir(exist_ok=True)
        here = [self.urls[number], self.ops[number]]
        ports = [int(url.rpartition(":")[2] or 0) for url in here]
        place = papers.Place(state, *ports)
        reached = self._reached[number]
        return papers.settings(self.topology, self.folder, place, reached, self.provider_urls)

    def settings(self, number: int) -> Settings:
        """The same, read, for the ledger it names: reached over no link."""
        tree = self.tree(number)
        if self.postgres is not None:
            tree["ledger"]["url"] = self._direct().database
        return Settings.model_validate(tree)

    def _direct(self) -> Reached:
        redis = self.redis.url if self.redis is not None else ""
        database = self.postgres.url("drill") if self.postgres is not None else ""
        return Reached(self.engine_urls, redis, database)

    def _linked(self, number: int) -> Reached:
        """The same through a process that can be stopped: a partition of this gateway."""
        direct, folder = self._direct(), self.folder / f"link{number}"
        folder.mkdir(mode=0o700)
        fars = [url.removeprefix("http://") for url in direct.engines]
        pairs = [f"127.0.0.1:0={far}" for far in fars]
        if self.redis is not None:
            pairs.append(f"127.0.0.1:0=127.0.0.1:{self.redis.port}")
        database = direct.database
        if self.postgres is not None:
            pairs.append(f"{folder / SOCKET}={self.postgres.folder / SOCKET}")
            database = database.replace(quote(str(self.postgres.folder), safe=""),
                                        quote(str(folder), safe=""))  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.drills.link", *pairs]
        link = processes.start(bound(command), self.folder / f"link{number}.log", ROOT)
        self.links.append(link)
        near = [str(name) for name in cast("list[object]", link.line()["near"])]
        count = len(direct.engines)
        redis = f"redis://{near[count]}/0" if self.redis is not None else ""
        return Reached([f"http://{name}" for name in near[:count]], redis, database)

    def _start_provider(self, name: str, provider: Provider) -> None:
        flags = {
            "key": PROVIDER_KEY, "scenario": provider.scenario, "ttft-ms": provider.ttft_ms,
            "itl-ms": provider.itl_ms, "output-tokens": provider.output_tokens,
        }  # fmt: skip
        self.providers[name] = self._begin("provider", name, flags)

    def _hear(self) -> None:
        """Until all that was begun listens: they start side by side."""
        for engine in self.engines:
            if engine is not None:
                engine.line()
        for name, provider in self.providers.items():
            self.provider_urls[name] = str(provider.line()["url"])

    def _begin(self, kind: str, name: str, flags: Mapping[str, Any]) -> Started:
        given = [f"--{flag}={value}" for flag, value in flags.items() if value is not None]
        command = [sys.executable, "-m", f"serving.fakes.{kind}", *given]
        return processes.start(bound(command), self.folder / f"{name}.log", ROOT)


def asked(url: str, body: Mapping[str, Any] | None = None) -> Any:
    """A small JSON answer of one of our own processes."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "x-ballast-secret": SECRET}
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def read_text(url: str) -> str:
    """A small text of one of our own processes."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: bytes = answer.read()
    return text.decode()
