"""The ground of a drill: a folder, settings, and every part as a process of its own on loopback."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import yaml

from benchmarks.drills import clock
from benchmarks.drills.asking import key_of
from benchmarks.drills.values import MODEL, Engine, Provider, Topology
from benchmarks.gateway import processes
from benchmarks.gateway.processes import Started
from benchmarks.ledger.server import QUICK, PostgresServer
from benchmarks.redis_server import RedisServer
from serving.auth import digest
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PEPPER = b"drill-pepper-drill-pepper-drill!"
SECRET, PROVIDER_KEY = "drill-secret", "sk-drill"
KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own": {"overflow": "never"},
    "patient": {"latency_class": "patient", "overflow": "never"},
    "other": {"tenant": "beta"},
    "home": {"tenant": "home"},
    "live": {"latency_class": "live"},
}
"""Whom waves ask as."""
ENGINE_LIMIT = 64
REMEMBERED = 1000
SOCKET = ".s.PGSQL.5432"
"""PostgreSQL's, in its folder."""


class Reached(NamedTuple):
    """Addresses as one gateway reaches them."""

    engines: list[str]
    redis: str
    database: str


class Ground:
    """Owns the processes. Blocking: called off the load's loop."""

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
        if topology.has_redis:
            self.redis = RedisServer(self.folder)
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
                self.start_engine(number)
        for name, provider in topology.providers.items():
            self._start_provider(name, provider)
        self._write()
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
        """An engine at its address."""
        engine = self.topology.engines[number]
        flags = {
            "port": self._ports[number], "model": MODEL, "profile": engine.profile,
            "time-scale": engine.time_scale, "output-tokens": engine.output_tokens,
            "max-num-seqs": engine.max_num_seqs, "max-queued-reqs": engine.max_queued_reqs,
            "start-delay-s": engine.start_delay_s or None, "secret-file": self._secret(),
        }  # fmt: skip
        self.engines[number] = started = self._begin("engine", f"engine{number}", flags)
        if not engine.start_delay_s:
            started.line()

    def start_gateway(self, number: int) -> None:
        """A gateway; at its old ports if it ran before. Raises StartFailed."""
        path = self.folder / f"gateway{number}.yaml"
        path.write_text(yaml.safe_dump(self.tree(number)), "utf-8")
        command = [sys.executable, "-m", "serving.app", "--config", str(path)]
        log = self.folder / f"gateway{number}.log"
        if self.topology.has_own_clock:
            command = clock.wound(command, self.folder)
        started = processes.start(command, log, ROOT)
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
        topology, folder = self.topology, self.folder
        engines, redis, database = self._reached[number]
        ports = [int(url.rpartition(":")[2]) for url in (self.urls[number], self.ops[number]) if url]
        port, ops_port = ports or (0, 0)
        state = folder / f"state{number}"
        state.mkdir(exist_ok=True)
        keys = [
            {"id": name, "tenant": "acme", "exposure": "full",
             "hmac": digest(PEPPER, key_of(name).encode()).hex()}
            | more | dict(topology.key_settings)
            for name, more in KEYS.items()
        ]  # fmt: skip
        access = [
            {"id": name, "base_url": f"{url}/v1", "api_key_file": str(folder / "provider-key")}
            for name, url in self.provider_urls.items()
        ]
        tree: dict[str, Any] = {
            "deployment_id": "drill", "state_dir": str(state), "cache_dir": str(folder / "cache"),
            "pepper_file": str(folder / "pepper"), "providers_dir": str(folder / "providers"),
            "gateway": {
                "port": port, "ops_port": ops_port, "drain_s": 5.0, "pods": topology.gateways,
            },
            "fleet": {
                "static": [
                    {"model": MODEL, "url": url, "limit": engine.max_queued_reqs or ENGINE_LIMIT}
                    for url, engine in zip(engines, topology.engines, strict=True)
                ],
                "secret_file": self._secret(), "poll_s": 0.2, "poll_timeout_s": 1.0,
            },
            "models": [
                {"name": MODEL, "profile": "instant", "context_tokens": 32768,
                 "offerings": [f"{name}/big" for name in self.provider_urls]},
            ],
            "tenants": [*({"id": name, "residency": "anywhere"} for name in ("acme", "beta")),
                        {"id": "home"}],
            "keys": keys, "providers": access,
            "ledger": {"drain_s": 0.1, "segment_bytes": 1 << 20, "reserve_bytes": 1 << 16},
        }  # fmt: skip
        if database:
            tree["ledger"]["url"] = database
        if redis:
            tree["redis"] = {"url": redis}
        return _laid(tree, topology.settings)

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
        link = processes.start(command, self.folder / f"link{number}.log", ROOT)
        self.links.append(link)
        near = [str(name) for name in cast("list[object]", link.line()["near"])]
        count = len(direct.engines)
        redis = f"redis://{near[count]}/0" if self.redis is not None else ""
        return Reached([f"http://{name}" for name in near[:count]], redis, database)

    def _write(self) -> None:
        (self.folder / "pepper").write_bytes(PEPPER)
        (self.folder / "provider-key").write_text(PROVIDER_KEY)
        (self.folder / "providers").mkdir(exist_ok=True)
        for name in self.topology.providers:
            path = self.folder / "providers" / f"{name}.yaml"
            path.write_text(yaml.safe_dump(_row(name)), "utf-8")

    def _secret(self) -> str:
        path = self.folder / "secret"
        path.write_text(SECRET + "\n")
        return str(path)

    def _start_provider(self, name: str, provider: Provider) -> None:
        flags = {
            "key": PROVIDER_KEY, "scenario": provider.scenario, "ttft-ms": provider.ttft_ms,
            "itl-ms": provider.itl_ms, "output-tokens": provider.output_tokens,
        }  # fmt: skip
        started = self._begin("provider", name, flags)
        self.providers[name] = started
        self.provider_urls[name] = str(started.line()["url"])

    def _begin(self, kind: str, name: str, flags: Mapping[str, Any]) -> Started:
        given = [f"--{flag}={value}" for flag, value in flags.items() if value is not None]
        command = [sys.executable, "-m", f"serving.fakes.{kind}", *given]
        return processes.start(command, self.folder / f"{name}.log", ROOT)


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


def _row(name: str) -> dict[str, Any]:
    """A third party that is none."""
    return {
        "id": name, "name": name, "jurisdiction": "us", "operator": name,
        "base_url": "http://unset", "api_key_env": "UNSET", "surfaces": ["chat"],
        "models": [
            {"id": "big", "context_tokens": 65536, "currency": "USD", "input_per_mtok": "1.7",
             "output_per_mtok": "5.3", "cached_per_mtok": "0.3", "source": "a drill",
             "as_of": "2026-01-01"},
        ],
    }  # fmt: skip


def _laid(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for dotted, value in changes.items():
        node = tree
        *parents, last = dotted.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
