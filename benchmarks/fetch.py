"""How fast weights are fetched and checked: `python -m benchmarks.fetch --gib 1 --runs 3`.

A fake hub on loopback serves random shards from its own process; its CDN sends files by sendfile,
so that the client is what is measured. Prints seconds of each run: cold (fetch, write, hash), warm
(nothing changed), and with every byte hashed anew; and the client's CPU seconds when cold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web

from serving.engine.weights.resolve import Order, Outside, resolve
from serving.engine.weights.settings import WeightsSettings
from serving.fakes.hub import FakeHub

SHARDS = 8
REPO = "bench/model"


class FileHub(FakeHub):
    """Serves large files from a folder, and hashes each once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(REPO)
        self._folder = folder
        self._entries: dict[str, dict[str, Any]] = {}

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        if name not in self._entries:
            self._entries[name] = super()._entry(name, data)
        return self._entries[name]

    async def _from_cdn(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._folder / request.match_info["name"])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetch")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        source, cache = Path(home, "source"), Path(home, "cache")
        source.mkdir()
        write_model(source, int(options.gib * 2**30) // SHARDS)
        urls: multiprocessing.Queue[str] = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(source, urls), daemon=True)
        server.start()
        url = urls.get(timeout=120)
        try:
            measure(url, cache, options.runs, options.gib)
        finally:
            server.terminate()
            server.join()
    return 0


def measure(url: str, cache: Path, runs: int, gib: float) -> None:
    """Print what each way takes."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": [], "hashed": [], "cold cpu": []}
    for _ in range(runs):
        shutil.rmtree(cache, ignore_errors=True)
        cpu_s = time.process_time()
        seconds["cold"].append(timed(url, cache))
        seconds["cold cpu"].append(time.process_time() - cpu_s)
        seconds["warm"].append(timed(url, cache))
        seconds["hashed"].append(timed(url, cache, verify="always"))
    for name, values in seconds.items():
        shown = ", ".join(f"{v:.3f}" for v in sorted(values))
        print(f"{name:9} {gib:g} GiB: {shown} s; {gib * 1024 / median(values):.0f} MiB/s")


def timed(url: str, cache: Path, **settings: Any) -> float:
    """Seconds until the weights are ready."""
    known = WeightsSettings(huggingface_url=url, disk_reserve_mib=0, **settings)
    started_s = time.perf_counter()
    asyncio.run(resolve(Order(REPO, cache), known, Outside({})))
    return time.perf_counter() - started_s


def write_model(folder: Path, shard_bytes: int) -> None:
    """Config, index and random shards."""
    names = [f"model-{i:05d}-of-{SHARDS:05d}.safetensors" for i in range(1, SHARDS + 1)]
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {str(i): name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    head = json.dumps({"t": {"data_offsets": [0, shard_bytes]}}).encode()
    for name in names:
        data = len(head).to_bytes(8, "little") + head + os.urandom(shard_bytes)
        (folder / name).write_bytes(data)


def serve(folder: Path, urls: multiprocessing.Queue[str]) -> None:
    """The hub's process: tells its URL once every file is hashed."""

    hub = FileHub(folder)
    for path in sorted(folder.iterdir()):
        hub.shelf.files[path.name] = data = path.read_bytes()
        hub._entry(path.name, data)

    async def forever() -> None:
        served, _ = await hub.start()
        urls.put(served.url)
        await asyncio.Event().wait()

    asyncio.run(forever())


if __name__ == "__main__":
    sys.exit(main())
