"""Who sent this: only HMACs are kept, no key is echoed, contradictions refuse to start."""

from __future__ import annotations

import ast
import hashlib
import hmac
import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving import auth
from serving.auth import NEVER, KeyConflict, digest, identify, new_key
from serving.auth import callers as callers_at
from serving.errors import CallerError
from serving.records import Exposure, LatencyClass, Overflow, Residency, ResidencyLevel
from serving.settings import KeySettings, TenantSettings

PEPPER = b"p" * 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"bl-secret"
ACME = TenantSettings(id="acme", residency="named", jurisdictions=("us", "sg"))


def row(key_id="k1", value=KEY, **changes):
    mark = digest(PEPPER, value).hex()
    return KeySettings(**{"id": key_id, "hmac": mark, "tenant": "acme", **changes})


def callers(*rows):
    return callers_at(rows or (row(),), (ACME,), NOW).by_digest


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
    found = callers_at((row(),), (TenantSettings(id="acme"),), NOW).by_digest
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
        callers_at(keys, tenants, NOW)
    assert digest(PEPPER, KEY).hex() not in str(caught.value)


def test_an_expired_key_is_refused_from_its_moment_on():
    key = row(expires=NOW)
    for at, is_known in ((NOW - timedelta(seconds=1), True), (NOW, False)):
        found = callers_at((key,), (ACME,), at)
        assert (found.by_digest[digest(PEPPER, KEY)] is not None) == is_known
        assert found.changes_at == (NOW if is_known else NEVER)


def test_after_a_rotation_both_values_are_good_until_the_grace_ends():
    old = digest(PEPPER, b"old").hex()
    until = NOW + timedelta(hours=1)
    key = row(previous_hmac=old, previous_until=until)
    found = callers_at((key,), (ACME,), NOW)
    assert {c.key_id for c in found.by_digest.values() if c} == {"k1"}
    assert found.changes_at == until
    found = callers_at((key,), (ACME,), until)
    assert found.by_digest[digest(PEPPER, b"old")] is None
    assert found.by_digest[digest(PEPPER, KEY)] is not None


def test_a_revoked_key_is_refused_with_both_its_values():
    old = digest(PEPPER, b"old").hex()
    found = callers(row(is_revoked=True, previous_hmac=old, previous_until=NEVER))
    assert set(found.values()) == {None}


def test_no_key_of_a_suspended_tenant_is_known():
    asleep = ACME.model_copy(update={"is_suspended": True})
    found = callers_at((row(),), (asleep,), NOW).by_digest
    with pytest.raises(CallerError, match="suspended"):
        identify(found, PEPPER, b"Bearer bl-secret")


SECRET = re.compile("hmac|secret|ticket|pepper|digest|password|signature|token$")


def test_no_secret_is_compared_by_a_way_that_stops_at_the_first_difference():
    """The time an answer takes must not tell how much of a guess was right. API keys are looked up
    by an HMAC that nobody without the pepper can steer; whatever is compared goes by `is_same`."""
    found = []
    for path in sorted(Path(auth.__file__).parent.rglob("*.py")):
        if "fakes" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = (node.left, *node.comparators)
                names = [getattr(side, "attr", getattr(side, "id", "")) for side in sides]
                if any(SECRET.search(name) for name in names):
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
    assert "compare_digest" in inspect.getsource(auth.is_same)
