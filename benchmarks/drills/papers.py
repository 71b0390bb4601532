"""A gateway's settings in a drill, and the files they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.drills.asking import key_of
from benchmarks.drills.values import MODEL, Topology
from serving.auth import digest

PEPPER = b"drill-pepper-drill-pepper-drill!"
SECRET, PROVIDER_KEY = "drill-secret", "sk-drill"
KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own": {"overflow": "never"},
    "other": {"tenant": "beta"},
    "home": {"tenant": "home"},
}
"""Whom waves ask as; `home` is bound to the premises."""
ENGINE_LIMIT = 64


class Reached(NamedTuple):
    """Addresses as one gateway reaches them."""

    engines: list[str]
    redis: str
    database: str


class Place(NamedTuple):
    """What is one gateway's own."""

    state: Path
    port: int
    ops_port: int
    """0 = any free one, at its first start."""


def write(folder: Path, providers: Sequence[str]) -> None:
    """The files that all gateways and engines read."""
    (folder / "pepper").write_bytes(PEPPER)
    (folder / "provider-key").write_text(PROVIDER_KEY)
    (folder / "secret").write_text(SECRET + "\n")
    (folder / "providers").mkdir()
    for name in providers:
        path = folder / "providers" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(_row(name)), "utf-8")


def settings(
    topology: Topology, folder: Path, place: Place, reached: Reached, providers: Mapping[str, str]
) -> dict[str, Any]:
    """As a file holds them. `providers`: their addresses."""
    tree: dict[str, Any] = {
        "deployment_id": "drill", "state_dir": str(place.state),
        "cache_dir": str(folder / "cache"), "pepper_file": str(folder / "pepper"),
        "providers_dir": str(folder / "providers"),
        "gateway": {
            "port": place.port, "ops_port": place.ops_port, "drain_s": 5.0,
            "pods": topology.gateways,
        },
        "fleet": {
            "static": [
                {"model": MODEL, "url": url, "limit": engine.max_queued_reqs or ENGINE_LIMIT}
                for url, engine in zip(reached.engines, topology.engines, strict=True)
            ],
            "secret_file": str(folder / "secret"), "poll_s": 0.2, "poll_timeout_s": 1.0,
        },
        "models": [
            {"name": MODEL, "profile": "instant", "context_tokens": 32768,
             "offerings": [f"{name}/big" for name in providers]},
        ],
        "tenants": [
            {"id": "acme", "residency": "anywhere"}, {"id": "beta", "residency": "anywhere"},
            {"id": "home"},
        ],
        "keys": [
            key_row(name) | more | dict(topology.key_settings) for name, more in KEYS.items()
        ],
        "providers": [
            {"id": name, "base_url": f"{url}/v1", "api_key_file": str(folder / "provider-key")}
            for name, url in providers.items()
        ],
        "ledger": {"drain_s": 0.1, "segment_bytes": 1 << 20, "reserve_bytes": 1 << 16},
    }  # fmt: skip
    if reached.database:
        tree["ledger"]["url"] = reached.database
    if reached.redis:
        tree["redis"] = {"url": reached.redis}
    return _laid(tree, topology.settings)


def key_row(name: str) -> dict[str, Any]:
    """A key as settings hold it."""
    hmac = digest(PEPPER, key_of(name).encode()).hex()
    return {"id": name, "tenant": "acme", "exposure": "full", "hmac": hmac}


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
