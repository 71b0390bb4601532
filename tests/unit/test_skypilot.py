"""The SkyPilot provider against a fake that does what the real package was seen to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from autoscale.machines import Create, Kind, Machine, ProviderError, Tags, ours
from autoscale.providers.skypilot import CALLS_MAX, SkyPilot, Wanted
from autoscale.providers.skypilot_rule import Asked, Seen, kind_of, machines, named
from serving.fakes.sky import FakeSky, Resources, ResourcesUnavailableError, Task, row

TAGS = Tags("d", "m", "od")
OFFER = "Lambda/us-east-1/gpu_1x_h100_pcie"
TOKEN = f"{ours(TAGS)}17-1"
T = TypeVar("T")


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


def pool(
    sky: FakeSky, *, is_spot: bool = False, place: str = "", task: str = "task.yaml"
) -> SkyPilot:
    return SkyPilot(lambda: sky, Wanted(Path(task), "H100:1", is_spot, place))


def run(work: Awaitable[T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


def create(provider: SkyPilot, token: str = TOKEN, limit_s: float = 5.0) -> Machine:
    return run(provider.create(Create(token, TAGS, OFFER, 3_000_000), limit_s))


def states(provider: SkyPilot) -> list[str]:
    return [one.state for one in run(provider.list(TAGS, 5.0))]


def test_prices_are_those_of_the_clouds_that_are_enabled(sky: FakeSky) -> None:
    (offer,) = run(pool(sky).offers(TAGS, "", 5.0))
    assert (offer.id, offer.hour_micro) == (OFFER, 2_490_000)
    (spot,) = run(pool(sky, is_spot=True).offers(TAGS, "", 5.0))
    assert spot.hour_micro == 1_250_000
    sky.prices = [row("us-east-1", 2.49)]  # no price as spot: NaN
    assert run(pool(sky, is_spot=True).offers(TAGS, "", 5.0)) == ()
    sky.enabled = []
    with pytest.raises(ProviderError, match="no cloud is enabled") as raised:
        run(pool(sky).offers(TAGS, "", 5.0))
    assert raised.value.kind == "refused"


def test_a_task_keeps_to_its_places_and_a_jurisdiction_asks_for_them(sky: FakeSky) -> None:
    sky.prices = [row("us-east-1", 2.0), row("europe-central-1", 3.0)]
    with pytest.raises(ProviderError, match=r"name the region.*must stay in de"):
        run(pool(sky, place="de").offers(TAGS, "", 5.0))
    sky.task = Task({Resources("lambda/europe-central-1")})
    (offer,) = run(pool(sky, place="de").offers(TAGS, "", 5.0))
    assert offer.hour_micro == 3_000_000


def test_a_launch_is_pinned_to_the_offer_and_keeps_the_rest_of_its_task(sky: FakeSky) -> None:
    sky.task = Task({Resources(disk_size=300, labels={"team": "x"})})
    create(pool(sky))
    ((name, task),) = sky.launched
    (wanted,) = task.resources
    assert name == TOKEN
    assert (wanted.infra, wanted.instance_type) == ("Lambda/us-east-1", "gpu_1x_h100_pcie")
    assert wanted.disk_size == 300
    assert wanted.labels == {"team": "x", "ballast": ours(TAGS).strip("-")}


def test_a_machine_is_seen_from_its_order_to_its_end(sky: FakeSky) -> None:
    provider = pool(sky)
    assert create(provider).state == "creating"
    assert states(provider) == ["creating"]  # the optimizer still chooses: no row yet
    create(provider)
    sky.choose(TOKEN)
    assert states(pool(sky)) == ["creating"]  # another life of the controller
    create(pool(sky))
    sky.finish(TOKEN)
    (machine,) = run(provider.list(TAGS, 5.0))
    assert (machine.state, machine.client_token, machine.address, machine.since_ms) == (
        "running", TOKEN, "10.0.0.2", 1_800_000_000_000,
    )  # fmt: skip
    create(provider)
    assert len(sky.launched) == 1  # a second launch would run the task a second time
    run(provider.terminate(machine.id, 1, 5.0))
    assert states(provider) == []
    run(provider.terminate(machine.id, 1, 5.0))  # gone already: no error
    run(provider.terminate(machine.id, 1, 5.0))


def test_a_launch_that_failed_is_told_with_its_reason_on_one_line(sky: FakeSky) -> None:
    provider = pool(sky)
    create(provider)
    sky.choose(TOKEN)
    error = ResourcesUnavailableError("\x1b[31mFailed to provision.\x1b[0m\n\n✗ us-east-1" * 40)
    sky.finish(TOKEN, error)
    (machine,) = run(provider.list(TAGS, 5.0))
    assert machine.state == "ended"
    assert machine.why.startswith("SkyPilot: ResourcesUnavailableError: Failed to provision. ✗ us")
    assert len(machine.why) == 300


def test_a_server_out_of_reach_leaves_what_came_of_a_launch_open(sky: FakeSky) -> None:
    provider = pool(sky)
    create(provider)
    sky.choose(TOKEN)
    sky.finish(TOKEN)
    requests = [one for one in sky.requests if one.name == "sky.launch"]
    requests[0].error = ConnectionResetError("by peer")
    assert states(provider) == ["running"]
    requests[0].error = ResourcesUnavailableError("none")
    del sky.rows[TOKEN]
    assert states(provider) == ["ended"]


def test_an_end_before_there_is_a_cluster_cancels_its_launch(sky: FakeSky) -> None:
    provider = pool(sky)
    create(provider)
    run(provider.terminate(TOKEN, 1, 5.0))
    assert sky.api_status() == []
    assert states(provider) == ["ended"]


def test_an_end_that_failed_is_asked_again_and_told(sky: FakeSky) -> None:
    provider = pool(sky)
    create(provider)
    sky.choose(TOKEN)
    sky.finish(TOKEN)
    kept = sky.rows[TOKEN]
    run(provider.terminate(TOKEN, 1, 5.0))
    sky.requests[-1].error, sky.rows[TOKEN] = RuntimeError("no credentials"), kept
    with pytest.raises(ProviderError, match="no credentials"):
        run(provider.terminate(TOKEN, 1, 5.0))
    assert [one.name for one in sky.requests].count("sky.down") == 2
    sky.requests[-1].status = "RUNNING"
    run(provider.terminate(TOKEN, 1, 5.0))  # under way: not asked a third time
    assert [one.name for one in sky.requests].count("sky.down") == 2


@pytest.mark.parametrize(
    ("status", "is_up", "asked", "is_unwell", "state"),
    [("INIT", False, "sky.launch", False, "creating"), ("INIT", True, "", False, "running"),
     ("INIT", False, "", False, "creating"), ("INIT", True, "", True, "failed"),
     ("UP", True, "sky.down", False, "ending"), ("STOPPED", True, "", False, "failed"),
     ("AUTOSTOPPING", True, "", False, "ending"), ("PENDING", False, "", False, "creating")],
)  # fmt: skip
def test_states_are_read_with_what_is_under_way(
    status: str, is_up: bool, asked: str, is_unwell: bool, state: str
) -> None:
    found = {"name": TOKEN, "status": SimpleNamespace(name=status), "launched_at": 1,
             "cluster_ever_up": is_up, "handle": None}  # fmt: skip
    unwell = frozenset({TOKEN} if is_unwell else ())
    seen = Seen([found], [Asked(TOKEN, asked)], {}, unwell)
    (machine,) = machines(seen, TAGS)
    assert machine.state == state


def test_clusters_of_others_are_not_listed(sky: FakeSky) -> None:
    for name in ("d-od-mine", f"{ours(TAGS)}x", named(f"{ours(Tags('d', 'other', 'od'))}17-1")):
        sky.choose(name)
    assert states(pool(sky)) == []


def test_clusters_named_before_names_held_a_digest_keep_their_tokens(sky: FakeSky) -> None:
    tags = Tags("D.x", "m", "od_1")
    found = {"name": "d-x-od-1-17-4", "status": SimpleNamespace(name="UP"), "launched_at": 1,
             "cluster_ever_up": True, "handle": None}  # fmt: skip
    (machine,) = machines(Seen([found], [], {}, frozenset()), tags)
    assert (machine.client_token, machine.state) == ("D.x-od_1-17-4", "running")


def test_ends_of_clusters_that_are_gone_are_forgotten(sky: FakeSky) -> None:
    provider = pool(sky)
    create(provider)
    run(provider.terminate(TOKEN, 17, 5.0))
    assert TOKEN in provider._ends
    sky.rows.clear()
    sky.requests.clear()
    states(provider)
    assert provider._ends == {}


def test_a_name_begins_with_a_letter_whatever_the_deployment_is_called() -> None:
    assert named("9D.x-od_1-ab12-17-1") == "b9d-x-od-1-ab12-17-1"


@pytest.mark.parametrize(
    ("task", "nodes", "words"),
    [("none.yaml", 1, "No such file"), ("task.yaml", 2, "num_nodes must be 1")],
)
def test_a_task_that_is_none_is_refused_before_anything_is_sent(
    sky: FakeSky, task: str, nodes: int, words: str
) -> None:
    sky.task = Task({Resources()}, nodes)
    with pytest.raises(ProviderError, match=words) as raised:
        create(pool(sky, task=task))
    assert raised.value.kind == "refused"
    assert sky.launched == []


def _named(name: str, parent: type[Exception] = Exception) -> Exception:
    return type(name, (parent,), {})("words")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(_named("ResourcesUnavailableError"), "short"), (_named("NoCloudAccessError"), "refused"),
     (_named("KubeAPIUnreachableError", ResourcesUnavailableError), "short"),
     (_named("APIVersionMismatchError", RuntimeError), "refused"),
     (_named("ServerTemporarilyUnavailableError"), "busy"), (ConnectionError("c"), "away"),
     (_named("JSONDecodeError", ValueError), "away"), (SystemExit(1), "away")],
)  # fmt: skip
def test_errors_are_known_by_their_names(error: BaseException, kind: Kind) -> None:
    assert kind_of(error) == kind


def _that(raises: BaseException) -> Callable[[str], None]:
    def before(name: str) -> None:
        raise raises

    return before


def test_a_library_that_exits_ends_no_controller(sky: FakeSky) -> None:
    sky.before = _that(SystemExit(3))
    with pytest.raises(ProviderError, match="SystemExit") as raised:
        states(pool(sky))
    assert raised.value.kind == "away"


def test_calls_without_an_answer_are_few_and_hold_up_nothing(sky: FakeSky) -> None:
    answer = threading.Event()
    sky.before = lambda _name: answer.wait(20)
    provider = pool(sky)
    for _ in range(CALLS_MAX):
        with pytest.raises(ProviderError, match="no answer within"):
            create(provider, limit_s=0.01)
    with pytest.raises(ProviderError, match="earlier calls wait for answers"):
        states(provider)
    sky.before = str
    left = [one for one in threading.enumerate() if one.name == "SkyPilot"]
    assert all(one.daemon for one in left)
    answer.set()
    for one in left:
        one.join(20)
    assert sky.launched == []  # too late: the lease may be another's by now
    assert states(provider) == []
