"""Discovery: lists of addresses, read strictly, with nothing kept in between."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from serving.discovery import Address, Listing, ServeSource, StaticSource, listing
from serving.records import DataLabel
from serving.settings import SettingsError
from serving.settings_engines import StaticReplica


def static(url):
    source = StaticSource((StaticReplica(model="m", url=url, limit=3),))
    return asyncio.run(source.poll(None)).addresses


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("http://h", "h", 80, ""), ("http://h:90/", "h", 90, ""),
        ("http://10.0.0.1:90/m/x/", "10.0.0.1", 90, "/m/x"), ("http://[::1]:90", "::1", 90, ""),
    ],
)  # fmt: skip
def test_a_static_address_is_taken_apart(url, host, port, prefix):
    assert static(url) == (Address("m", host, port, prefix, 3),)


def test_a_port_that_cannot_be_is_a_settings_error():
    with pytest.raises(SettingsError, match=r"fleet\.static"):
        static("http://h:99999")


def test_an_address_has_a_stable_name():
    assert Address("m", "h", 1, "/p", 9).id == "m@h:1"


def group(**changes):
    target = {"ip": "10.0.0.1", "port": 8000}
    return {"route_prefix": "/m/qwen", "protocol": "HTTP", "targets": [target], **changes}


def app(status, prefix="/m/qwen"):
    return {"route_prefix": prefix, "status": status}


def test_serve_s_targets_become_addresses():
    found = listing({"target_groups": [group(), group(route_prefix="/m/glm", targets=[])]}, 7)
    assert found.addresses == (Address("qwen", "10.0.0.1", 8000, "/m/qwen", 7),)


@pytest.mark.parametrize("other", [group(protocol="gRPC"), group(route_prefix="/other")])
def test_groups_that_are_not_ours_are_passed_over(other):
    assert listing({"target_groups": [other]}, 7).addresses == ()


@pytest.mark.parametrize(
    ("status", "loading", "failed"),
    [
        ("DEPLOYING", {"qwen"}, set()), ("NOT_STARTED", {"qwen"}, set()),
        ("DEPLOY_FAILED", set(), {"qwen"}), ("RUNNING", set(), set()), ("DELETING", set(), set()),
    ],
)  # fmt: skip
def test_an_application_s_status_says_what_is_coming(status, loading, failed):
    found = listing({"applications": {"a": app(status), "b": app(status, "/x")}}, 7)
    assert (found.loading, found.failed) == (loading, failed)


FAILED = """A replica failed to start with exception. Retrying 2 more time(s). Error:
Traceback (most recent call last):
serving.engine.readiness.NotReadyError: qwen is not ready: smoke probe: 'x' is not 'contains:y'
"""


def test_the_reason_of_a_failed_start_is_read_from_the_deployment():
    broken = app("DEPLOYING") | {"deployments": {"EngineReplica": {"message": FAILED}}}
    found = listing({"applications": {"a": broken, "b": app("RUNNING", "/m/other")}}, 7)
    assert found.troubles == {
        "qwen": "NotReadyError: qwen is not ready: smoke probe: 'x' is not 'contains:y'"
    }


@pytest.mark.parametrize(("wanted", "asleep"), [(0, {"qwen"}), (1, set())])
def test_a_model_that_is_asked_for_no_replica_is_asleep(wanted, asleep):
    resting = app("RUNNING") | {"deployments": {"EngineReplica": {"target_num_replicas": wanted}}}
    assert listing({"applications": {"a": resting}}, 7).asleep == asleep


@pytest.mark.parametrize("data", [{}, {"applications": None, "target_groups": None}])
def test_no_applications_are_no_addresses(data):
    assert listing(data, 7) == Listing((), frozenset(), frozenset())


CHANGED = {
    "a list": [],
    "application a text": {"applications": {"a": "x"}},
    "no status": {"applications": {"a": {"route_prefix": "/m/x"}}},
    "no targets": {"target_groups": [{"route_prefix": "/m/x"}]},
    "null prefix": {"target_groups": [group(route_prefix=None)]},
    "no port": {"target_groups": [group(targets=[{"ip": "x"}])]},
    "port a text": {"target_groups": [group(targets=[{"ip": "x", "port": "http"}])]},
    "target a number": {"target_groups": [group(targets=[5])]},
}


@pytest.mark.parametrize("data", CHANGED.values(), ids=CHANGED)
def test_an_answer_of_another_form_is_a_value_error(data):
    with pytest.raises(ValueError):
        listing(data, 7)


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["a", "route_prefix", "status", "targets", "ip", "port"]), inner),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["applications", "target_groups"]), json_values))
def test_no_answer_raises_anything_but_a_value_error(data):
    try:
        assert isinstance(listing(data, 7), Listing)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


@asynccontextmanager
async def dashboard(status, seen):
    async def answer(request):
        seen.append(request.headers.get("authorization"))
        return web.json_response({"target_groups": [group()]}, status=status)

    application = web.Application()
    application.router.add_get("/api/serve/applications/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def ask(status=200, token=None):
    async def run():
        seen = []
        async with dashboard(status, seen) as url, aiohttp.ClientSession() as session:
            return await ServeSource(url, token, 7).poll(session), seen

    return asyncio.run(run())


def test_ray_is_asked_with_the_cluster_s_token(tmp_path):
    token = tmp_path / "token"
    assert ask(token=token)[1] == [None], "the file is not there yet"
    token.write_text("secret\n")
    found, seen = ask(token=token)
    assert seen == ["Bearer secret"]
    assert found.addresses[0].id == "qwen@10.0.0.1:8000"


def test_ray_saying_no_is_a_value_error():
    with pytest.raises(ValueError, match="403"):
        ask(status=403)


def test_serve_s_own_proxy_is_no_engine():
    replica = {"ip": "10.0.0.1", "port": 30000, "name": "SERVE_REPLICA::qwen#EngineReplica#a"}
    proxy = {"ip": "10.0.0.1", "port": 8000, "name": "SERVE_PROXY_ACTOR-1"}
    found = listing({"target_groups": [group(targets=[replica, proxy])]}, 16)
    assert [address.port for address in found.addresses] == [30000]


def test_an_engine_elsewhere_has_the_label_of_where_it_stands():
    pool = {"jurisdiction": "us", "operator": "runpod", "on_premises": False}
    rows = [{"model": "m", "url": "http://h:1", "pool": pool}, {"model": "m", "url": "http://h:2"}]
    source = StaticSource(tuple(map(StaticReplica.model_validate, rows)))
    far, near = asyncio.run(source.poll(None)).addresses
    assert far.label == DataLabel("us", "runpod", on_premises=False)
    assert near.label is None
