"""A forwarder speaks for its own customers, under their names, and never for anybody else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.auth import digest
from serving.batch.callers import caller_of
from serving.batch.values import Batch
from serving.errors import CallerError
from serving.forwarded import (
    FEATURE,
    PROJECT,
    TENANT,
    USER,
    USER_BYTES_MAX,
    CustomerTerms,
    named,
    on_behalf,
)
from serving.keys import Keys
from serving.records import Caller, Overflow, Policy, Residency, ResidencyLevel
from serving.settings import Settings

ANYWHERE = Policy(Residency(ResidencyLevel.ANYWHERE), is_forwarder=True)
GATEWAY = Caller("k", "gw", "default", ANYWHERE, "chat")
PEPPER = b"p" * 32


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a b",
        b"acme/x",
        b"../x",
        b"a\nb",
        b"\xe9",
        "\u0430cme".encode(),
        b"-a",
        b"x" * 65,
        b"a,b",
    ],
    ids=repr,
)
@pytest.mark.parametrize("header", [TENANT, PROJECT, FEATURE])
def test_what_is_no_name_is_refused_without_an_echo(header, value):
    with pytest.raises(CallerError) as caught:
        named({header: value})
    assert caught.value.code == "invalid_value"
    assert header.decode() in caught.value.message
    if len(value) > 1:
        assert value.decode("latin-1") not in caught.value.message


@given(st.binary(max_size=80))
def test_a_customer_s_name_never_leaves_its_forwarder(value):
    try:
        said = named({TENANT: value})
    except CallerError:
        return
    caller = on_behalf(GATEWAY, said, "", CustomerTerms())
    assert caller.tenant == f"gw/{value.decode('ascii')}"


def test_a_user_may_be_anything_but_long():
    assert named({USER: b"\xff\x00 %"}).user == b"\xff\x00 %"
    with pytest.raises(CallerError, match="exceeds"):
        named({USER: b"u" * (USER_BYTES_MAX + 1)})


def test_what_is_not_said_is_the_key_s():
    assert on_behalf(GATEWAY, named({}), "", CustomerTerms()) == GATEWAY
    caller = on_behalf(GATEWAY, named({PROJECT: b"prod", FEATURE: b"quiz"}), "h", CustomerTerms())
    assert (caller.tenant, caller.project, caller.feature, caller.user) == (
        "gw", "prod", "quiz", "h",
    )  # fmt: skip


def test_a_customer_s_rule_tightens_and_never_loosens():
    home, wide = Residency(ResidencyLevel.PREMISES), Residency(ResidencyLevel.ANYWHERE)
    said = named({TENANT: b"acme"})
    assert on_behalf(GATEWAY, said, "", CustomerTerms(home)).policy.residency == home
    narrow = Caller("k", "gw", "p", Policy(home, is_forwarder=True))
    assert on_behalf(narrow, said, "", CustomerTerms(wide)).policy.residency == home


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "pepper").write_bytes(PEPPER)
    row = {"id": "k", "tenant": "gw", "hmac": digest(PEPPER, b"one").hex(), "is_forwarder": True}
    tree = {
        "state_dir": tmp_path, "keys": [row], "gateway": {"forwarded_tenants_max": 2},
        "tenants": [{"id": "gw", "residency": "anywhere"}, {"id": "gw/home"}],
    }  # fmt: skip
    return Keys(Settings.model_validate(tree))


def test_a_forwarder_does_not_overflow_unless_told(keys):
    assert keys.identify(b"Bearer one").policy.overflow is Overflow.NEVER


def test_a_batch_s_lines_name_no_new_customer_and_are_run_however_many_were_named(keys):
    gateway = keys.identify(b"Bearer one")
    for name in (b"a", b"b"):
        keys.on_behalf(gateway, {TENANT: name})
    with pytest.raises(CallerError, match="may name no more"):
        keys.on_behalf(gateway, {TENANT: b"c"})
    batch = Batch("b", "gw/c", "k", "/v1/embeddings", "f", "1h", 1, 2)
    batch = msgspec.structs.replace(batch, headers={TENANT.decode(): "c"})
    caller = caller_of(keys, batch)
    assert caller is not None
    assert caller.tenant == "gw/c"


def test_users_are_known_again_only_within_their_customer(keys):
    gateway = keys.identify(b"Bearer one")

    def user(tenant, name):
        return keys.on_behalf(gateway, {TENANT: tenant, USER: name}).user

    assert user(b"a", b"ann") == user(b"a", b"ann") != user(b"a", b"bob")
    assert user(b"a", b"ann") != user(b"b", b"ann")
    assert len(user(b"a", b"ann")) == 32
    assert "ann" not in user(b"a", b"ann")


def test_a_configured_customer_s_residency_counts(keys):
    gateway = keys.identify(b"Bearer one")
    assert keys.on_behalf(gateway, {TENANT: b"home"}).policy.residency == Residency()
    assert keys.on_behalf(gateway, {TENANT: b"other"}).policy.residency.level == 3


def test_a_suspended_customer_is_not_let_in(tmp_path):
    (tmp_path / "pepper").write_bytes(PEPPER)
    row = {"id": "k", "tenant": "gw", "hmac": digest(PEPPER, b"one").hex(), "is_forwarder": True}
    tree = {
        "state_dir": tmp_path, "keys": [row],
        "tenants": [{"id": "gw"}, {"id": "gw/late", "is_suspended": True}],
    }  # fmt: skip
    found = Keys(Settings.model_validate(tree))
    gateway = found.identify(b"Bearer one")
    with pytest.raises(CallerError, match="suspended"):
        found.on_behalf(gateway, {TENANT: b"late"})
    assert found.on_behalf(gateway, {TENANT: b"other"}).tenant == "gw/other"


def test_a_customer_with_a_row_of_its_own_counts_against_no_bound(keys):
    gateway = keys.identify(b"Bearer one")
    for name in (b"a", b"b", b"home", b"home"):
        keys.on_behalf(gateway, {TENANT: name})


def test_the_customers_of_a_key_are_bounded(keys):
    gateway = keys.identify(b"Bearer one")
    for name in (b"a", b"b", b"a"):
        keys.on_behalf(gateway, {TENANT: name})
    with pytest.raises(CallerError) as caught:
        keys.on_behalf(gateway, {TENANT: b"c"})
    assert caught.value.code == "header_not_allowed"
    assert keys.on_behalf(gateway, {TENANT: b"b"}).tenant == "gw/b"
