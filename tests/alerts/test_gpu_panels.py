"""What the dashboards ask of NVIDIA's DCGM exporter, asked of a real Prometheus that scrapes a fake
one: its series with its names, units and labels (the list it comes with, `default-counters.csv`, as
public copies of it show)."""

from __future__ import annotations

import asyncio
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from deploy.grafana.panels import pages

pytestmark = pytest.mark.server
QUESTIONS = {q.title: q for page in pages() for q in page.questions}
ASKED = [
    query
    for question in QUESTIONS.values()
    for query in question.queries.values()
    if "DCGM" in query
]
SERIES = {
    "DCGM_FI_DEV_SM_CLOCK": (1980, 1410), "DCGM_FI_DEV_MEM_CLOCK": (2619, 2619),
    "DCGM_FI_DEV_GPU_TEMP": (61, 34), "DCGM_FI_DEV_MEMORY_TEMP": (70, 41),
    "DCGM_FI_DEV_POWER_USAGE": (612.5, 71.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": (9.1e9, 1.2e9),
    "DCGM_FI_DEV_GPU_UTIL": (90, 30), "DCGM_FI_DEV_MEM_COPY_UTIL": (48, 0),
    "DCGM_FI_DEV_XID_ERRORS": (0, 79), "DCGM_FI_DEV_FB_FREE": (8000, 72000),
    "DCGM_FI_DEV_FB_USED": (72000, 8000), "DCGM_FI_PROF_GR_ENGINE_ACTIVE": (0.88, 0.2),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": (0.41, 0.05), "DCGM_FI_PROF_DRAM_ACTIVE": (0.63, 0.1),
    "DCGM_FI_PROF_PCIE_TX_BYTES": (1e9, 0), "DCGM_FI_PROF_PCIE_RX_BYTES": (2e9, 0),
}  # fmt: skip
"""Two cards of one machine: megabytes, per cent, watts, degrees, shares of time."""


def exposed() -> str:
    lines = []
    for name, values in SERIES.items():
        kind = "counter" if name.endswith("CONSUMPTION") else "gauge"
        lines += [f"# HELP {name} .", f"# TYPE {name} {kind}"]
        for gpu, value in enumerate(values):
            lines.append(
                f'{name}{{gpu="{gpu}",UUID="GPU-0000000{gpu}",pci_bus_id="00000000:1B:00.0",'
                f'device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="h100-7",'
                f'container="ray-worker",namespace="ballast",pod="engine-{gpu}"}} {value}'
            )
    return "\n".join([*lines, 'ballast_target_kv_use_ratio{target="m@1"} 0.7', ""])


@contextmanager
def prometheus(folder: Path, port: int, target: str):
    told = {
        "global": {"scrape_interval": "300ms", "scrape_timeout": "300ms"},
        "scrape_configs": [{
            "job_name": "dcgm", "honor_labels": True, "static_configs": [{"targets": [target]}],
        }],
    }  # fmt: skip
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(told), "utf-8")
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as running:
        try:
            yield f"http://127.0.0.1:{port}/api/v1/query"
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


async def answers(api: str, queries: list[str]) -> dict[str, list[dict]]:
    """By query, once the first scrape is in."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(40):

        async def ask(query: str) -> list[dict]:
            try:
                async with session.get(api, params={"query": query}) as reply:
                    if reply.status == 503:
                        return []
                    said = await reply.json()
            except aiohttp.ClientConnectionError:
                return []
            assert said["status"] == "success", said
            return said["data"]["result"]

        while not await ask("DCGM_FI_DEV_GPU_UTIL"):
            await asyncio.sleep(0.05)
        return {query: await ask(query) for query in queries}


@pytest.fixture(scope="module")
def found(tmp_path_factory, free_ports, tool, listening):
    tool("prometheus")

    async def scrape(request):
        return web.Response(text=exposed(), content_type="text/plain")

    async def run():
        app = web.Application()
        app.router.add_get("/metrics", scrape)
        (port,) = free_ports(1)
        async with listening(app) as url:
            with prometheus(tmp_path_factory.mktemp("dcgm"), port, url.split("//")[1]) as api:
                beside = "max by (target) (ballast_target_kv_use_ratio)"
                return await answers(api, [*ASKED, beside])

    return asyncio.run(run())


def values(found, query):
    return sorted(float(row["value"][1]) for row in found[query])


def test_every_query_of_a_gpu_is_answered_for_each_of_them(found):
    assert len(ASKED) >= 8
    assert [query for query in ASKED if not found[query]] == []
    by_card = [query for query in ASKED if "by (Hostname)" not in query]
    assert {len(found[query]) for query in by_card} == {2}


def test_shares_are_shares_and_not_per_cent_or_megabytes(found):
    asked = [
        query
        for question in QUESTIONS.values()
        if question.unit == "percentunit"
        for query in question.queries.values()
        if "DCGM" in query
    ]
    assert all(0.0 <= value <= 1.0 for query in asked for value in values(found, query))
    (busy,) = QUESTIONS["GPU busy (DCGM)"].queries.values()
    assert values(found, busy) == [0.3, 0.9]
    (memory,) = QUESTIONS["GPU memory in use (DCGM)"].queries.values()
    assert values(found, memory) == [0.1, 0.9]


def test_the_fleet_shows_utilisation_beside_kv_memory(found):
    gpu, kv = QUESTIONS["GPU utilisation beside KV memory in use"].queries.values()
    assert values(found, gpu) == [0.6]
    assert values(found, kv) == [0.7]


def test_the_legends_name_labels_that_the_exporter_has(found):
    for question in QUESTIONS.values():
        for legend, query in question.queries.items():
            if "DCGM" in query:
                labels = set(re.findall(r"\{\{(\w+)\}\}", legend))
                assert all(labels <= row["metric"].keys() for row in found[query]), legend
