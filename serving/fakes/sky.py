"""SkyPilot's package as far as the controller's provider uses it, misbehaving as the real one was
seen to (0.14.1, `tests/e2e/test_skypilot_full.py`): calls give back a request that `get` answers or
raises for; a launch has no row until the optimizer has chosen; one that fails leaves none; rows are
dict-like objects, prices NaN where a thing is not sold so, words full of colours and tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec

LAMBDA, H100 = "gpu_1x_h100_pcie", "H100"


def row(region: str, price: float, spot: float = math.nan, count: float = 1.0) -> Any:
    """One line of the price list."""
    return SimpleNamespace(cloud="Lambda", region=region, instance_type=LAMBDA, price=price,
                           spot_price=spot, accelerator_count=count)  # fmt: skip


class ResourcesUnavailableError(Exception):
    """As SkyPilot calls it."""


class ClusterDoesNotExist(ValueError):  # noqa: N818 - as SkyPilot calls it
    """As SkyPilot calls it."""


class RequestCancelled(Exception):  # noqa: N818 - as SkyPilot calls it
    """As SkyPilot calls it."""


class Request(msgspec.Struct):
    """One request to its API server."""

    request_id: str
    name: str
    cluster_name: str | None = None
    status: str = "SUCCEEDED"
    value: Any = None
    error: BaseException | None = None


class Row(msgspec.Struct):
    """A row of `status`."""

    name: str
    status: Any
    launched_at: int
    cluster_ever_up: bool = False
    handle: Any = None


class Resources(msgspec.Struct, eq=False):
    """Of a task; `infra` is cloud/region."""

    infra: str = ""
    instance_type: str | None = None
    accelerators: Any = None
    use_spot: bool = False
    labels: Any = None
    disk_size: int = 256

    @property
    def cloud(self) -> str | None:
        """None: any."""
        return self.infra.partition("/")[0] or None

    @property
    def region(self) -> str | None:
        """None: any."""
        return self.infra.partition("/")[2] or None

    def copy(self, cloud: str, region: str, **more: Any) -> Resources:
        """With a place, and what else is named."""
        return msgspec.structs.replace(self, infra=f"{cloud}/{region}", **more)


class Task:
    """What a task file says."""

    def __init__(self, resources: set[Resources], num_nodes: int = 1) -> None:
        self.resources = resources
        self.num_nodes = num_nodes

    def set_resources(self, resources: set[Resources]) -> None:
        """Instead of what it had."""
        self.resources = resources


class FakeSky:
    """The package: `sky.Task`, `sky.Resources`, and the calls of `sky.client.sdk`."""

    Resources = Resources

    def __init__(self) -> None:
        self.client = SimpleNamespace(sdk=self)
        self.task = Task({Resources(disk_size=300)})
        self.Task = SimpleNamespace(from_yaml=self._read)
        self.enabled = ["lambda"]
        self.prices = [row("us-east-1", 2.49, 1.25), row("us-east-1", 9.0, count=8.0)]
        self.rows: dict[str, Row] = {}
        self.requests: list[Request] = []
        self.launched: list[tuple[str, Task]] = []
        self.before: Callable[[str], object] = str
        """Called with each call's name: raises, waits, exits."""

    def _read(self, path: str) -> Task:
        if path == "none.yaml":
            raise FileNotFoundError(2, "No such file or directory", path)
        return Task(set(self.task.resources), self.task.num_nodes)

    def _ask(self, name: str, cluster: str | None = None, **more: Any) -> str:
        self.before(name.partition(".")[2])
        self.requests.append(Request(f"r{len(self.requests)}", name, cluster, **more))
        return self.requests[-1].request_id

    def get(self, request_id: str) -> Any:
        """What came of a request."""
        self.before("get")
        (request,) = [one for one in self.requests if one.request_id == request_id]
        assert request.status != "RUNNING", "it would wait for minutes"
        if request.error is not None:
            raise request.error
        return request.value

    def enabled_clouds(self) -> str:
        """Names, in small letters."""
        return self._ask("sky.enabled_clouds", value=list(self.enabled))

    def list_accelerators(self, name_filter: str, clouds: list[str], *, all_regions: bool) -> str:
        """Prices. Without `clouds` the catalogues of all would be fetched."""
        assert (name_filter, all_regions) == ("^H100$", True)
        assert clouds == self.enabled
        return self._ask("sky.list_accelerators", value={H100: list(self.prices)})

    def status(self, cluster_names: list[str] | None = None, *, all_users: bool) -> str:
        """Rows."""
        assert all_users
        wanted = self.rows if cluster_names is None else cluster_names
        rows = [self.rows[name] for name in wanted if name in self.rows]
        return self._ask("sky.status", value=rows)

    def launch(self, task: Task, cluster_name: str) -> str:
        """Begun; `choose` and `finish` go on."""
        self.launched.append((cluster_name, task))
        return self._ask("sky.launch", cluster_name, status="RUNNING")

    def api_status(self) -> list[Request]:
        """Requests that have not ended."""
        self.before("api_status")
        return [one for one in self.requests if one.status == "RUNNING"]

    def api_cancel(self, request_ids: list[str], *, silent: bool) -> str:
        """Ends requests as cancelled."""
        assert silent
        for one in self.requests:
            if one.request_id in request_ids:
                one.status, one.error = "CANCELLED", RequestCancelled("\x1b[33mcancelled\x1b[0m")
        return self._ask("sky.api_cancel")

    def down(self, cluster_name: str) -> str:
        """Done at once, or failed where there is no such cluster yet."""
        if self.rows.pop(cluster_name, None) is None:
            gone = ClusterDoesNotExist(f"Cluster '{cluster_name}' does not exist.")
            return self._ask("sky.down", cluster_name, status="FAILED", error=gone)
        return self._ask("sky.down", cluster_name)

    def choose(self, cluster: str) -> None:
        """The optimizer has chosen: from now on there is a row."""
        status = SimpleNamespace(name="INIT", value="INIT")
        self.rows[cluster] = Row(cluster, status, 1_800_000_000)

    def finish(self, cluster: str, error: BaseException | None = None) -> None:
        """A launch ends, up or failed; failed for want of machines it takes its row along."""
        (launch,) = [one for one in self.api_status() if one.cluster_name == cluster]
        launch.status, launch.error = ("FAILED" if error else "SUCCEEDED"), error
        if isinstance(error, ResourcesUnavailableError):
            self.rows.pop(cluster, None)
        elif error is None:
            found = self.rows[cluster]
            found.status, found.cluster_ever_up = SimpleNamespace(name="UP", value="UP"), True
            pairs = [("10.0.0.2", "192.0.2.9")]
            found.handle = SimpleNamespace(stable_internal_external_ips=pairs)
