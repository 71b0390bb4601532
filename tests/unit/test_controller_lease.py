"""One writer at a time: what a lease allows, on one machine and in a cluster, and when it ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from autoscale.cluster_api import ApiError, ClusterApi
from autoscale.lease import Denied, Fence, FencedError, Granted, Lease, next_token
from autoscale.lease_file import FileLease
from autoscale.lease_kubernetes import KubernetesLease
from serving.fakes.cluster import FakeCluster
from serving.settings import SettingsError

LEASES = "/apis/coordination.k8s.io/v1/namespaces/n/leases"


class Clock:
    """Both clocks of a controller, moved by hand."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s
        self.utc = 1_800_000_000_000

    def s(self) -> float:
        return self.now_s

    def ms(self) -> int:
        return self.utc

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.utc += round(seconds * 1e3)


def ask(lease: Lease) -> Granted | Denied:
    return asyncio.run(lease.ask())


def at(path: Path, clock: Clock) -> FileLease:
    return FileLease(path, 15.0, clock.s, clock.ms)


def test_tokens_grow_even_where_the_earlier_ones_were_lost() -> None:
    assert next_token(7, 3) == 8
    assert next_token(0, 1_800_000_000_000) == 1_800_000_000_000


def test_a_fence_gives_no_more_time_than_the_lease_has() -> None:
    clock = Clock()
    fence = Fence(Granted(3, clock.now_s + 5.0), clock.s)
    assert fence.left_s(10.0) == 5.0
    clock.pass_s(4.0)
    assert fence.left_s(10.0) == 1.0
    clock.pass_s(1.0)
    with pytest.raises(FencedError, match="token 3"):
        fence.left_s(10.0)


def test_the_second_controller_of_a_machine_is_told_who_holds_the_lease(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "lease"
    first, second = at(path, clock), at(path, clock)
    granted = ask(first)
    assert isinstance(granted, Granted)
    assert granted.until_s == clock.now_s + 15.0
    denied = ask(second)
    assert isinstance(denied, Denied)
    assert str(os.getpid()) in denied.reason
    asyncio.run(first.release())
    later = ask(second)
    assert isinstance(later, Granted)
    assert later.token > granted.token


def test_a_dead_process_frees_the_lease_of_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    code = (
        "import asyncio, sys; from pathlib import Path; from autoscale.lease_file import FileLease;"
        "lease = FileLease(Path(sys.argv[1]), 15, lambda: 0.0, lambda: 1);"
        "print(asyncio.run(lease.ask()).token, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:  # fmt: skip
        assert other.stdout is not None
        token = int(other.stdout.readline())
        mine = at(path, Clock())
        assert isinstance(ask(mine), Denied)
        other.kill()
        other.wait(20)
        granted = ask(mine)
        assert isinstance(granted, Granted)
        assert granted.token > token


@pytest.mark.parametrize(
    "harm", [lambda p: p.unlink(), lambda p: p.replace(p.with_name("old")) and p.touch()]
)
def test_a_lease_file_that_was_removed_or_replaced_is_lost(
    tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    path, clock = tmp_path / "lease", Clock()
    mine = at(path, clock)
    assert isinstance(ask(mine), Granted)
    harm(path)
    lost = ask(mine)
    assert isinstance(lost, Denied)
    assert "another controller may hold it" in lost.reason


def test_another_token_in_the_lease_file_ends_ours(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    mine = at(path, Clock())
    ask(mine)
    with path.open("r+b") as file:
        file.write(b'{"token":5,"pid":1,"since_ms":1}'.ljust(256))
    assert isinstance(ask(mine), Denied)


def test_a_lease_file_nobody_may_write_is_no_lease(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    denied = ask(at(blocked / "lease", Clock()))
    assert isinstance(denied, Denied)
    assert str(blocked) in denied.reason


def kubeconfig(folder: Path, port: int, token: str) -> Path:
    """A kubeconfig for a server on loopback."""
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }))  # fmt: skip
    return path


def within(
    folder: Path, work: Callable[[FakeCluster, ClusterApi], Awaitable[None]], token: str = ""
) -> None:
    """Run `work` against a fake cluster."""

    async def run() -> None:
        cluster = FakeCluster()
        runner = web.AppRunner(cluster.app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = int(runner.addresses[0][1])
        async with ClusterApi(kubeconfig(folder, port, token or cluster.token)) as api:
            await work(cluster, api)
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 30))


def named(api: ClusterApi, holder: str, clock: Clock) -> KubernetesLease:
    return KubernetesLease(api, ("n", "ballast"), holder, 15.0, (clock.s, clock.ms))


def test_one_of_two_controllers_leads_a_cluster_until_it_stops_renewing(tmp_path: Path) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        mine, other = (
            Clock(),
            Clock(9_000.0),
        )  # two hosts share no monotonic clock
        a, b = named(api, "a", mine), named(api, "b", other)
        first = await a.ask()
        assert isinstance(first, Granted)
        assert first.until_s == mine.now_s + 10.0
        for _ in range(10):  # as long as it renews, nobody else begins
            mine.pass_s(5)
            other.pass_s(5)
            again = await a.ask()
            assert isinstance(again, Granted)
            assert again.token == first.token
            assert isinstance(await b.ask(), Denied)
        other.pass_s(15.0)
        assert isinstance(await b.ask(), Denied)  # not longer than its length yet
        other.pass_s(0.5)
        taken = await b.ask()
        assert isinstance(taken, Granted)
        assert taken.token > first.token
        assert isinstance(await a.ask(), Denied)
        lease = cluster.objects[LEASES]["ballast"]
        assert lease["spec"]["holderIdentity"] == "b"
        assert lease["spec"]["leaseTransitions"] == 1

    within(tmp_path, work)


def test_an_api_server_that_is_away_ends_the_lease_before_others_may_begin(tmp_path: Path) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        clock = Clock()
        lease = named(api, "a", clock)
        first = await lease.ask()
        cluster.fail("GET", "/leases", 500, times=3)
        clock.pass_s(5)
        assert await lease.ask() == first
        clock.pass_s(5)
        gone = await lease.ask()
        assert isinstance(gone, Denied)  # ten seconds of fifteen: five before anybody else's
        assert "500" in gone.reason
        clock.pass_s(30)
        cluster.fail("PUT", "/leases", 429, retry="1")
        assert isinstance(await lease.ask(), Denied)
        assert isinstance(await lease.ask(), Denied)
        back = await lease.ask()
        assert isinstance(back, Granted)
        assert isinstance(first, Granted)
        assert back.token > first.token  # it ran out meanwhile: what was sent under it is old

    within(tmp_path, work)


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
def test_a_lease_that_cannot_be_renewed_is_told_and_never_lasts_longer(
    tmp_path: Path, status: int
) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        clock = Clock()
        lease = named(api, "a", clock)
        first = await lease.ask()
        assert isinstance(first, Granted)
        clock.pass_s(5)
        cluster.fail("PUT", "/leases", status, times=2)
        kept = await lease.ask()
        if status == 409:  # somebody else wrote it: the safe reading is that he leads
            assert isinstance(kept, Denied)
            assert "another controller" in kept.reason
        else:
            assert kept == first, "as long as it was granted, not longer"
        clock.pass_s(6)
        gone = await lease.ask()
        assert isinstance(gone, Denied)
        assert str(status) in gone.reason or "another controller" in gone.reason

    within(tmp_path, work)


def test_a_lease_taken_at_the_same_moment_goes_to_one(tmp_path: Path) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        clock = Clock()
        a, b = named(api, "a", clock), named(api, "b", clock)
        grants = await asyncio.gather(a.ask(), b.ask())
        assert sorted(type(g).__name__ for g in grants) == ["Denied", "Granted"]
        clock.pass_s(60)  # both may think it over
        assert isinstance(await named(api, "c", clock).ask(), Denied)

    within(tmp_path, work)


def test_a_released_lease_is_free_at_once_and_a_deleted_one_keeps_its_order(
    tmp_path: Path,
) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        clock = Clock()
        a, b = named(api, "a", clock), named(api, "b", clock)
        first = await a.ask()
        assert isinstance(await b.ask(), Denied)
        await a.release()
        second = await b.ask()
        cluster.remove(f"{LEASES}/ballast")
        clock.pass_s(1)
        third = await a.ask()
        tokens = [g.token for g in (first, second, third) if isinstance(g, Granted)]
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 3

    within(tmp_path, work)


def test_the_strict_server_refuses_what_a_lenient_one_would_take(tmp_path: Path) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        await named(api, "a", Clock()).ask()
        path = f"{LEASES}/ballast"
        old = await api.get(path, 3.0)
        statuses = []
        for body in ({"metadata": {"name": "ballast"}}, old, old):
            try:
                await api.replace(path, body, 3.0)
            except ApiError as error:
                statuses.append(error.status)
        assert statuses == [422, 409]
        with pytest.raises(ApiError, match="422"):
            await api.merge(path, [{"op": "replace"}], 3.0)  # type: ignore[arg-type]

    within(tmp_path, work)


def test_a_token_the_cluster_does_not_know_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    async def work(cluster: FakeCluster, api: ClusterApi) -> None:
        denied = await named(api, "a", Clock()).ask()
        assert isinstance(denied, Denied)
        assert "401" in denied.reason

    within(tmp_path, work, token="wrong")


def test_outside_a_cluster_a_service_account_is_refused_by_name() -> None:
    async def enter() -> None:
        async with ClusterApi():
            pass

    with pytest.raises(SettingsError, match=r"controller\.acting\.cluster"):
        asyncio.run(enter())
