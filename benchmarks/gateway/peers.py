"""Peers in environments of their own, made by one command: what each needs, and how it starts.

`python -m benchmarks.gateway install NAME ...` makes them under the user's cache
(benchmarks.tools); the comparisons find them there when they are neither in `--peer-bin` nor on
PATH. A peer that cannot be had here is named with the reason and left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks import tools

VLLM_ROUTER, SMG, SGLANG_ROUTER, LITELLM = "vllm-router", "smg", "sglang-router", "litellm"
KEY = "sk-" + "comparison-" * 3 + "1"
"""LiteLLM does not start without one; the others ask for none and pass it on."""
RUST = (VLLM_ROUTER, SMG, SGLANG_ROUTER)


class Peer(NamedTuple):
    """One gateway of other people."""

    requirements: tuple[str, ...]
    """Pinned: a figure is of a version."""
    command: str


PEERS = {
    VLLM_ROUTER: Peer(("vllm-router==0.1.17",), "vllm-router"),
    SMG: Peer(("smg==1.13.0",), "smg"),
    SGLANG_ROUTER: Peer(("sglang-router==0.3.2",), "python"),
    LITELLM: Peer(("litellm[proxy]==1.108.7",), "litellm"),
}


def installed(name: str) -> Path | None:
    """Its command in the environment made for it; None = not made here."""
    peer = PEERS[name]
    found = tools.folder(peer.requirements) / "bin" / peer.command
    return found if found.exists() else None


def find(name: str, peer_bin: Path | None) -> Path | None:
    """In `peer_bin`, else on PATH, else in its own environment. A peer that starts as a module of a
    Python is only looked for in its own."""
    command = PEERS[name].command
    if command == "python":
        return installed(name)
    found = shutil.which(command, path=str(peer_bin) if peer_bin else None)
    return Path(found) if found else installed(name)


def pinned(name: str, command: Path) -> str:
    """The version, where the command is that of its own environment; else empty."""
    return PEERS[name].requirements[0].partition("==")[2] if command == installed(name) else ""


def install(names: Sequence[str]) -> dict[str, str]:
    """Make their environments; the reason for each that cannot be had."""
    missing = {}
    for name in names:
        try:
            tools.made(PEERS[name].requirements, PEERS[name].command)
        except tools.ToolMissing as error:
            missing[name] = str(error)
    return missing


_START = {SMG: ["launch"], SGLANG_ROUTER: ["-m", "sglang_router.launch_router"]}


def words(
    name: str, before: tuple[Sequence[str], str], ports: tuple[int, int], folder: Path
) -> list[str]:
    """What follows its command: before these upstreams (URLs, model), on the ports given (service,
    metrics). LiteLLM's settings are a file in `folder`."""
    (urls, model), (port, metrics) = before, ports
    if name == LITELLM:
        rows = [
            {"model_name": model, "litellm_params": {
                "model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "k"}}
            for url in urls
        ]  # fmt: skip
        path = folder / "litellm.yaml"
        made = {
            "model_list": rows,
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"telemetry": False},
        }
        path.write_text(yaml.safe_dump(made), "utf-8")
        return ["--config", str(path), "--host", "127.0.0.1", "--port", str(port),
                "--num_workers", "1"]  # fmt: skip
    return [
        *_START.get(name, []), "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *urls,
        "--policy", "round_robin", "--prometheus-port", str(metrics),
    ]  # fmt: skip
