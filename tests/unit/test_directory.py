"""The directory's rules, its history's chain, and who may change what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.directory import commands, removals
from serving.directory.base import decode_event, encode_event
from serving.directory.chain import BREAKS_MAX, GENESIS, Entry, Examination, breaks, link
from serving.directory.changes import By, Change
from serving.directory.newer import OLDER, kept
from serving.directory.roles import RIGHTS, Right, allowed, allows, may
from serving.directory.values import (
    MODELS,
    Directory,
    DirectoryFault,
    Document,
    build,
    document,
    names,
    over,
)
from serving.errors import CallerError
from serving.records import Role
from serving.rollout import commands as rollouts
from serving.rollout.values import Rollout

HMAC, OTHER = "a" * 64, "b" * 64
BY = By("owner", 1_700_000_000_000, "because")


def after(directory: Directory, change: Change) -> Directory:
    """The state with a change in it, as a store would give it back."""
    kinds = {"tenant": "tenants", "project": "projects", "key": "keys",
             "administrator": "administrators", "switch": "switches"}  # fmt: skip
    rows = {
        (kind, id_): Document(kind, id_, row.model_dump_json(exclude_none=True).encode())
        for kind, field in kinds.items()
        for id_, row in getattr(directory, field).items()
    }
    rows |= {(d.kind, d.id): d for d in change.documents}
    return build(directory.version + 1, list(rows.values()))


@pytest.fixture
def acme() -> Directory:
    """A tenant, a project and a key."""
    found = Directory()
    found = after(found, commands.create_tenant(found, {"id": "acme", "residency": "mainland"}, BY))
    found = after(found, commands.create_project(found, {"tenant": "acme", "name": "quiz"}, BY))
    row = {"id": "k", "tenant": "acme", "project": "quiz", "hmac": HMAC}
    return after(found, commands.create_key(found, row, BY))


def test_rows_come_back_as_they_were_put(acme):
    assert names(acme) == ["key:k", "project:acme:quiz", "tenant:acme"]
    assert acme.tenants["acme"].residency == "mainland"
    assert acme.keys["k"].hmac == HMAC
    assert acme.version == 3


def refused(call, *args) -> CallerError:
    with pytest.raises(CallerError) as caught:
        call(*args)
    return caught.value


def test_a_tenant_must_say_its_residency(acme):
    assert refused(commands.create_tenant, acme, {"id": "x"}, BY).param == "residency"


@pytest.mark.parametrize("id_", ["acme", "ACME", "Acme"])
def test_no_two_tenants_have_one_name_or_names_that_look_alike(acme, id_):
    row = {"id": id_, "residency": "mainland"}
    assert refused(commands.create_tenant, acme, row, BY).code == "conflict"


@pytest.mark.parametrize(
    ("one", "other"), [("bill", "biIl"), ("bill", "bi1l"), ("shop0", "shopO"), ("shop0", "Shopo")]
)
def test_a_name_that_a_reader_takes_for_another_s_is_refused(one, other):
    row = {"id": one, "residency": "premises"}
    found = after(Directory(), commands.create_tenant(Directory(), row, BY))
    error = refused(commands.create_tenant, found, row | {"id": other}, BY)
    assert (error.code, one in error.message) == ("conflict", True)
    commands.create_tenant(found, row | {"id": "ball"}, BY)


@pytest.mark.parametrize(
    "id_",
    ["", "a b", "../x", "a/b/c", "\u0430cme", "\u0430\u0441me", "acm\u0435", "acme\u200b",
     "\uff41cme", "acme\u202e", "a\x00", "a\n", "x" * 65, "x" * 10**6, "a'; DROP TABLE keys;--"],
)  # fmt: skip
def test_what_is_no_name_is_no_tenant(acme, id_):
    row = {"id": id_, "residency": "mainland"}
    assert refused(commands.create_tenant, acme, row, BY).code == "invalid_value"


def test_a_customer_needs_its_forwarder(acme):
    row = {"id": "acme/shop", "residency": "premises"}
    assert commands.create_tenant(acme, row, BY).documents[0].id == "acme/shop"
    row = {"id": "ghost/shop", "residency": "premises"}
    assert "ghost" in refused(commands.create_tenant, acme, row, BY).message


def test_a_key_needs_its_tenant_and_project(acme):
    for row in ({"tenant": "ghost"}, {"tenant": "acme", "project": "ghost"}):
        key = {"id": "n", "hmac": OTHER, **row}
        assert refused(commands.create_key, acme, key, BY).code == "not_found"


@pytest.mark.parametrize(
    "name", ["hmac", "tenant", "project", "is_revoked", "previous_hmac", "previous_until", "id"]
)
def test_a_change_never_touches_a_key_s_value_or_owner(acme, name):
    assert refused(commands.change_key, acme, "k", {name: "x"}, BY).code == "invalid_value"


def test_a_change_is_validated_like_a_new_row(acme):
    error = refused(commands.change_key, acme, "k", {"latency_class": "fast"}, BY)
    assert error.param == "latency_class"
    changed = after(acme, commands.change_key(acme, "k", {"latency_class": "live"}, BY))
    assert changed.keys["k"].latency_class == "live"


def test_an_expiry_and_an_allow_list_can_be_taken_away_again(acme):
    changes = {"models": ["m"], "expires": "2030-01-01T00:00:00Z"}
    bound = after(acme, commands.change_key(acme, "k", changes, BY))
    assert (bound.keys["k"].models, bound.keys["k"].expires.year) == (("m",), 2030)
    free = after(bound, commands.change_key(bound, "k", {"models": None, "expires": None}, BY))
    assert (free.keys["k"].models, free.keys["k"].expires) == (None, None)


@pytest.mark.parametrize("why", ["a\nb", "a\r", "\x1b[2J", "\u202egood", "\u2028", "\x00", "\x85"])
def test_a_reason_keeps_to_one_line(acme, why):
    """Else it could pass for another line of a log or a screen."""
    by = BY._replace(why=why)
    for command, *values in (
        (commands.revoke_key, "k"), (commands.throw_switch, "all", ""),
        (commands.create_tenant, {"id": "x", "residency": "premises"}),
        (commands.change_tenant, "acme", {"is_suspended": True}),
        (commands.create_project, {"tenant": "acme", "name": "x", "owner": why}),
    ):  # fmt: skip
        error = refused(command, acme, *values, by)
        assert error.code == "invalid_value"
        assert why not in error.message


def test_the_last_administrator_of_all_stays(acme):
    boss = {"id": "boss", "role": "admin", "hmac": HMAC}
    found = after(acme, commands.create_administrator(acme, boss, BY))
    for other in ({"role": "operator"}, {"role": "admin", "tenants": ["acme"]}):
        row = boss | {"id": "b", "hmac": OTHER} | other
        with_other = after(found, commands.create_administrator(found, row, BY))
        error = refused(commands.remove_administrator, with_other, "boss", BY)
        assert error.code == "conflict"
    row = boss | {"id": "second", "hmac": OTHER}
    both = after(found, commands.create_administrator(found, row, BY))
    assert set(after(both, commands.remove_administrator(both, "boss", BY)).administrators) == {
        "second"
    }


def test_an_administrator_s_tenants_are_there(acme):
    row = {"id": "b", "role": "admin", "hmac": HMAC, "tenants": ["acme", "ghost"]}
    assert "ghost" in refused(commands.create_administrator, acme, row, BY).message


def test_a_rotation_keeps_the_old_value_for_its_grace(acme):
    changed = after(acme, commands.rotate_key(acme, "k", OTHER, 60, BY))
    key = changed.keys["k"]
    assert (key.hmac, key.previous_hmac) == (OTHER, HMAC)
    assert key.previous_until.timestamp() == BY.at_ms / 1e3 + 60
    for grace in (-1, commands.GRACE_S_MAX + 1):
        assert refused(commands.rotate_key, acme, "k", OTHER, grace, BY).param == "grace_s"


def test_a_revoked_key_is_for_ever(acme):
    gone = after(acme, commands.revoke_key(acme, "k", BY))
    assert gone.keys["k"].is_revoked
    assert refused(commands.rotate_key, gone, "k", OTHER, 60, BY).code == "conflict"
    row = {"id": "k", "tenant": "acme", "hmac": OTHER}
    assert refused(commands.create_key, gone, row, BY).code == "conflict"


def test_a_switch_says_who_and_why_and_is_thrown_once(acme):
    assert refused(commands.throw_switch, acme, "all", "", BY._replace(why=" ")).param == "why"
    assert refused(commands.throw_switch, acme, "all", "x", BY).param == "value"
    assert refused(commands.throw_switch, acme, "model", "", BY).param == "value"
    thrown = after(acme, commands.throw_switch(acme, "model", "m", BY))
    assert (thrown.switches["model:m"].by, thrown.switches["model:m"].why) == ("owner", "because")
    assert refused(commands.throw_switch, thrown, "model", "m", BY).code == "conflict"
    back = after(thrown, commands.take_back_switch(thrown, "model", "m", BY))
    assert not back.switches
    assert refused(commands.take_back_switch, back, "model", "m", BY).code == "not_found"


def test_no_event_ever_tells_a_key_or_its_hmac(acme):
    changes = [
        commands.create_key(acme, {"id": "n", "tenant": "acme", "hmac": OTHER}, BY),
        commands.rotate_key(acme, "k", OTHER, 60, BY),
        commands.revoke_key(acme, "k", BY),
        commands.create_administrator(acme, {"id": "a", "role": "admin", "hmac": OTHER}, BY),
    ]
    for change in changes:
        told = encode_event(change.event)
        assert HMAC.encode() not in told
        assert OTHER.encode() not in told
        assert decode_event(told) == change.event


def test_settings_stand_beside_what_is_stored(acme):
    row = acme.tenants["acme"].model_copy(update={"id": "settled"})
    both = over(Directory(tenants={"settled": row}), acme)
    assert set(both.tenants) == {"acme", "settled"}
    assert both.version == acme.version


def test_a_row_that_cannot_be_read_is_named():
    with pytest.raises(DirectoryFault, match="tenant:x"):
        build(1, [Document("tenant", "x", b"{}")])


@pytest.mark.parametrize("role", Role)
def test_only_the_admin_role_manages(role):
    assert may(role, Right.MANAGE) == (role is Role.ADMIN)
    assert may(role, Right.SEE)


def test_every_role_has_its_rights():
    assert set(RIGHTS) == set(Role)
    assert may(Role.OPERATOR, Right.SWITCH)
    assert not may(Role.AUDITOR, Right.SWITCH)
    assert not may(Role.VIEWER, Right.SEE_HISTORY)


def test_a_right_over_a_tenant_is_one_over_its_customers_and_nobody_else_s():
    some, every = [allowed(Role.ADMIN, ["gw", "acme"])], [allowed(Role.ADMIN)]
    for tenant in ("gw", "gw/shop", "acme"):
        assert allows(some, Right.MANAGE, tenant)
    for tenant in ("gwx", "gw2/shop", "beta", "", None, "/gw"):
        assert not allows(some, Right.MANAGE, tenant)
        assert allows(every, Right.MANAGE, tenant)
    assert not allows([allowed(Role.ADMIN, [])], Right.SEE, "acme")
    assert not allows([allowed(Role.ADMIN, ["gw/shop"])], Right.SEE, "gw")


def test_each_role_keeps_to_its_own_tenants():
    both = [allowed(Role.VIEWER), allowed(Role.OPERATOR, ["acme"])]
    assert allows(both, Right.SWITCH, "acme")
    assert not allows(both, Right.SWITCH, "beta")
    assert not allows(both, Right.SWITCH)


# -- the chain


def chained(data: list[bytes]) -> list[Entry]:
    found, before = [], GENESIS
    for number, piece in enumerate(data, 1):
        before = link(before, number, piece)
        found.append(Entry(number, piece, before))
    return found


PIECES = st.lists(st.binary(max_size=8), min_size=2, max_size=8)


@given(PIECES)
def test_a_whole_chain_holds_and_holds_its_own_head(pieces):
    entries = chained(pieces)
    assert breaks(entries) == []
    assert breaks(entries, (entries[-1].number, entries[-1].hash)) == []


@given(PIECES, st.data())
def test_an_edit_a_deletion_and_another_order_show(pieces, data):
    entries = chained(pieces)
    at = data.draw(st.integers(0, len(entries) - 1))
    edited = list(entries)
    edited[at] = entries[at]._replace(data=entries[at].data + b"!")
    assert breaks(edited)
    if at < len(entries) - 1:
        assert breaks(entries[:at] + entries[at + 1 :])
        swapped = list(entries)
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
        assert breaks(swapped)


@given(PIECES)
def test_a_chain_cut_off_at_its_end_shows_against_a_head_kept_elsewhere(pieces):
    entries = chained(pieces)
    head = (entries[-1].number, entries[-1].hash)
    assert breaks(entries[:-1]) == []
    assert breaks(entries[:-1], head)
    assert breaks(chained([*pieces[:-1], pieces[-1] + b"!"]), head)


@given(PIECES, st.integers(1, 5))
def test_a_chain_read_in_pages_is_judged_like_one_read_whole(pieces, page):
    for entries in (chained(pieces), chained(pieces)[1:], chained(pieces)[:1] * 2):
        examination = Examination()
        for at in range(0, len(entries), page):
            examination.take(entries[at : at + page])
        assert examination.breaks() == breaks(entries)
        assert (examination.number, examination.hash) == (entries[-1].number, entries[-1].hash)


def test_a_chain_written_anew_tells_of_its_first_breaks_only():
    entries = [Entry(number, b"", b"x" * 32) for number in range(1, 1000)]
    assert len(breaks(entries)) == BREAKS_MAX


def test_events_are_small_and_plain(acme):
    change = commands.throw_switch(acme, "tenant", "acme", By("o", 1, "x" * 500))
    assert len(encode_event(change.event)) < 2_000
    assert msgspec.json.decode(encode_event(change.event))["subject"] == "switch:tenant:acme"


def newer(kind: str, id_: str, row: dict, **more: object) -> Document:
    """A row with fields of a version that is not out yet."""
    return Document(kind, id_, msgspec.json.encode(row | more))  # type: ignore[arg-type]


TENANT = {"id": "x", "residency": "anywhere"}
KEY = {"id": "k", "tenant": "x", "hmac": HMAC}


def test_a_newer_row_s_optional_fields_are_ignored_and_bind_nobody():
    row = TENANT | {"allowance": {"requests_per_min": 5, "requests_per_year": 9}, "mood": "good"}
    marked = newer("tenant", "x", row, _optional=["allowance.requests_per_year", "mood"])
    found = build(1, [marked])
    assert found.tenants["x"].allowance.requests_per_min == 5
    assert (found.newer, found.confined) == (frozenset({"tenant:x"}), frozenset())


@pytest.mark.parametrize("document", [
    newer("tenant", "x", TENANT, only_at_night=True),
    newer("key", "k", KEY, only_from="10.0.0.0/8", _optional=["mood"]),
    newer("project", "x:p", {"tenant": "x", "name": "p"}, only_at_night=True),
], ids=["tenant", "key", "project"])  # fmt: skip
def test_a_newer_row_s_other_fields_confine_its_tenant_and_no_other(document):
    others = [newer("tenant", "y", TENANT | {"id": "y"})]
    if document.kind != "tenant":
        others.append(newer("tenant", "x", TENANT))
    found = build(1, [document, *others])
    assert found.confined == {"x"}
    assert found.newer == {f"{document.kind}:{document.id}"}
    assert set(found.tenants) == {"x", "y"}


def test_who_may_do_what_by_rules_unknown_here_may_nothing_here():
    row = {"id": "a", "role": "admin", "hmac": HMAC}
    assert not build(1, [newer("administrator", "a", row, only_at_night=True)]).administrators


def test_a_newer_switch_stops_what_it_names_and_an_unreadable_one_is_a_fault():
    row = {"scope": "model", "value": "m", "why": "it lies", "by": "owner", "at_ms": 1}
    assert build(1, [newer("switch", "model:m", row, until_ms=5)]).switches
    with pytest.raises(DirectoryFault):
        build(1, [newer("switch", "city:bonn", row | {"scope": "city"}, until_ms=5)])
    with pytest.raises(DirectoryFault):
        build(1, [newer("moon", "x", {})])


CHAT = Rollout(id="chat", old="a", new="b", step=1)


def test_a_rollout_s_row_says_that_an_older_reader_may_pass_it_over():
    row = document("rollout", CHAT)
    assert build(1, [row]).rollouts == {"chat": CHAT}
    assert not build(1, [row]).newer
    older = {kind: model for kind, model in MODELS.items() if kind != "rollout"}
    found = build(1, [row, newer("tenant", "x", TENANT)], older)
    assert (set(found.tenants), found.rollouts, found.confined) == ({"x"}, {}, frozenset())
    assert found.newer == {"rollout:chat"}


@pytest.mark.parametrize("stop", [rollouts.pause, rollouts.abort])
def test_stopping_a_newer_rollout_keeps_what_is_not_understood(stop):
    tree = msgspec.json.decode(document("rollout", CHAT).data)
    tree |= {"shadow_percent": 5, "mood": {"is": "good"}, "_optional": ["mood"]}
    tree["checks"]["slow_max"] = 0.1
    found = build(1, [Document("rollout", "chat", msgspec.json.encode(tree))])
    assert found.rollouts == {"chat": CHAT}
    (row,) = stop(found, "chat", BY).documents
    stored = msgspec.json.decode(row.data)
    assert stored["state"] in ("paused", "aborted")
    assert stored["_optional"] == ["mood", "said"]
    changed = {"state", "reason", "said", "_optional"}
    assert {k: v for k, v in stored.items() if k not in changed} == {
        k: v for k, v in tree.items() if k not in changed
    }
    assert build(2, [row]).newer == {"rollout:chat"}


def test_an_unknown_field_of_a_group_that_is_gone_goes_with_it():
    assert kept(b'{"a":1}', {"group.b": 2, "c": 3}) == b'{"a":1,"c":3}'


def test_a_kind_of_a_newer_version_binds_its_tenant_where_it_says_so():
    found = build(1, [newer("moon", "m", {"tenant": "x"}, _older="confine")])
    assert (found.confined, found.newer) == ({"x"}, {"moon:m"})
    assert build(1, [Document("moon", "m", b"")]).newer == frozenset()  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [
    {"tenant": "x"}, {"_older": "confine"}, {"_older": "confine", "tenant": 7},
    {"_older": "Ignore"}, {"_older": ["ignore"]}, [{"_older": "ignore"}],
], ids=["silent", "no tenant", "odd tenant", "another word", "a list", "no object"])  # fmt: skip
def test_a_kind_that_does_not_say_it_may_be_passed_over_is_a_fault(row):
    with pytest.raises(DirectoryFault, match=r"moon:m.*upgrade this gateway"):
        build(1, [Document("moon", "m", msgspec.json.encode(row))])  # type: ignore[arg-type]
    with pytest.raises(DirectoryFault, match="moon:m"):
        build(1, [Document("moon", "m", b"{")])  # type: ignore[arg-type]


def test_every_kind_that_came_after_the_rule_says_what_older_readers_do():
    before = {"tenant", "project", "key", "administrator", "switch", "request", "pepper", "budget"}
    assert set(MODELS) - before == set(OLDER), "stop egress or pass over? see newer.OLDER"


def test_plans_are_written_as_optional_and_only_where_there_are_any(acme):
    change = commands.change_tenant(acme, "acme", {"allowance": {"requests_per_5h": 3}}, BY)
    data = msgspec.json.decode(change.documents[0].data)
    assert data["_optional"] == ["allowance.requests_per_5h"]
    assert build(1, change.documents).tenants["acme"].allowance.requests_per_5h == 3
    assert not build(1, change.documents).newer
    change = commands.change_tenant(acme, "acme", {"allowance": {"concurrent": 3}}, BY)
    assert b"5h" not in change.documents[0].data
    assert b"_optional" not in change.documents[0].data


def test_only_what_cannot_be_missed_is_removed(acme):
    assert refused(removals.remove_key, acme, "k", BY).code == "conflict"
    assert refused(removals.remove_project, acme, "acme:quiz", BY).code == "conflict"
    assert refused(removals.remove_tenant, acme, "acme", BY).code == "conflict"
    found = after(acme, commands.revoke_key(acme, "k", BY))
    change = removals.remove_key(found, "k", BY)
    assert (change.event.action, change.event.subject) == ("remove", "key:k")
    found = after(found, change)
    assert "k" not in found.keys
    suspended = after(found, commands.change_tenant(found, "acme", {"is_suspended": True}, BY))
    assert "acme:quiz" in refused(removals.remove_tenant, suspended, "acme", BY).message
    found = after(suspended, removals.remove_project(suspended, "acme:quiz", BY))
    found = after(found, removals.remove_tenant(found, "acme", BY))
    assert names(found) == []
    assert refused(removals.remove_tenant, found, "acme", BY).code == "not_found"


def test_an_expired_key_is_removed_without_being_revoked(acme):
    found = after(acme, commands.change_key(acme, "k", {"expires": "2020-01-01T00:00:00Z"}, BY))
    assert "k" not in after(found, removals.remove_key(found, "k", BY)).keys


def test_a_tenant_with_customers_stays(acme):
    row = {"id": "acme/bob", "residency": "premises"}
    found = after(acme, commands.create_tenant(acme, row, BY))
    found = after(found, commands.change_tenant(found, "acme", {"is_suspended": True}, BY))
    assert "acme/bob" in refused(removals.remove_tenant, found, "acme", BY).message
