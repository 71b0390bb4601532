"""Sizing a RayCluster's worker groups, against a strict API server and an operator's own rule."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml
from aiohttp import web

from autoscale.acts import Act
from autoscale.actuators import cluster_rule as rule
from autoscale.actuators.base import Order
from autoscale.actuators.cluster import ClusterActuator, Followed
from autoscale.cluster_api import ClusterApi
from autoscale.lease import Fence, Granted
from autoscale.observe import by_pool
from autoscale.policy import Policy
from autoscale.records import Decision, Engines, Hold, Samples, Scale, Supply
from autoscale.watched import STALE_S, Watched
from serving.fakes.cluster import FakeCluster
from serving.fakes.cluster_rules import ray_cluster

NAMESPACE = "/api/v1/namespaces/n"
CLUSTER = "/apis/ray.io/v1/namespaces/n/rayclusters/llm"
NODES = "/api/v1/nodes"
GROUPS = (rule.Group("m", "od", "on-demand", 1, 4), rule.Group("m", "spot", "spot", 1, 4))
NO_HTTP = cast("aiohttp.ClientSession", None)
AT_MS = 1_800_000_000_000


def group(name: str, replicas: int = 0) -> dict[str, Any]:
    return {"groupName": name, "replicas": replicas, "minReplicas": 0, "maxReplicas": 4,
            "rayStartParams": {}, "template": {"spec": {"containers": []}}}  # fmt: skip


class Operator:
    """KubeRay's part, the scheduler's and the kubelets': by the rule of `reconcilePods`."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.room = {"on-demand": 4, "spot": 4}
        self.made = 0
        groups = [group("on-demand"), group("spot"), group("theirs", 1)]
        spec = {"enableInTreeAutoscaling": False, "workerGroupSpecs": groups}
        cluster.put(CLUSTER, {"kind": "RayCluster", "spec": spec})
        for kind in self.room:
            for number in range(5):
                cluster.put(f"{NODES}/{kind}-{number}", {"spec": {}})

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[CLUSTER.rpartition("/")[0]]["llm"]["spec"]
        return found

    def row(self, name: str) -> dict[str, Any]:
        return next(r for r in self.spec["workerGroupSpecs"] if r["groupName"] == name)

    def pods(self, name: str) -> list[str]:
        held = self.cluster.objects.get(f"{NAMESPACE}/pods", {})
        return sorted(p for p, body in held.items()
                      if body["metadata"]["labels"]["ray.io/group"] == name)  # fmt: skip

    def reconcile(self) -> None:
        for row in self.spec["workerGroupSpecs"]:
            name = row["groupName"]
            for pod in (row.get("scaleStrategy") or {}).get("workersToDelete") or []:
                if pod in self.pods(name):
                    self.cluster.remove(f"{NAMESPACE}/pods/{pod}")
            here = self.pods(name)
            for pod in here[row["replicas"] :]:  # arbitrary: this one takes the last
                self.cluster.remove(f"{NAMESPACE}/pods/{pod}")
            for _ in range(row["replicas"] - len(here)):
                self.start(name)

    def start(self, name: str) -> None:
        self.made += 1
        used = {self.cluster.objects[f"{NAMESPACE}/pods"][p]["spec"].get("nodeName")
                for p in self.pods(name)}  # fmt: skip
        free = [f"{name}-{i}" for i in range(self.room.get(name, 1))]
        node = next((n for n in free if n not in used and not self.taints(n)), "")
        ready = {"type": "Ready", "status": "True"}
        full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/9 nodes are available: insufficient nvidia.com/gpu"}  # fmt: skip
        self.cluster.put(f"{NAMESPACE}/pods/{name}-w{self.made}", {
            "metadata": {"labels": {"ray.io/cluster": "llm", "ray.io/group": name},
                         "creationTimestamp": f"2027-01-15T08:00:{self.made:02d}Z"},
            "spec": {"nodeName": node} if node else {},
            "status": {"phase": "Running" if node else "Pending",
                       "podIP": f"10.0.0.{self.made}" if node else "",
                       "conditions": [ready if node else full]},
        })  # fmt: skip

    def taints(self, node: str) -> bool:
        held = self.cluster.objects[NODES].get(node, {"spec": {"taints": [1]}})
        return bool(held["spec"].get("taints"))

    def disrupt(self, pod: str, reason: str, status: str = "True") -> None:
        body = dict(self.cluster.objects[f"{NAMESPACE}/pods"][pod])
        told = {"type": "DisruptionTarget", "status": status, "reason": reason}
        rest = [c for c in body["status"]["conditions"] if c["type"] != told["type"]]
        body["status"] = body["status"] | {"conditions": [*rest, told]}
        self.cluster.put(f"{NAMESPACE}/pods/{pod}", body)

    def taint(self, node: str, key: str) -> None:
        self.cluster.put(f"{NODES}/{node}", {"spec": {"taints": [{"key": key}]}})


class Bench:
    """The actuator, its watches and the operator."""

    def __init__(self, api: ClusterApi, cluster: FakeCluster, operator: Operator) -> None:
        self.cluster, self.operator = cluster, operator
        self.now_s, self.at_ms, self.token = 100.0, AT_MS, 7
        self.engines: dict[str, Engines] | None = {"m": Engines(0)}
        self.hosts: dict[str, dict[str, int]] = {}
        pods = Watched(api, f"{NAMESPACE}/pods", "ray.io/cluster=llm", lambda: self.now_s)
        nodes = Watched(api, NODES, "", lambda: self.now_s)
        self.followed = Followed(pods, nodes)
        self.actuator = ClusterActuator(api, CLUSTER, GROUPS, self.followed, lambda: self.hosts)
        self.tasks = [asyncio.create_task(one.follow()) for one in self.followed]

    async def synced(self) -> None:
        """Wait until the copies are what the server has."""
        for one, path in zip(self.followed, (f"{NAMESPACE}/pods", NODES), strict=True):
            while one.objects() != tuple(
                body for _, body in sorted(self.cluster.objects.get(path, {}).items())
            ):
                await asyncio.sleep(0.005)

    async def tick(self, od: int | None, spot: int = 0) -> tuple[Act, Act]:
        """One tick, then the operator's turn. None: a Hold."""
        self.at_ms += 5000
        decision: Decision = Hold("m", "h")
        if od is not None:
            pools = {"od": od, "spot": spot}
            decision = Scale("m", od + spot, "r", pools)
        await self.synced()
        samples = Samples(self.at_ms, engines=self.engines, leaving=self.actuator.leaving())
        order = Order((decision,), samples, Policy(()))
        fence = Fence(Granted(self.token, 100.0), lambda: 0.0)
        first, second = await self.actuator.apply(order, fence, NO_HTTP)
        self.operator.reconcile()
        await self.synced()
        return first, second

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


def on(folder: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    """Run `work` on a bench."""

    async def run() -> None:
        cluster = FakeCluster(checks={"rayclusters": ray_cluster})
        operator = Operator(cluster)
        runner = web.AppRunner(cluster.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        path = folder / "kubeconfig"
        context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
        path.write_text(yaml.safe_dump({
            "current-context": "c", "contexts": [context],
            "clusters": [{"name": "k", "cluster": {
                "server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "u", "user": {"token": cluster.token}}],
        }))  # fmt: skip
        async with ClusterApi(path) as api:
            bench = Bench(api, cluster, operator)
            try:
                await work(bench)
            finally:
                await bench.close()
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_groups_grow_and_shrink_by_naming_who_goes(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        theirs = dict(bench.operator.row("theirs"))
        first, _ = await bench.tick(2, 1)
        assert first.outcome == "asked"
        assert bench.operator.row("on-demand")["replicas"] == 2
        first, second = await bench.tick(2, 1)
        assert (first.outcome, first.seen, second.outcome) == ("kept", 2, "kept")
        bench.engines = {"m": Engines(1, 1)}
        bench.hosts = {"m": {"10.0.0.2": 1}}  # the newer one holds the replica that stays
        await bench.tick(1)
        assert bench.operator.pods("on-demand") == ["on-demand-w2"]
        assert bench.operator.pods("spot") == []
        await bench.tick(1)
        row = bench.operator.row("on-demand")
        assert row["replicas"] == 1
        assert row["scaleStrategy"] == {"workersToDelete": []}  # the writer takes gone names out
        assert bench.operator.row("theirs") == theirs

    on(tmp_path, work)


def test_a_worker_that_still_holds_replicas_stays(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        bench.engines = {"m": Engines(1, running=1, stopping=1)}
        bench.hosts = {"m": {"10.0.0.1": 1, "10.0.0.2": 0}}
        for _ in range(3):
            await bench.tick(1)
        assert len(bench.operator.pods("on-demand")) == 2
        assert bench.operator.row("on-demand")["replicas"] == 2
        bench.engines, bench.hosts = {"m": Engines(1, 1)}, {"m": {"10.0.0.1": 1}}
        await bench.tick(1)
        assert bench.operator.pods("on-demand") == ["on-demand-w1"]

    on(tmp_path, work)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_node_that_is_going_is_replaced_before_it_is_let_go(
    tmp_path: Path, is_held: bool
) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(0, 2)
        bench.engines = {"m": Engines(2, 2)}
        bench.hosts = {"m": {"10.0.0.1": 1, "10.0.0.2": 1}}
        bench.operator.taint("spot-0", "cloud.google.com/impending-node-termination")
        wanted = None if is_held else 0
        _, act = await bench.tick(wanted, 2)
        assert bench.actuator.leaving() == {"m": 1}
        assert bench.operator.row("spot")["replicas"] == 3
        assert "impending-node-termination" in act.reason
        bench.engines = {"m": Engines(3, running=2, starting=1)}  # its successor loads
        await bench.tick(wanted, 2)
        await bench.tick(wanted, 2)
        assert len(bench.operator.pods("spot")) == 3
        bench.engines = {"m": Engines(3, 3)}
        bench.hosts = {"m": {"10.0.0.1": 1, "10.0.0.2": 1, "10.0.0.4": 1}}
        await bench.tick(wanted, 2)
        await bench.tick(wanted, 2)
        assert bench.operator.row("spot")["replicas"] == 2
        assert bench.operator.pods("spot") == ["spot-w2", "spot-w4"]
        assert bench.actuator.leaving() == {}

    on(tmp_path, work)


def test_a_worker_that_kubernetes_is_about_to_take_is_replaced_first(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(0, 2)
        bench.engines = {"m": Engines(2, 2)}
        bench.hosts = {"m": {"10.0.0.1": 1, "10.0.0.2": 1}}
        bench.operator.disrupt("spot-w1", "PreemptionByScheduler")
        _, act = await bench.tick(0, 2)
        assert bench.actuator.leaving() == {"m": 1}
        assert bench.operator.row("spot")["replicas"] == 3
        assert "PreemptionByScheduler" in act.reason
        bench.operator.disrupt("spot-w1", "PreemptionByScheduler", "False")
        await bench.tick(0, 2)
        assert bench.actuator.leaving() == {}, "it was called off"

    on(tmp_path, work)


def test_a_replacement_without_room_keeps_the_one_that_is_going(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.operator.room["spot"] = 2
        await bench.tick(0, 2)
        bench.operator.taint("spot-1", "karpenter.sh/disrupted")
        for _ in range(4):
            _, act = await bench.tick(0, 2)
        assert bench.operator.row("spot")["replicas"] == 3  # not more with each tick
        assert len(bench.operator.pods("spot")) == 3
        assert act.outcome == "stuck"
        assert "insufficient nvidia.com/gpu" in act.reason
        assert bench.actuator.short(bench.at_ms) == ("m/spot",)

    on(tmp_path, work)


def test_a_hold_leaves_every_number(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2, 1)
        for _ in range(3):
            await bench.tick(None)
        assert [bench.operator.row(g.group)["replicas"] for g in GROUPS] == [2, 1]

    on(tmp_path, work)


@pytest.mark.parametrize("status", [409, 429, 500, 503, 410])
def test_an_api_server_that_fails_changes_nothing_and_the_next_tick_does(
    tmp_path: Path, status: int
) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(1)
        bench.cluster.fail("PATCH", "/rayclusters", status, retry="20" if status == 429 else "")
        first, _ = await bench.tick(2)
        assert first.outcome == "unknown"
        assert bench.operator.row("on-demand")["replicas"] == 1
        first, _ = await bench.tick(2)
        assert first.outcome == ("unknown" if status == 429 else "asked")
        bench.at_ms += 20_000
        await bench.tick(2)
        assert bench.operator.row("on-demand")["replicas"] == 2

    on(tmp_path, work)


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
def test_a_cluster_that_cannot_be_read_is_left_as_it_is_with_the_reason(
    tmp_path: Path, status: int
) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        bench.cluster.fail("GET", "/rayclusters", status)
        acts = await bench.tick(0)
        assert {act.outcome for act in acts} == {"unknown"}
        said = "changed meanwhile" if status == 409 else str(status)
        assert all(said in act.reason for act in acts)
        assert bench.operator.row("on-demand")["replicas"] == 2
        assert len(bench.operator.pods("on-demand")) == 2

    on(tmp_path, work)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_watch_that_breaks_says_why_and_goes_on_where_it_was(tmp_path: Path, status: int) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        lists = bench.cluster.calls.count(("GET", NODES))
        bench.cluster.end_watches(status)
        while str(status) not in bench.followed.nodes.why:
            await asyncio.sleep(0.005)
        first, _ = await bench.tick(2)
        assert first.outcome == "kept", "the copy is not stale yet"
        bench.operator.start("on-demand")
        await bench.synced()
        assert bench.cluster.calls.count(("GET", NODES)) >= lists
        assert len(bench.operator.pods("on-demand")) == 3

    on(tmp_path, work)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_list_that_fails_at_the_start_holds_everything_with_the_reason(
    tmp_path: Path, status: int
) -> None:
    async def work(bench: Bench) -> None:
        bench.now_s += STALE_S + 1  # as if nothing had ever been listed
        bench.cluster.fail("GET", "/pods", status, times=3)
        bench.cluster.end_watches(410)
        while str(status) not in bench.followed.pods.why:
            await asyncio.sleep(0.005)
        order = Order((Scale("m", 0, "r"),), Samples(AT_MS, engines={}), Policy(()))
        fence = Fence(Granted(7, 100.0), lambda: 0.0)
        first, second = await bench.actuator.apply(order, fence, NO_HTTP)
        assert (first.outcome, second.outcome) == ("unknown", "unknown")
        assert str(status) in first.reason

    on(tmp_path, work)


def test_what_the_schema_refuses_is_told(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.operator.row("theirs")["surprise"] = 1  # somebody's doing, past the schema
        first, _ = await bench.tick(1)
        assert first.outcome == "refused"
        assert "unknown field 'surprise'" in first.reason

    on(tmp_path, work)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"enableInTreeAutoscaling": True}, "its autoscaler would write the same"),
     ({"suspend": True}, "suspended")],
)  # fmt: skip
def test_two_writers_of_one_cluster_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    async def work(bench: Bench) -> None:
        bench.operator.spec.update(change)
        first, second = await bench.tick(2, 2)
        assert {first.outcome, second.outcome} == {"refused"}
        assert words in first.reason
        assert bench.operator.row("on-demand")["replicas"] == 0

    on(tmp_path, work)


def test_a_leader_of_yesterday_is_fenced_out_by_the_object_itself(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.token = 9
        await bench.tick(2)
        bench.token = 8
        first, _ = await bench.tick(0)
        assert first.outcome == "refused"
        assert "token 9" in first.reason
        assert bench.operator.row("on-demand")["replicas"] == 2

    on(tmp_path, work)


def test_a_new_leader_marks_the_cluster_before_it_changes_anything(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        bench.token = 9
        await bench.tick(2)
        held = bench.cluster.objects[CLUSTER.rpartition("/")[0]]["llm"]
        assert held["metadata"]["annotations"][rule.FENCE] == "9"
        calls = len(bench.cluster.calls)
        await bench.tick(2)
        assert ("PATCH", CLUSTER) not in bench.cluster.calls[calls:]

    on(tmp_path, work)


def test_a_watch_goes_on_after_its_end_a_bookmark_and_a_forgotten_version(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        await bench.synced()
        lists = bench.cluster.calls.count(("GET", NODES))
        bench.cluster.bookmark()
        bench.cluster.end_watches()
        while len(bench.cluster.watchers) < 2:
            await asyncio.sleep(0)
        bench.cluster.end_watches(410)
        bench.cluster.compact()
        bench.operator.start("on-demand")
        bench.cluster.remove(f"{NODES}/spot-4")
        await bench.synced()
        assert bench.cluster.calls.count(("GET", NODES)) > lists

    on(tmp_path, work)


def test_copies_out_of_touch_stop_all_writing(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(2)
        await bench.synced()
        bench.now_s += STALE_S + 1
        order = Order((Scale("m", 0, "r"),), Samples(AT_MS, engines={}), Policy(()))
        fence = Fence(Granted(7, 100.0), lambda: 0.0)
        first, _ = await bench.actuator.apply(order, fence, NO_HTTP)
        assert first.outcome == "unknown"
        assert bench.operator.row("on-demand")["replicas"] == 2

    on(tmp_path, work)


def test_ready_replicas_are_counted_by_the_pool_of_their_host(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.tick(1, 1)
        hosts = bench.actuator.hosts()
        assert hosts == {"10.0.0.1": "od", "10.0.0.2": "spot"}
        samples = Samples(AT_MS, supply={"m": Supply(2)})
        found = by_pool(samples, {"m": {"10.0.0.1": 1, "10.0.0.2": 1}}, hosts)
        assert found.supply == {"m": Supply(2, pools={"od": 1, "spot": 1})}
        for running in ({"10.0.0.9": 2}, {"10.0.0.1": 1}):  # an unknown host; one the gateways miss
            assert by_pool(samples, {"m": running}, hosts).supply == samples.supply

    on(tmp_path, work)


def test_the_fake_refuses_what_kuberays_own_schema_refuses() -> None:
    folder = os.environ.get("BALLAST_CRDS")
    if folder is None:
        pytest.skip("BALLAST_CRDS names no folder with KubeRay's CRDs (`*.yaml.gz`)")
    jsonschema = pytest.importorskip("jsonschema")
    text = gzip.decompress((Path(folder) / "ray.io_rayclusters.yaml.gz").read_bytes())
    crd = yaml.load(text, yaml.CSafeLoader)
    versions = {v["name"]: v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"]}
    spec = versions["v1"]["properties"]["spec"]["properties"]["workerGroupSpecs"]["items"]
    spec["additionalProperties"] = False
    spec["properties"]["scaleStrategy"]["additionalProperties"] = False
    spec["properties"]["template"] = {"type": "object"}
    checker = jsonschema.Draft4Validator(spec)
    good = group("g") | {"scaleStrategy": {"workersToDelete": ["a"]}}
    deletes = ({"scaleStrategy": {"workersToDelete": [1]}}, {"scaleStrategy": {"x": []}})
    for change in ({}, {"replicas": "1"}, {"surprise": 1}, {"minReplicas": None}, *deletes):
        body = {key: value for key, value in (good | change).items() if value is not None}
        ours = not ray_cluster({"spec": {"workerGroupSpecs": [body]}})
        assert checker.is_valid(body) == ours, change
