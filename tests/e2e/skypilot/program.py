"""Walks the provider through the real SkyPilot: its SDK, API server, optimizer and provisioner.

Runs in an environment of its own with HOME an empty folder; says what came of each check on a line
of JSON.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from cloud import REGIONS, TYPES, Cloud

HERE, HOME = Path(__file__).parent, Path.home()
STEP_S = 120.0
"""Longest wait for a state; a launch takes 10 to 40 s on two shared cores."""
CATALOG = HOME / ".sky/catalogs/v8"
GPU = "{'Gpus': [{'Name': 'H100', 'Count': 1.0, 'MemoryInfo': {'SizeInMiB': 81920}}]}"


def prepare(cloud: Cloud) -> None:
    """Prices, keys, the plugin, and programs that SkyPilot asks for and does not need here."""
    columns = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo"
    lines = [
        f'{name},H100,1.0,26.0,200.0,{price},{region},"{GPU}",'
        for name, price in TYPES.items()
        for region in REGIONS
    ]
    files = {
        CATALOG / "lambda/vms.csv": "\n".join((f"{columns},SpotPrice", *lines)),
        CATALOG / "common/accelerators.csv": "AcceleratorName,Clouds,MaxRegions\nH100,Lambda,2\n",
        CATALOG / "common/metadata.csv": "GPU,MemoryGB,Manufacturer\nH100,80GB,NVIDIA\n",
        HOME / ".lambda_cloud/lambda_keys": "api_key = none\n",
        HOME / ".sky/plugins.yaml": "plugins:\n- class: stand_in.StandIn\n",
        HOME / "task.yaml": "resources:\n  disk_size: 300\n",
        HOME / "eu.yaml": "resources:\n  infra: lambda/europe-central-1\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (HOME / "bin").mkdir()
    for name in ("rsync", "socat", "nc"):
        if shutil.which(name) is None:
            (HOME / "bin" / name).write_text("#!/bin/sh\nexit 0\n")
            (HOME / "bin" / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
        "CLOUD_URL": cloud.url,
        "PYTHONPATH": f"{HERE}:{os.environ['PYTHONPATH']}",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    }


class Walk:
    """The checks, in order: each begins where the one before ended."""

    def __init__(self, cloud: Cloud) -> None:
        from autoscale.machines import Create, Tags, ours
        from autoscale.providers.skypilot import SkyPilot, Wanted, installed

        self.cloud = cloud
        self.tags = Tags("9D.x", "m", "od")
        self.pool = lambda task, place="": SkyPilot(
            installed(), Wanted(HOME / task, "H100:1", False, place)
        )
        self.provider = self.pool("task.yaml")
        token = f"{ours(self.tags)}{time.time_ns() // 1_000_000}-"
        self.order = lambda serial, offer: Create(f"{token}{serial}", self.tags, offer, 4_000_000)

    async def until(self, *states: str):
        """The list, once it has these states."""
        end_s = time.monotonic() + STEP_S
        while True:
            found = await self.provider.list(self.tags, 60.0)
            if tuple(one.state for one in found) == states:
                return found
            assert time.monotonic() < end_s, f"{found}, and not {states}"
            await asyncio.sleep(0.5)

    async def prices(self) -> None:
        offers = await self.provider.offers(self.tags, "", 60.0)
        assert sorted(one.hour_micro for one in offers) == [2_490_000] * 2 + [3_290_000] * 2
        self.dear = max(offers, key=lambda one: (one.hour_micro, one.id)).id
        (kept, _) = await self.pool("eu.yaml", "de").offers(self.tags, "", 60.0)
        assert "/europe-central-1/" in kept.id

    async def launch(self) -> None:
        """At the place and on the machine of the offer, dearer than SkyPilot would choose."""
        made = await self.provider.create(self.order(1, self.dear), 60.0)
        again = await self.provider.create(self.order(1, self.dear), 60.0)
        assert made == again
        assert [one.id for one in await self.provider.list(self.tags, 60.0)] == [made.id]
        (up,) = await self.until("running")
        (machine,) = self.cloud.alive()
        assert f"Lambda/{machine['region']}/{machine['type']}" == self.dear
        assert up.address == machine["private_ip"]
        assert 0 < up.since_ms < time.time() * 1000
        await self.provider.create(self.order(1, self.dear), 60.0)
        assert len(self.cloud.machines) == 1
        self.id = up.id

    async def others(self) -> None:
        """Another model's pool of the same name, and another life of the controller."""
        other = type(self.tags)("9D.x", "other", "od")
        assert await self.provider.list(other, 60.0) == ()
        (seen,) = await self.pool("task.yaml").list(self.tags, 60.0)
        assert (seen.id, seen.state) == (self.id, "running")

    async def end(self) -> None:
        await self.provider.terminate(self.id, 1, 60.0)
        await self.provider.terminate(self.id, 1, 60.0)
        await self.until()
        assert self.cloud.alive() == []
        await self.provider.terminate(self.id, 1, 60.0)
        await asyncio.sleep(2)
        await self.provider.terminate(self.id, 1, 60.0)  # gone: no error, though SkyPilot's is one

    async def short(self) -> None:
        self.cloud.regions = ()
        await self.provider.create(self.order(2, self.dear), 60.0)
        (failed,) = await self.until("ended")
        assert failed.why.startswith("SkyPilot: ResourcesUnavailableError: Failed to provision")
        self.cloud.regions = REGIONS
        self.provider = self.pool("task.yaml")

    async def cancelled(self) -> None:
        """An end while a launch is under way: before there is a cluster, and while it boots."""
        made = await self.provider.create(self.order(3, self.dear), 60.0)
        await self.provider.terminate(made.id, 1, 60.0)
        await self.until("ended")
        self.provider = self.pool("task.yaml")
        made = await self.provider.create(self.order(4, self.dear), 60.0)
        end_s = time.monotonic() + STEP_S
        while not self.cloud.alive():
            assert time.monotonic() < end_s, "no machine was ever made"
            await asyncio.sleep(0.1)
        await self.provider.terminate(made.id, 1, 60.0)
        await self.until("ended")
        await asyncio.sleep(2)
        await self.provider.terminate(made.id, 1, 60.0)
        assert self.cloud.alive() == []

    async def taken(self) -> None:
        """A machine that its cloud takes away, as it does with spot."""
        self.provider = self.pool("task.yaml")
        await self.provider.create(self.order(6, self.dear), 60.0)
        await self.until("running")
        await asyncio.sleep(2)
        (machine,) = self.cloud.alive()
        machine["status"] = "terminated"
        await self.until()

    async def refused(self) -> None:
        from autoscale.machines import ProviderError

        (HOME / "two.yaml").write_text("num_nodes: 2\n")
        for task, words in (("two.yaml", "num_nodes"), ("none.yaml", "No such file")):
            found = None
            try:
                await self.pool(task).create(self.order(5, self.dear), 60.0)
            except ProviderError as error:
                found = error
            assert found is not None, f"{task} was taken"
            assert (found.kind, words in str(found)) == ("refused", True), found


async def tell(walk: Walk) -> None:
    names = ("prices", "launch", "others", "end", "short", "cancelled", "refused", "taken")
    for name in names:
        fault = ""
        began_s = time.monotonic()
        try:
            await getattr(walk, name)()
        except Exception as error:  # noqa: BLE001 - told, and the next check is made
            traceback.print_exc()
            fault = f"{type(error).__name__}: {error}"
        seconds = round(time.monotonic() - began_s, 1)
        print(json.dumps({"check": name, "fault": fault, "seconds": seconds}), flush=True)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the API server is stopped
    cloud = Cloud()
    prepare(cloud)
    from sky.client import sdk

    try:
        sdk.api_start()
        sdk.get(sdk.check(infra_list=("lambda",), verbose=False))
        asyncio.run(tell(Walk(cloud)))
    finally:
        sdk.api_stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
