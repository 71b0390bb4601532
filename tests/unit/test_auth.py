"""Who sent this: only HMACs are kept, no key is echoed, contradictions refuse to start."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from serving.auth import KeyConflict, digest, directory, identify, new_key
from serving.errors import CallerError
from serving.records import Exposure, LatencyClass, Overflow, Residency, ResidencyLevel
from serving.settings import KeySettings, TenantSettings

PEPPER = b"p" * 32
KEY = b"bl-secret"
ACME = TenantSettings(id="acme", residency="named", jurisdictions=("us", "sg"))


def row(key_id="k1", value=KEY, **changes):
    mark = digest(PEPPER, value).hex()
    return KeySettings(**{"id": key_id, "hmac": mark, "tenant": "acme", **changes})


def callers(*rows):
    return directory(rows or (row(),), (ACME,))


def test_a_new_key_is_made_of_all_its_random_bytes():
    assert new_key(bytes(32)) == "bl-" + "A" * 43
    assert len({new_key(bytes([n]) * 32) for n in range(256)}) == 256
    with pytest.raises(AssertionError):
        new_key(bytes(16))


def test_a_key_is_kept_as_its_hmac_under_the_pepper():
    assert digest(PEPPER, KEY) == hmac.new(PEPPER, KEY, hashlib.sha256).digest()
    assert set(callers()) == {digest(PEPPER, KEY)}


@pytest.mark.parametrize(
    "header",
    [b"Bearer bl-secret", b"bearer bl-secret", b"BEARER  bl-secret ", b"Bearer bl-secret\t"],
)
def test_a_known_key_names_its_caller(header):
    caller = identify(callers(), PEPPER, header)
    assert (caller.key_id, caller.tenant, caller.project) == ("k1", "acme", "default")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"), (b"", "missing_api_key"),
        (b"Bearer", "invalid_api_key"), (b"Bearer ", "invalid_api_key"),
        (b"Bearer   ", "invalid_api_key"), (b"bl-secret", "invalid_api_key"),
        (b"Basic bl-secret", "invalid_api_key"), (b"Bearer bl-secreu", "invalid_api_key"),
        (b"Bearer bl-secret, Bearer x", "invalid_api_key"), (b"Bearer \xff\x00", "invalid_api_key"),
        (b"Bearer bl-secret extra", "invalid_api_key"), (b"Bearer\tbl-secret", "invalid_api_key"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_an_echo(header, code):
    with pytest.raises(CallerError) as caught:
        identify(callers(), PEPPER, header)
    assert caught.value.code == code
    assert "secre" not in caught.value.message


def test_a_revoked_key_is_told_so():
    with pytest.raises(CallerError, match="revoked"):
        identify(callers(row(is_revoked=True)), PEPPER, b"Bearer bl-secret")


def test_another_pepper_knows_nobody():
    with pytest.raises(CallerError):
        identify(callers(), b"q" * 32, b"Bearer bl-secret")


def test_the_policy_joins_the_key_and_its_tenant():
    key = row(
        overflow=Overflow.NEVER, latency_class=LatencyClass.LIVE, exposure=Exposure.NONE,
        models=("a",), is_load_test=True, project="p",
    )  # fmt: skip
    policy = identify(callers(key), PEPPER, b"Bearer bl-secret").policy
    assert policy.residency == Residency(ResidencyLevel.NAMED, frozenset({"us", "sg"}))
    assert (policy.overflow, policy.latency_class) == (Overflow.NEVER, LatencyClass.LIVE)
    assert (policy.exposure, policy.models) == (Exposure.NONE, frozenset({"a"}))
    assert policy.is_load_test


def test_a_tenant_without_a_label_stays_on_the_premises():
    found = directory((row(),), (TenantSettings(id="acme"),))
    assert identify(found, PEPPER, b"Bearer bl-secret").policy.residency == Residency()


@pytest.mark.parametrize(
    ("keys", "tenants", "words"),
    [
        ([row(tenant="nobody")], [ACME], "'nobody', which is not configured"),
        ([row("k1"), row("k2")], [ACME], "'k2' has the same value"),
        ([row("k1"), row("k1", b"other")], [ACME], "'k1' is given twice"),
        ([row()], [ACME, TenantSettings(id="acme", residency="anywhere")], "'acme' is given twice"),
    ],
    ids=["unknown tenant", "same value", "same id", "same tenant"],
)
def test_contradictions_are_named_and_not_guessed_at(keys, tenants, words):
    with pytest.raises(KeyConflict, match=words) as caught:
        directory(keys, tenants)
    assert digest(PEPPER, KEY).hex() not in str(caught.value)
